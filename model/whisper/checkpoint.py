"""Weights of a Whisper directory, read strictly into the network.

Known forms: Hugging Face's (`openai/whisper-*`: `model.safetensors`), mlx-community's (`weights.npz` or
`weights.safetensors` under OpenAI's names, quantised or not), and our own, which is Hugging Face's with quantised
layers, described as mlx-lm does (see `parastream.model.quantization`). The output layer is the table of tokens.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.checkpoint import differences, listed, refuse_to_overwrite, write_directory
from parastream.model.config import Precision
from parastream.model.dense import Dense
from parastream.model.errors import CheckpointError
from parastream.model.quantization import KEY, Quantization
from parastream.model.whisper import vocabulary
from parastream.model.whisper.config import AUDIO_CONTEXT, WhisperConfig
from parastream.model.whisper.files import CONFIG, SILENCE, VOCABULARY, WEIGHTS
from parastream.model.whisper.network import Whisper

_PREFIX = "model."
_OPENAI = (
    (".layers.", ".blocks."),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("encoder_attn", "cross_attn"),
    ("self_attn_layer_norm", "attn_ln"),
    ("self_attn", "attn"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("embed_tokens", "token_embedding"),
    ("embed_positions.weight", "positional_embedding"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp1"),
    ("fc2", "mlp2"),
)
"""Parts of Hugging Face's names, and what they are in mlx_whisper, which has OpenAI's names but for `mlp1`, `mlp2`."""
_ENCODER_POSITIONS = "encoder.embed_positions.weight"
"""Sinusoids, which are computed where a file does not have them."""
_ALIGNMENT_HEADS = "alignment_heads"
_OUTPUT = "proj_out.weight"
"""A copy of the tokens' table that some files of Hugging Face's have."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """A linear layer of the network, and the layers of a file that it is joined of."""

    target: str
    sources: tuple[str, ...]
    outputs: int
    """Of each source."""
    inputs: int
    biases: tuple[str, ...] = ()
    """Sources that have one; the biases of the others are zero, unless none has one."""


def _linears(config: WhisperConfig) -> Iterator[_Linear]:
    size, hidden = config.size, config.hidden

    def attention(side: str, layer: int, name: str, target: str, parts: str) -> _Linear:
        sources = tuple(f"{side}.layers.{layer}.{name}.{part}_proj" for part in parts)
        biased = tuple(source for source in sources if not source.endswith("k_proj"))
        return _Linear(f"{side}.layers.{layer}.{target}", sources, size, size, biased)

    def linear(source: str, target: str, outputs: int, inputs: int) -> _Linear:
        return _Linear(target, (source,), outputs, inputs, (source,))

    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for i in range(layers):
            layer = f"{side}.layers.{i}"
            yield attention(side, i, "self_attn", "qkv", "qkv")
            yield linear(f"{layer}.self_attn.out_proj", f"{layer}.out", size, size)
            if side == "decoder":
                yield attention(side, i, "encoder_attn", "cross_q", "q")
                yield attention(side, i, "encoder_attn", "cross_kv", "kv")
                yield linear(f"{layer}.encoder_attn.out_proj", f"{layer}.cross_out", size, size)
            yield linear(f"{layer}.fc1", f"{layer}.feed_forward.fc1", hidden, size)
            yield linear(f"{layer}.fc2", f"{layer}.feed_forward.fc2", size, hidden)
    yield _Linear("decoder.embed_tokens", ("decoder.embed_tokens",), config.vocabulary, size)


def _norms(config: WhisperConfig) -> Iterator[str]:
    """Name the layer norms, whose names are the network's own."""
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        names = ["self_attn_layer_norm", "final_layer_norm"] + ["encoder_attn_layer_norm"] * (side == "decoder")
        yield from (f"{side}.layers.{i}.{name}" for i in range(layers) for name in names)
        yield f"{side}.layer_norm"


class _File:
    """The weights of a file, under Hugging Face's names without their prefix."""

    def __init__(self, path: Path, arrays: dict[str, mx.array]) -> None:
        self.path = path
        self.arrays = arrays
        self.openai = any(name.startswith(("encoder.blocks.", "decoder.blocks.")) for name in arrays)

    def name(self, name: str) -> str:
        """Return the file's own name."""
        if not self.openai:
            return _PREFIX + name
        for old, new in _OPENAI:
            name = name.replace(old, new)
        return name

    def __contains__(self, name: str) -> bool:
        return self.name(name) in self.arrays

    def __getitem__(self, name: str) -> mx.array:
        return self.arrays[self.name(name)]

    def take(self, name: str) -> mx.array:
        """Return an array and let go of it."""
        return self.arrays.pop(self.name(name))

    def shape_of_convolution(self, outputs: int, inputs: int) -> tuple[int, ...]:
        """MLX has the kernel before the inputs, torch behind."""
        return (outputs, 3, inputs) if self.openai else (outputs, inputs, 3)

    def take_convolution(self, name: str) -> mx.array:
        """Return a convolution's weights as those of a linear layer over three neighbours: (outputs, 3 inputs)."""
        weight = self.take(name) if self.openai else self.take(name).swapaxes(1, 2)
        return weight.reshape(len(weight), -1)


def weights_file(directory: Path) -> Path:
    """Return the file that holds the weights.

    Raises:
        CheckpointError: There is none.
    """
    for name in WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    raise CheckpointError(f"{directory} has no weights: looked for {', '.join(WEIGHTS)}")


def load_network(directory: Path, dtype: mx.Dtype = mx.float32) -> Whisper:
    """Load a directory's network, with all of its weights and no others; quantised ones stay as they are.

    Raises:
        ModelConfigError: `config.json` is missing or cannot be used.
        CheckpointError: The weights are missing or damaged, their names or shapes are not those of `config.json`, or
            values are not finite.
    """
    config, file = _read(directory)
    return _network(file, config, dtype)


def _network(file: _File, config: WhisperConfig, dtype: mx.Dtype) -> Whisper:
    """Make a network of a file's weights, which the file lets go of."""
    quantized = _checked(file, config)
    network = Whisper(config)
    layers = dict(cast("list[tuple[str, Dense]]", network.named_modules()))
    loaded: list[tuple[str, mx.array]] = []

    def put(name: str, value: mx.array) -> None:
        value = value if value.dtype == mx.uint32 else value.astype(dtype)
        mx.eval(value)
        loaded.append((name, value))

    for linear in _linears(config):
        parts = ["weight"]
        if linear.target in quantized:
            assert config.quantization is not None
            layers[linear.target].quantized(config.quantization)
            parts += ["scales", "biases"]
        for part in parts:
            put(f"{linear.target}.{part}", mx.concatenate([file.take(f"{source}.{part}") for source in linear.sources]))
        if linear.biases:
            zero = mx.zeros((linear.outputs,))
            biases = [file.take(f"{s}.bias") if s in linear.biases else zero for s in linear.sources]
            put(f"{linear.target}.bias", mx.concatenate(biases))
    for norm in _norms(config):
        put(f"{norm}.weight", file.take(f"{norm}.weight"))
        put(f"{norm}.bias", file.take(f"{norm}.bias"))
    for name in ("conv1", "conv2"):
        put(f"encoder.{name}.weight", file.take_convolution(f"encoder.{name}.weight"))
        put(f"encoder.{name}.bias", file.take(f"encoder.{name}.bias"))
    stored = _ENCODER_POSITIONS in file
    put("encoder.embed_positions", file.take(_ENCODER_POSITIONS) if stored else _sinusoids(config.size))
    put("decoder.embed_positions", file.take("decoder.embed_positions.weight"))
    network.load_weights(loaded)
    return network


def quantize(source: Path, destination: Path, quantization: Quantization, dtype: Precision = "float16") -> None:
    """Make a model directory whose linear layers and table of tokens are quantised.

    Args:
        source: A directory of any known form, not quantised yet.
        destination: A directory to make; it may exist if it is empty. It appears only when complete.
        quantization: Bits and size of the groups.
        dtype: Precision of scales and biases, and of the weights that are not quantised.

    Raises:
        ModelConfigError: The source's configuration or vocabulary cannot be used.
        CheckpointError: The source's weights cannot be used or are quantised already, or the destination is not empty
            or cannot be written.
    """
    refuse_to_overwrite(destination)
    config, file = _read(source)
    if config.quantization:
        raise CheckpointError(
            f"{source} is quantised already ({config.quantization}): name the model that it was made from"
        )
    _checked(file, config)
    tokens = vocabulary.read(source, config.vocabulary)
    fitting = (linear for linear in _linears(config) if quantization.fits(linear.inputs))
    matrices = {f"{name}.weight" for linear in fitting for name in linear.sources}
    if not matrices:
        raise CheckpointError(
            f"{source} cannot be quantised: no layer has inputs in groups of {quantization.group_size}"
        )
    weights: dict[str, mx.array] = {}
    for name in _expected(file, config, frozenset()):
        if name == _ENCODER_POSITIONS:
            continue
        value = file[name].astype(getattr(mx, dtype))
        if name in matrices:
            stem = name.removesuffix("weight")
            weights |= {f"{_PREFIX}{stem}{part}": v for part, v in quantization.quantize(value).items()}
        else:
            torch = file.openai and ".conv" in name and value.ndim == 3
            weights[_PREFIX + name] = value.swapaxes(1, 2) if torch else value
    mx.eval(weights)
    network = _network(_File(destination, dict(weights)), replace(config, quantization=quantization), mx.float32)
    network.pack()
    silence = io.BytesIO()
    np.save(silence, np.array(network.encoder.encode_silence()).astype(np.float16))
    described = {**config.described(), KEY: quantization.described()}
    files = {
        CONFIG: f"{json.dumps(described)}\n".encode(),
        VOCABULARY: vocabulary.written(tokens),
        SILENCE: silence.getvalue(),
    }
    write_directory(destination, weights, files, {"format": "mlx"})


def read_silence(directory: Path, config: WhisperConfig) -> NDArray[np.floating] | None:
    """Read what the encoder makes of 30 s of silence, (1500, size), from a directory of our own form; else None.

    Raises:
        CheckpointError: The file is damaged or does not fit the configuration.
    """
    path = directory / SILENCE
    if not path.is_file():
        return None
    try:
        silence: NDArray[np.floating] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if silence.shape != (AUDIO_CONTEXT, config.size) or not np.isfinite(silence).all():
        raise CheckpointError(f"{path} must hold finite numbers of shape {(AUDIO_CONTEXT, config.size)}")
    return silence


def _read(directory: Path) -> tuple[WhisperConfig, _File]:
    """Read a directory's sizes and weights, which are read lazily."""
    config, path = WhisperConfig.from_directory(directory), weights_file(directory)
    try:
        file = _File(path, cast("dict[str, mx.array]", mx.load(str(path))))
        heads = file.arrays.pop(_ALIGNMENT_HEADS, None)
        if heads is not None and not config.alignment_heads:
            pairs = np.array(heads).astype(int).reshape(-1, 2).tolist()
            config = replace(config, alignment_heads=tuple((layer, head) for layer, head in pairs))
        output = file.arrays.get(_OUTPUT)
        table = file.arrays.get(file.name("decoder.embed_tokens.weight"))
        if output is not None and table is not None and output.shape == table.shape and mx.array_equal(output, table):
            del file.arrays[_OUTPUT]
    except (RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return config, file


def _expected(file: _File, config: WhisperConfig, quantized: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that a file has to have."""
    size = config.size
    shapes: dict[str, tuple[int, ...]] = {}
    for linear in _linears(config):
        for source in linear.sources:
            parts: Mapping[str, tuple[int, ...]] = {"weight": (linear.outputs, linear.inputs)}
            if linear.target in quantized:
                assert config.quantization is not None
                parts = config.quantization.shapes(linear.outputs, linear.inputs)
            shapes |= {f"{source}.{part}": shape for part, shape in parts.items()}
            if source in linear.biases:
                shapes[f"{source}.bias"] = (linear.outputs,)
    for norm in _norms(config):
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (size,)
    for name, inputs in (("conv1", config.mels), ("conv2", size)):
        shapes[f"encoder.{name}.weight"] = file.shape_of_convolution(size, inputs)
        shapes[f"encoder.{name}.bias"] = (size,)
    if _ENCODER_POSITIONS in file:
        shapes[_ENCODER_POSITIONS] = (AUDIO_CONTEXT, size)
    shapes["decoder.embed_positions.weight"] = (config.text_context, size)
    return shapes


def _checked(file: _File, config: WhisperConfig) -> frozenset[str]:
    """Compare a file with what `config.json` says; return the layers that are quantised.

    Raises:
        CheckpointError: They differ, or values are not finite.
    """
    quantization = config.quantization
    quantized = frozenset(
        linear.target
        for linear in _linears(config)
        if quantization is not None and quantization.fits(linear.inputs) and f"{linear.sources[0]}.scales" in file
    )
    expected = {file.name(name): shape for name, shape in _expected(file, config, quantized).items()}
    names = (name for linear in _linears(config) if linear.target in quantized for name in linear.sources)
    packed = {file.name(f"{name}.weight") for name in names}
    arrays = file.arrays
    problems = differences(expected, {name: array.shape for name, array in arrays.items()})
    problems += listed((n for n in sorted(packed & set(arrays)) if arrays[n].dtype != mx.uint32), "not packed integers")
    try:
        infinite = [name for name, array in arrays.items() if not mx.isfinite(array).all().item()]
        problems += listed(infinite, "with NaN or infinity")
    except (RuntimeError, ValueError) as error:  # the file is read only now
        raise CheckpointError(f"{file.path} is damaged: {error}") from None
    if problems:
        raise CheckpointError(f"{file.path} does not fit its {CONFIG}: {'; '.join(problems)}")
    return quantized


def _sinusoids(size: int) -> mx.array:
    """Positions of the encoder, (1500, size): sines before cosines, counted from 0."""
    half = size // 2
    angles = np.arange(AUDIO_CONTEXT)[:, None] * np.exp(-np.log(10000) / (half - 1) * np.arange(half))
    return mx.array(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))
