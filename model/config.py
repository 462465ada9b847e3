"""A model's sizes, as FunASR's config.yaml states them. Nothing is hard-coded elsewhere."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from parastream.model.directory import CONFIG, ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.untrusted import shown

logger = logging.getLogger(__name__)

Precision = Literal["float16", "float32", "bfloat16"]
"""Types in which weights are stored and computed with."""

ROW_SECONDS = 0.06
"""Seconds that one LFR row of features covers: 6 frames of 10 ms."""


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Shape of a streaming window in LFR rows of 60 ms (FunASR's `chunk_size`).

    `[0, 10, 5]` (600 ms hop, 300 ms look-ahead) and `[0, 8, 4]` are the shapes Paraformer was trained with.
    A look-ahead of zero would make FunASR's window grow without end, so it is refused.
    """

    left: int = 0
    hop: int = 10
    look_ahead: int = 5

    def __post_init__(self) -> None:
        if self.left < 0 or self.hop < 1 or self.look_ahead < 1:
            raise ModelConfigError(
                f"chunk size [{self.left}, {self.hop}, {self.look_ahead}] cannot be used: left must be 0 or more,"
                " hop and look-ahead at least 1 (trained shapes are [0, 10, 5] and [0, 8, 4])"
            )

    @property
    def overlap(self) -> int:
        """Rows that a window shares with the one before it."""
        return self.left + self.look_ahead

    @property
    def window(self) -> int:
        """Rows of a full window."""
        return self.left + self.hop + self.look_ahead


TRAINED_CHUNKS = (ChunkSize(0, 10, 5), ChunkSize(0, 8, 4))
"""The shapes that Paraformer was trained with."""


class _FromConfig:
    """Builds a dataclass from a section of config.yaml, whose keys may be spelled FunASR's way."""

    @classmethod
    def from_dict(cls, section: Mapping[str, Any], **given: Any) -> Self:
        """Take the fields that this class has from a section; warn about unknown keys.

        Raises:
            ModelConfigError: A value has the wrong type or is out of range.
        """
        allowed = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        values: dict[str, Any] = dict(given)
        for key, value in section.items():
            name = _ALIASES.get(key, key)
            if name in allowed:
                wanted = type(allowed[name].default)
                if wanted is float and type(value) is int and abs(value) < 1 << 53:
                    value = float(value)
                if type(value) is not wanted and name not in given:
                    raise ModelConfigError(f"{key} must be {wanted.__name__}, got {shown(value)}")
                if wanted is float and not math.isfinite(value):
                    raise ModelConfigError(f"{key} must be a finite number, got {value}")
                if wanted is int and abs(value) > _LARGEST:
                    raise ModelConfigError(f"{key} must be at most {_LARGEST}, got {shown(value)}")
                values.setdefault(name, value)
            elif key not in _TRAINING_ONLY:
                logger.warning(
                    "config: %s = %s is not known to %s and is ignored", shown(key), shown(value), cls.__name__
                )
        return cls(**values)


_LARGEST = 1 << 20
"""Of all sizes; each class says how large its own may be."""
ATTENTION_FILTER_LAYER = 5
"""Layer of a bias decoder whose attention says which of many hotwords matter (FunASR `forward_asf6`)."""
_ALIASES = {"sanm_shfit": "shift", "output_size": "size", "idim": "size", "NO_BIAS": "no_bias"}
_TRAINING_ONLY = frozenset(
    {
        "dropout_rate",
        "positional_dropout_rate",
        "attention_dropout_rate",
        "self_attention_dropout_rate",
        "src_attention_dropout_rate",
        "pos_enc_class",
        "normalize_before",
        "selfattention_layer_type",
        "input_layer",
        "chunk_size",
        "stride",
        "pad_left",
        "encoder_att_look_back_factor",
        "decoder_att_look_back_factor",
        "padding_idx",
        "l_order",
        "r_order",
        "dither",
        "cmvn_file",
        "use_output_layer",
        "tf2torch_tensor_name_prefix_torch",
        "tf2torch_tensor_name_prefix_tf",
        "lora_list",
        "lora_rank",
        "lora_alpha",
        "lora_dropout",
        "concat_embeds",
        "wo_input_layer",
        "embed_tensor_name_prefix_tf",
        "dropout",
    }
)


def _positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ModelConfigError(f"{type(config).__name__}.{name} must be positive, got {getattr(config, name)}")


def _at_most(config: object, **limits: int) -> None:
    for name, most in limits.items():
        if abs(getattr(config, name)) > most:
            value = getattr(config, name)
            raise ModelConfigError(f"{type(config).__name__}.{name} must be at most {most}, got {value}")


@dataclass(frozen=True, slots=True)
class FrontendConfig(_FromConfig):
    """Kaldi fbank and low-frame-rate stacking (FunASR `WavFrontend`)."""

    fs: int = 16000
    window: str = "hamming"
    n_mels: int = 80
    frame_length: int = 25
    """Milliseconds."""
    frame_shift: int = 10
    """Milliseconds."""
    lfr_m: int = 7
    """Frames stacked in a row."""
    lfr_n: int = 6
    """Frames between two rows."""

    def __post_init__(self) -> None:
        _positive(self, "fs", "n_mels", "frame_length", "frame_shift", "lfr_m", "lfr_n")
        _at_most(self, n_mels=1000, frame_length=1000, frame_shift=1000, lfr_m=100, lfr_n=100)
        if self.window != "hamming" or self.fs != 16000:
            raise ModelConfigError(
                f"frontend with window {self.window!r} at {self.fs} Hz: only 'hamming' at 16000 Hz is supported"
            )

    @property
    def row_size(self) -> int:
        """Values in a row of features."""
        return self.n_mels * self.lfr_m


@dataclass(frozen=True, slots=True)
class EncoderConfig(_FromConfig):
    """SAN-M encoder (FunASR `SANMEncoder`, `SANMEncoderChunkOpt`)."""

    input_size: int = 560
    size: int = 256
    attention_heads: int = 4
    linear_units: int = 2048
    num_blocks: int = 6
    kernel_size: int = 11
    shift: int = 0

    def __post_init__(self) -> None:
        _positive(self, "input_size", "size", "attention_heads", "linear_units", "num_blocks", "kernel_size")
        _at_most(self, size=1 << 16, attention_heads=1000, num_blocks=1000, kernel_size=1000, shift=1000)
        if self.size % self.attention_heads:
            raise ModelConfigError(f"encoder size {self.size} is not a multiple of its {self.attention_heads} heads")


@dataclass(frozen=True, slots=True)
class DecoderConfig(_FromConfig):
    """Paraformer SAN-M decoder (FunASR `ParaformerSANMDecoder`)."""

    vocab_size: int = 8404
    size: int = 256
    attention_heads: int = 4
    linear_units: int = 2048
    num_blocks: int = 6
    att_layer_num: int = 6
    kernel_size: int = 21
    shift: int = 0

    def __post_init__(self) -> None:
        _positive(self, "vocab_size", "attention_heads", "linear_units", "num_blocks", "att_layer_num", "kernel_size")
        _at_most(self, attention_heads=1000, num_blocks=1000, kernel_size=1000, shift=1000)
        if self.att_layer_num > self.num_blocks:
            raise ModelConfigError(
                f"decoder has {self.att_layer_num} attention layers but only {self.num_blocks} blocks"
            )


@dataclass(frozen=True, slots=True)
class PredictorConfig(_FromConfig):
    """Continuous integrate-and-fire (FunASR `CifPredictorV2`, `CifPredictorV3`; Dong & Xu, 2020)."""

    size: int = 256
    threshold: float = 1.0
    tail_threshold: float = 0.45
    smooth_factor: float = 1.0
    noise_threshold: float = 0.0
    timestamps: bool = False
    """Whether it is a `CifPredictorV3`: a second head says when tokens were spoken. The rest describes that head."""
    smooth_factor2: float = 1.0
    noise_threshold2: float = 0.0
    upsample_times: int = 5
    """Its weights for each row."""
    upsample_type: str = "cnn"
    use_cif1_cnn: bool = True

    def __post_init__(self) -> None:
        if self.threshold != 1.0:
            raise ModelConfigError(f"predictor threshold must be 1.0 as in FunASR, got {self.threshold}")
        _positive(self, "upsample_times")
        _at_most(self, upsample_times=100)
        if self.timestamps and (self.upsample_type != "cnn_blstm" or self.use_cif1_cnn):
            raise ModelConfigError(
                f"predictor with upsample_type {shown(self.upsample_type)} and use_cif1_cnn {self.use_cif1_cnn}: only"
                " 'cnn_blstm' and False are supported"
            )


@dataclass(frozen=True, slots=True)
class SeacoConfig(_FromConfig):
    """What a model needs that listens for hotwords by itself (FunASR `SeacoParaformer`; Shi et al., 2023)."""

    decoder: DecoderConfig
    """The bias decoder: from tokens to hotwords."""
    size: int
    """Of the bias encoder's states, and of everything else."""
    inner_dim: int = 256
    bias_encoder_type: str = "lstm"
    bias_encoder_bid: bool = False
    no_bias: int = 8377
    """The token by which the bias decoder says that there is no hotword."""

    def __post_init__(self) -> None:
        if self.bias_encoder_type != "lstm" or self.bias_encoder_bid:
            raise ModelConfigError(
                f"bias_encoder_type {shown(self.bias_encoder_type)} and bias_encoder_bid {self.bias_encoder_bid}: only"
                " 'lstm' and False are supported"
            )
        if self.inner_dim != self.size:
            raise ModelConfigError(f"inner_dim {self.inner_dim} differs from encoder size {self.size}")
        if not 0 <= self.no_bias < self.decoder.vocab_size:
            raise ModelConfigError(f"NO_BIAS is {self.no_bias}, which is none of {self.decoder.vocab_size} tokens")
        layers, blocks, shift = self.decoder.att_layer_num, self.decoder.num_blocks, self.decoder.shift
        if not ATTENTION_FILTER_LAYER < layers == blocks or shift:
            raise ModelConfigError(
                f"seaco_decoder with {layers} attention layers in {blocks} blocks and sanm_shfit {shift}: it must have"
                f" at least {ATTENTION_FILTER_LAYER + 1}, no other blocks, and 0"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, vocab_size: int, size: int) -> SeacoConfig:
        """Take the sizes from a parsed config.yaml.

        Raises:
            ModelConfigError: A value cannot be used.
        """
        if config.get("seaco_decoder") != "ParaformerSANMDecoder":
            raise ModelConfigError(
                f"seaco_decoder is {shown(config.get('seaco_decoder'))}; supported is ParaformerSANMDecoder"
            )
        described = dict(section(config, "seaco_decoder_conf"))
        layers, blocks = described.get("att_layer_num", 6), described.get("num_blocks", 6)
        # Published configurations name fewer blocks than there are, and FunASR pays no heed.
        if type(blocks) is int and type(layers) is int and blocks < layers:
            described["num_blocks"] = layers
        decoder = DecoderConfig.from_dict(described, vocab_size=vocab_size, size=size)
        known = {"inner_dim", "bias_encoder_type", "bias_encoder_bid", "NO_BIAS"}
        both = {**section(config, "model_conf"), **config}
        return cls.from_dict({key: both[key] for key in known & set(both)}, decoder=decoder, size=size)


_STREAMING_MODELS = ("ParaformerStreaming",)
SEACO = "SeacoParaformer"
"""FunASR's class of the models that listen for hotwords by themselves."""
_FULL_CONTEXT_MODELS = ("Paraformer", SEACO, "BiCifParaformer")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A whole speech model."""

    model: str
    """FunASR's class name, such as `ParaformerStreaming`."""
    frontend: FrontendConfig
    encoder: EncoderConfig
    decoder: DecoderConfig
    predictor: PredictorConfig
    chunk: ChunkSize = field(default_factory=ChunkSize)
    encoder_look_back: int = 4
    """Hops of keys and values that the encoder remembers; -1 keeps all, 0 none."""
    decoder_look_back: int = 1
    """Hops of cross-attention keys that the decoder remembers; 0 or less keeps none."""
    seaco: SeacoConfig | None = None
    """How it listens for hotwords in whole utterances; None if it does not."""

    @property
    def least_weights(self) -> int:
        """How many numbers the weights are at least: those of the linear layers and embeddings."""
        encoder, decoder = self.encoder, self.decoder
        attention = 4 * encoder.size**2 + encoder.size * encoder.kernel_size
        blocks = encoder.num_blocks * (attention + 2 * encoder.size * encoder.linear_units)
        blocks += decoder.num_blocks * 2 * encoder.size * decoder.linear_units
        tables = 2 * decoder.vocab_size * encoder.size
        if self.seaco is not None:
            blocks += self.seaco.decoder.num_blocks * 2 * encoder.size * self.seaco.decoder.linear_units
            tables += decoder.vocab_size * encoder.size
        return blocks - encoder.size**2 + tables

    @property
    def streams(self) -> bool:
        """Whether the model was trained for streaming windows."""
        return self.model in _STREAMING_MODELS

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], *, vocab_size: int) -> ModelConfig:
        """Take the sizes from FunASR's config.yaml, already parsed.

        Raises:
            ModelConfigError: The model is of another kind, or a value cannot be used.
        """
        name = config.get("model")
        if not isinstance(name, str) or name not in _STREAMING_MODELS + _FULL_CONTEXT_MODELS:
            allowed = ", ".join(_STREAMING_MODELS + _FULL_CONTEXT_MODELS)
            raise ModelConfigError(f"model is {shown(name)}; supported are {allowed}")
        frontend = FrontendConfig.from_dict(section(config, "frontend_conf"))
        encoder = EncoderConfig.from_dict(section(config, "encoder_conf"), input_size=frontend.row_size)
        decoder = DecoderConfig.from_dict(section(config, "decoder_conf"), vocab_size=vocab_size, size=encoder.size)
        timestamps = config.get("predictor") == "CifPredictorV3"
        predictor = PredictorConfig.from_dict(section(config, "predictor_conf"), timestamps=timestamps)
        if predictor.size != encoder.size:
            raise ModelConfigError(f"predictor size {predictor.size} differs from encoder size {encoder.size}")
        if config.get("input_size", frontend.row_size) != frontend.row_size:
            raise ModelConfigError(
                f"input_size {shown(config['input_size'])} differs from n_mels x lfr_m = {frontend.row_size}"
            )
        seaco = None
        if name == SEACO:
            seaco = SeacoConfig.from_config(config, vocab_size=vocab_size, size=encoder.size)
        return cls(str(name), frontend, encoder, decoder, predictor, seaco=seaco)

    @classmethod
    def from_directory(cls, directory: ModelDirectory) -> ModelConfig:
        """Take the model's sizes from `config.yaml` and the length of the token list.

        Raises:
            ModelConfigError: One of the files is missing or cannot be used; the message names it.
        """
        config, vocab_size = directory.config, len(directory.tokens)
        try:
            return cls.from_dict(config, vocab_size=vocab_size)
        except ModelConfigError as error:
            raise ModelConfigError(f"{directory.path / CONFIG}: {error}") from None


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a parsed config.yaml; an empty one where it is missing.

    Raises:
        ModelConfigError: It is no mapping.
    """
    found = config.get(name) or {}
    if not isinstance(found, Mapping):
        raise ModelConfigError(f"{name} must be a mapping, not {type(found).__name__}")
    return found


def is_seaco(directory: ModelDirectory) -> bool:
    """Say whether a FunASR directory holds a model that listens for hotwords by itself.

    Raises:
        ModelConfigError: Its `config.yaml` is damaged.
    """
    return directory.has(CONFIG) and directory.config.get("model") == SEACO
