"""Sizes of a Whisper model, under Hugging Face's or OpenAI's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parastream.model import untrusted
from parastream.model.calibration import KEY as CALIBRATION
from parastream.model.calibration import Calibration
from parastream.model.computing import INT8_KEY
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.quantization import Quantization
from parastream.model.whisper.files import CONFIG, GENERATION_CONFIG

AUDIO_CONTEXT = 1500
"""Encoder frames of 20 ms that the model was trained with: 30 seconds."""

_FIELDS = {
    "mels": ("num_mel_bins", "n_mels"),
    "vocabulary": ("vocab_size", "n_vocab"),
    "size": ("d_model", "n_audio_state"),
    "heads": ("encoder_attention_heads", "n_audio_head"),
    "encoder_layers": ("encoder_layers", "n_audio_layer"),
    "decoder_layers": ("decoder_layers", "n_text_layer"),
    "text_context": ("max_target_positions", "n_text_ctx"),
}
"""Our name of each size, and its names in `config.json`."""
_LARGEST = {
    "mels": 1000,
    "vocabulary": 1 << 20,
    "size": 1 << 16,
    "heads": 1000,
    "encoder_layers": 1000,
    "decoder_layers": 1000,
    "text_context": 1 << 16,
}
"""Beyond the largest models by far, and still no danger to the memory before the weights have been looked at."""

_FIXED: dict[tuple[str, ...], Callable[[WhisperConfig], int]] = {
    ("max_source_positions", "n_audio_ctx"): lambda config: AUDIO_CONTEXT,
    ("decoder_attention_heads", "n_text_head"): lambda config: config.heads,
    ("encoder_ffn_dim",): lambda config: config.hidden,
    ("decoder_ffn_dim",): lambda config: config.hidden,
    ("n_text_state",): lambda config: config.size,
}
"""What the network takes for granted."""
_OPENAI_ONLY = ("n_text_state",)


@dataclass(frozen=True, slots=True)
class WhisperConfig:
    """Sizes of a Whisper model. Everything else is the same in all of them."""

    mels: int
    """Bins of the log-mel features: 80, or 128 from large-v3 on."""
    vocabulary: int
    """Tokens, special ones included."""
    size: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    text_context: int = 448
    """Positions of the decoder."""
    alignment_heads: tuple[tuple[int, int], ...] = ()
    """Decoder layer and head of those whose cross-attention follows time; all of the upper half if none are given."""
    quantization: Quantization | None = None
    measured_in_bytes: bool = False
    """Whether its card says how much its results differ when products are computed in 8 bits."""
    calibration: Calibration = Calibration()

    def __post_init__(self) -> None:
        for name in _FIELDS:
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name} must be positive, got {getattr(self, name)}")
            if getattr(self, name) > _LARGEST[name]:
                raise ModelConfigError(f"{name} must be at most {_LARGEST[name]}")
        if self.size % self.heads:
            raise ModelConfigError(f"size {self.size} is not a multiple of its {self.heads} heads")
        for layer, head in self.alignment_heads:
            if not (0 <= layer < self.decoder_layers and 0 <= head < self.heads):
                raise ModelConfigError(
                    f"alignment_heads names head {head} of layer {layer}; there are {self.heads} in each of"
                    f" {self.decoder_layers} layers"
                )

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layers."""
        return 4 * self.size

    @property
    def aligned(self) -> tuple[tuple[int, int], ...]:
        """The heads that times of words are taken from."""
        upper = range(self.decoder_layers // 2, self.decoder_layers)
        return self.alignment_heads or tuple((layer, head) for layer in upper for head in range(self.heads))

    def described(self) -> dict[str, Any]:
        """Return what to write to `config.json`, without the quantization."""
        return {
            "model_type": "whisper",
            **{keys[0]: getattr(self, name) for name, keys in _FIELDS.items()},
            **{keys[0]: expected(self) for keys, expected in _FIXED.items() if keys[0] not in _OPENAI_ONLY},
            "alignment_heads": self.aligned,
            CALIBRATION: {"full": asdict(self.calibration)},
        }

    @classmethod
    def from_directory(cls, directory: Path) -> WhisperConfig:
        """Read `config.json`, and `generation_config.json` where there is one.

        Raises:
            ModelConfigError: A file is missing or damaged, or the model is of another kind; the message says which.
        """
        config = read_json(directory / CONFIG)
        generation = read_json(directory / GENERATION_CONFIG) if (directory / GENERATION_CONFIG).is_file() else {}
        try:
            return cls.from_dict({**generation, **config})
        except ModelConfigError as error:
            raise ModelConfigError(f"{directory / CONFIG}: {error}") from None

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> WhisperConfig:
        """Take the sizes from a parsed `config.json`.

        Raises:
            ModelConfigError: A size is missing or cannot be used, or the model is of another kind.
        """
        if config.get("model_type", "whisper") != "whisper":
            raise ModelConfigError(f"model_type is {untrusted.shown(config['model_type'])}, not 'whisper'")
        sizes = {name: _size(config, keys) for name, keys in _FIELDS.items()}
        found = cls(
            **sizes,
            alignment_heads=_heads(config),
            quantization=Quantization.of(config),
            measured_in_bytes=INT8_KEY in config,
            calibration=Calibration.of(config),
        )
        for keys, expected in _FIXED.items():
            for key in keys:
                if key in config and config[key] != expected(found):
                    raise ModelConfigError(
                        f"{key} is {untrusted.shown(config[key])}; only {expected(found)} is supported here"
                    )
        return found


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ModelConfigError: It is missing or damaged.
    """
    try:
        content = untrusted.read_json(ModelDirectory(path.parent).content(path.name))
    except untrusted.UnusableError as error:
        raise ModelConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ModelConfigError(f"{path}: must hold an object, not {type(content).__name__}")
    return content


def _size(config: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        if key in config:
            if type(config[key]) is not int:
                raise ModelConfigError(f"{key} must be an integer, got {untrusted.shown(config[key])}")
            return int(config[key])
    raise ModelConfigError(f"has neither {' nor '.join(keys)}")


def _heads(config: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    pairs = config.get("alignment_heads") or []
    try:
        return tuple((int(layer), int(head)) for layer, head in pairs)
    except (TypeError, ValueError):
        raise ModelConfigError(f"alignment_heads must be a list of [layer, head], got {pairs!r}") from None
