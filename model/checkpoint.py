"""Weights of a speech model: FunASR's `model.pt` or our `model.safetensors`, read strictly into a network.

`sanitize` is the only place that knows FunASR's names and layouts. The linear layers of a model may be quantised, see
`quantization`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model import torch_zip
from parastream.model.computing import INT8_KEY, Computing
from parastream.model.config import ModelConfig, Precision, is_seaco
from parastream.model.dense import Dense
from parastream.model.directory import (
    BPE_CODES,
    CMVN,
    CONFIG,
    CONFIGURATION,
    SAFETENSORS,
    SEG_DICT,
    TOKENS,
    ModelDirectory,
)
from parastream.model.errors import CheckpointError
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.paraformer import GraphParaformer
from parastream.model.network import Network
from parastream.model.paraformer import Paraformer
from parastream.model.quantization import KEY, Quantization
from parastream.model.sensevoice.config import SenseVoiceConfig, is_sensevoice
from parastream.model.sensevoice.network import SenseVoice
from parastream.model.sensevoice.vocabulary import Vocabulary

_FORMAT = {"format": "parastream"}
"""Metadata that marks a safetensors file with our names and layouts."""

_RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"encoder\.encoders0\.0\.", lambda match: "encoder.layers.0."),
        (r"encoder\.encoders\.(\d+)\.", lambda match: f"encoder.layers.{int(match[1]) + 1}."),
        (r"encoder\.tp_encoders\.(\d+)\.", lambda match: f"encoder.tp_layers.{match[1]}."),
        (r"ctc\.ctc_lo\.", lambda match: "ctc."),
        (r"embed\.weight$", lambda match: "prompts"),
        (r"decoder\.decoders\.(\d+)\.", lambda match: f"decoder.layers.{match[1]}."),
        (r"decoder\.decoders2\.(\d+)\.", lambda match: f"decoder.fsmn_layers.{match[1]}."),
        (r"decoder\.decoders3\.0\.", lambda match: "decoder.last."),
        (r"decoder\.embed\.0\.weight$", lambda match: "seaco.embed"),
        (r"bias_encoder\.", lambda match: "seaco.encoder."),
        (r"seaco_decoder\.decoders\.(\d+)\.", lambda match: f"seaco.decoder.layers.{match[1]}."),
        (r"seaco_decoder\.decoders3\.0\.", lambda match: "seaco.decoder.last."),
        (r"seaco_decoder\.", lambda match: "seaco.decoder."),
        (r"hotword_output_layer\.", lambda match: "seaco.output_layer."),
    )
)
_CONVOLUTIONS = re.compile(r".*\.fsmn_block\.weight|predictor\.(cif_conv1d|upsample_cnn)\.weight")
_TRANSPOSED = re.compile(r"predictor\.upsample_cnn\.weight")
"""Those whose weights have inputs before outputs."""
_FLOAT32 = re.compile(r"predictor\.|prompts|seaco\.encoder\.")
"""Weights that are float32 in every network: they are few, and small errors in them move tokens."""
_TRAINING_ONLY = re.compile(r"criterion|.*\.num_batches_tracked$")
Used = Literal["ctc", "embedding"]
_ONLY_SOME_USE: dict[Used, re.Pattern[str]] = {
    "ctc": re.compile(r"ctc\."),
    "embedding": re.compile(r"decoder\.embed\."),
}
"""What SenseVoice hears with, and SeACo reads hotwords with; other models were only trained with these."""

_Array = TypeVar("_Array", NDArray[Any], mx.array, NDArray[Any] | mx.array)
_Stored = NDArray[Any] | mx.array
"""An array in a file: mapped, or one of MLX's that is read when it is evaluated."""

_MOST_NAMED = 10
"""Most names of each kind that an error lists."""


def read_weights(directory: ModelDirectory) -> dict[str, NDArray[Any]]:
    """Read a model directory's weights, with the names and layouts of our network.

    The file is the one that `configuration.json` names (`file_path_metas`, `init_param`), else `model.safetensors` or
    `model.pt`. Arrays keep the file's precision, except that bfloat16 becomes float32; they may be read-only views of
    the file.

    Raises:
        ModelConfigError: `config.yaml` is damaged.
        CheckpointError: There is no such file, or it is damaged or refused (see `torch_zip.read`).
    """
    path = directory.weights_file
    arrays = _open_weights(directory)
    return {name: _read(arrays.pop(name), path) for name in list(arrays)}


def _open_weights(directory: ModelDirectory) -> dict[str, _Stored]:
    """Do the same as `read_weights`, but leave the arrays where they are until `_read` is called."""
    path = directory.weights_file
    used = _used(directory)
    if path.suffix != ".safetensors":
        return {**sanitize(torch_zip.read(path), used)}
    try:
        loaded, metadata = cast(tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    arrays = dict(sorted(loaded.items()))
    return {**(arrays if metadata.get("format") == _FORMAT["format"] else sanitize(arrays, used))}


def _used(directory: ModelDirectory) -> frozenset[Used]:
    """Return which weights a model uses that others do not."""
    found: dict[Used, bool] = {"ctc": is_sensevoice(directory), "embedding": is_seaco(directory)}
    return frozenset(name for name, used in found.items() if used)


def _read(array: _Stored, path: Path) -> NDArray[Any]:
    if isinstance(array, np.ndarray):
        torch_zip.forget(array)  # the arrays before it, that is
        return array
    try:
        return np.asarray(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def sanitize(weights: Mapping[str, _Array], used: Container[Used] = ()) -> dict[str, _Array]:
    """Convert FunASR's names and layouts to ours.

    Convolution weights go from (out, in, kernel) to (out, kernel, in). Weights that inference does not need are
    dropped. Unknown names stay, for the strict load to report.

    Args:
        weights: By FunASR's names.
        used: Which weights the network has that others have for training only.

    Raises:
        CheckpointError: Two names become the same.
    """
    unused = [pattern for name, pattern in _ONLY_SOME_USE.items() if name not in used]
    result: dict[str, _Array] = {}
    for name, array in weights.items():
        if _TRAINING_ONLY.match(name) or any(pattern.match(name) for pattern in unused):
            continue
        new_name = name
        for pattern, rename in _RENAMED:
            new_name = pattern.sub(rename, new_name, count=1) if pattern.match(name) else new_name
        if new_name in result:
            raise CheckpointError(f"{name} is there twice: another weight has its place as {new_name}")
        if _CONVOLUTIONS.fullmatch(new_name) and array.ndim == 3:
            array = array.swapaxes(0, 1) if _TRANSPOSED.fullmatch(new_name) else array
            array = array.swapaxes(1, 2)
        result[new_name] = array
    return result


def check_size(config: ModelConfig | SenseVoiceConfig, directory: ModelDirectory) -> None:
    """Compare the size of a network with that of its weights, before anybody builds a network without end.

    Raises:
        CheckpointError: The file cannot hold so many numbers, even in 4 bits each.
    """
    path = directory.weights_file
    size = path.stat().st_size
    if config.least_weights > 2 * size:
        raise CheckpointError(f"{path} has {size} bytes, too few for the {config.least_weights} weights of {CONFIG}")


class Weights:
    """A model directory's weights, which fit a network; each is handed out once, and then forgotten."""

    def __init__(self, network: nn.Module, directory: ModelDirectory) -> None:
        """Read the weights and compare them with those that a network has.

        Raises:
            CheckpointError: As for `read_weights`; or names or shapes differ from the network's, or values are not
                finite.
        """
        self._path = directory.weights_file
        expected = {name: value.shape for name, value in _parameters(network).items()}
        self.quantization = Quantization.of(directory.configuration)
        self.quantized: dict[str, Dense] = {}
        """Layers whose weights are quantised, by name."""
        if self.quantization is not None:
            self.quantized = _quantizable(network, self.quantization)
            for name, layer in self.quantized.items():
                shapes = self.quantization.shapes(*layer.weight.shape)
                expected |= {f"{name}.{part}": shape for part, shape in shapes.items()}
        self.packed = {f"{name}.weight" for name in self.quantized}
        """Names of weights that are packed integers."""
        self.names = list(expected)
        values = _open_weights(directory)
        problems = differences(expected, {name: tuple(array.shape) for name, array in values.items()})
        problems += listed(
            (n for n in self.packed & set(values) if values[n].dtype not in (np.uint32, mx.uint32)),
            "not packed integers",
        )
        # Each is let go of once it has been looked at: a network in 8 bits takes a quarter of all of them.
        finite = {name: _is_finite(_read(values.pop(name), self._path)) for name in list(values)}
        problems += listed((name for name in finite if not finite[name]), "with NaN or infinity")
        if problems:
            raise CheckpointError(f"{self._path} does not fit the network of its config.yaml: {'; '.join(problems)}")
        self._values = _open_weights(directory)

    def stored(self, name: str) -> NDArray[Any]:
        """Hand out an array as it is stored."""
        return _read(self._values.pop(name), self._path)

    def take(self, name: str) -> NDArray[np.float32]:
        """Hand out a weight of the network in float32; a quantised one is unpacked."""
        if name not in self.packed:
            return np.asarray(self.stored(name), np.float32)
        assert self.quantization is not None
        layer = name.removesuffix(".weight")
        parts = [mx.array(self.stored(f"{layer}.{part}")) for part in ("weight", "scales", "biases")]
        return np.asarray(self.quantization.dequantize(*parts))


def load_weights(network: nn.Module, directory: ModelDirectory, dtype: mx.Dtype = mx.float32) -> None:
    """Load a model directory's weights into a network, all of them and no others.

    They are evaluated one by one, on the calling thread. Quantised weights keep their type; the predictor's become
    float32, all others `dtype`.

    Raises:
        CheckpointError: As for `Weights`.
    """
    weights = Weights(network, directory)
    for layer in weights.quantized.values():
        layer.quantized(cast(Quantization, weights.quantization))
    network.load_weights(
        [
            (name, _to_mlx(weights.stored(name), mx.uint32 if name in weights.packed else _kind(name, dtype)))
            for name in weights.names
        ]
    )


def load_network(config: ModelConfig, directory: ModelDirectory, computing: Computing) -> Network:
    """Load a model directory's Paraformer, ready to be used.

    Raises:
        ModelConfigError: This onnxruntime cannot compute the network.
        CheckpointError: As for `Weights`, or the file cannot hold so many.
    """
    check_size(config, directory)
    network = Paraformer(config)
    if computing.compute == "graphs":
        # Layer by layer, so that little more than the graphs is in memory at any time. Of MLX's network, whose weights
        # nobody computes, only their names and shapes matter.
        arithmetic: Arithmetic = "int8" if computing.dtype == "int8" else "float32"
        return GraphParaformer(config, Weights(network, directory).take, arithmetic, network.size)
    load_weights(network, directory, getattr(mx, computing.dtype))
    network.pack()
    mx.eval(network.parameters())
    return network


def _kind(name: str, dtype: mx.Dtype) -> mx.Dtype:
    return mx.float32 if _FLOAT32.match(name) else dtype


def save(weights: Mapping[str, mx.array], directory: Path) -> None:
    """Write `model.safetensors` with the names and layouts of our network."""
    mx.save_safetensors(str(directory / SAFETENSORS), dict(weights), _FORMAT)


def convert(source: Path, destination: Path, dtype: Precision = "float16") -> None:
    """Make a model directory with `model.safetensors` that loads like `source`.

    Args:
        source: A model directory with weights of either form. Quantised ones are unpacked; the precision that
            they lost stays lost.
        destination: A directory to make, which appears only when it is complete. It may exist if it is empty.
        dtype: Precision of the weights in the new file.

    Raises:
        ModelConfigError: The source lacks a file.
        CheckpointError: The source's weights cannot be read or do not fit in `dtype`, or the destination is not empty
            or cannot be written.
    """
    refuse_to_overwrite(destination)
    directory = ModelDirectory(source)
    configuration = {name: value for name, value in directory.configuration.items() if name != KEY}
    _write(directory, destination, _converted(directory, dtype), configuration)


def quantize(
    source: Path, destination: Path, quantization: Quantization | None = None, dtype: Precision = "float16"
) -> None:
    """Make a model directory with quantised linear layers, see `quantization`; `load` takes it like any other.

    Args:
        source: As for `convert`, but not quantised.
        destination: As for `convert`.
        quantization: Bits and size of the groups; 8 bits in groups of 64 if left out.
        dtype: Precision of scales and biases, and of the weights that are not quantised.

    Raises:
        ModelConfigError: The source lacks a file, or its configuration cannot be used.
        CheckpointError: As for `convert`; or the source's weights do not fit its configuration, are quantised already,
            or no layer can be quantised in such groups.
    """
    quantization = quantization or Quantization()
    refuse_to_overwrite(destination)
    directory = ModelDirectory(source)
    if already := Quantization.of(directory.configuration):
        raise CheckpointError(f"{source} is quantised already ({already}): choose the model that it was made from")
    network = _new_network(directory)
    layers = _quantizable(network, quantization)
    if not layers:
        raise CheckpointError(
            f"{source} cannot be quantised: no layer has inputs in groups of {quantization.group_size}"
        )
    weights = _converted(directory, dtype)
    expected = {name: value.shape for name, value in _parameters(network).items()}
    if problems := differences(expected, {name: value.shape for name, value in weights.items()}):
        raise CheckpointError(f"{source} does not fit the network of its config.yaml: {'; '.join(problems)}")
    for name in layers:
        parts = quantization.quantize(weights.pop(f"{name}.weight"))
        mx.eval(parts)
        weights |= {f"{name}.{part}": value for part, value in parts.items()}
    # What 8 bits change in these weights nobody has measured.
    configuration = {name: value for name, value in directory.configuration.items() if name != INT8_KEY}
    _write(directory, destination, weights, configuration | {KEY: quantization.described()})


def _new_network(directory: ModelDirectory) -> nn.Module:
    """Make the network of a model directory, of the right size, without its weights; errors as in `quantize`."""
    if is_sensevoice(directory):
        sizes = SenseVoiceConfig.from_directory(directory, len(Vocabulary.from_directory(directory)))
        check_size(sizes, directory)
        return SenseVoice(sizes)
    config = ModelConfig.from_directory(directory)
    check_size(config, directory)
    return Paraformer(config)


def _quantizable(network: nn.Module, quantization: Quantization) -> dict[str, Dense]:
    """Find the layers that are quantised, by name."""
    modules = cast(list[tuple[str, nn.Module]], network.named_modules())
    return {
        name: module
        for name, module in modules
        if isinstance(module, Dense) and quantization.fits(module.weight.shape[1])
    }


def refuse_to_overwrite(destination: Path) -> None:
    """Check that a directory can be made.

    Raises:
        CheckpointError: There is something already.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise CheckpointError(f"{destination} exists already: choose a new or an empty directory")


def _converted(source: ModelDirectory, dtype: Precision) -> dict[str, mx.array]:
    """Read a directory's weights and convert them to `dtype`."""
    weights = read_weights(source)
    kind: mx.Dtype = getattr(mx, dtype)
    quantization = Quantization.of(source.configuration)
    converted = {}
    if quantization is not None:
        for name in [name.removesuffix(".scales") for name in weights if name.endswith(".scales")]:
            parts = [mx.array(weights.pop(f"{name}.{part}")) for part in ("weight", "scales", "biases")]
            converted[f"{name}.weight"] = quantization.dequantize(*parts).astype(kind)
            mx.eval(converted[f"{name}.weight"])
    converted |= {name: _to_mlx(weights.pop(name), kind) for name in list(weights)}
    too_large = listed(
        (name for name, value in converted.items() if not mx.isfinite(value).all().item()),
        "with values out of range",
    )
    if too_large:
        raise CheckpointError(f"{source.path} cannot be converted to {dtype}: {too_large[0]}")
    return converted


def _write(
    source: ModelDirectory, destination: Path, weights: Mapping[str, mx.array], configuration: Mapping[str, Any]
) -> None:
    """Make a model directory of weights and of the rest of `source`."""
    metas = {**configuration.get("file_path_metas", {}), "init_param": SAFETENSORS}
    text = json.dumps({**configuration, "file_path_metas": metas}, ensure_ascii=False, indent=1)
    vocabulary = source.sentencepiece_name if is_sensevoice(source) else TOKENS
    others = [CONFIG, CMVN, vocabulary, *filter(source.has, (BPE_CODES, SEG_DICT))]
    description = {name: source.content(name) for name in others} | {CONFIGURATION: f"{text}\n".encode()}
    write_directory(destination, weights, description, _FORMAT)


def write_directory(
    destination: Path, weights: Mapping[str, mx.array], files: Mapping[str, bytes], metadata: Mapping[str, str]
) -> None:
    """Make a model directory of `model.safetensors` and of other files. It appears only when complete.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as scratch:
            made = Path(scratch) / destination.name
            made.mkdir()
            mx.save_safetensors(str(made / SAFETENSORS), dict(weights), dict(metadata))
            for name, content in files.items():
                (made / name).write_bytes(content)
            made.replace(destination)
    except OSError as error:
        raise CheckpointError(f"{destination} cannot be written: {error}") from None


def _to_mlx(array: NDArray[Any], dtype: mx.Dtype) -> mx.array:
    value = mx.array(array).astype(dtype)
    mx.eval(value)
    return value


def _parameters(network: nn.Module) -> dict[str, mx.array]:
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(network.parameters())))


def _is_finite(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all())


def differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Describe how two sets of names and shapes differ."""
    reshaped = (
        f"{name} {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    )
    return [
        *listed((name for name in expected if name not in found), "missing"),
        *listed((name for name in found if name not in expected), "unexpected"),
        *listed(reshaped, "of another shape"),
    ]


def listed(names: Iterable[str], what: str) -> list[str]:
    """Return `["3 missing: a, b, c"]`, or nothing where there are no names."""
    all_names = list(names)
    if not all_names:
        return []
    more = f" and {len(all_names) - _MOST_NAMED} more" if len(all_names) > _MOST_NAMED else ""
    return [f"{len(all_names)} {what}: {', '.join(all_names[:_MOST_NAMED])}{more}"]
