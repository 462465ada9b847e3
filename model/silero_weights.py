"""The weights of silero's voice activity detector: where they are, how they are fetched, and what they hold.

They come from the `silero-vad` package, which is located but not imported: importing it, and a plain installation of
it, would ask for torch. They are those of its ONNX file; its safetensors hold other, older ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parastream.model.cache_directory import cache_directory
from parastream.model.catalogue import is_offline
from parastream.model.errors import CheckpointError, HubError
from parastream.model.protobuf import parts

SileroWeights = Mapping[str, NDArray[np.float32]]
"""Arrays by their names in the ONNX file."""

_FILE = "silero_vad_16k_op15.onnx"  # the same values as silero_vad.onnx, without its 8 kHz half
_REQUIREMENT = "silero-vad==6.2.3"
_SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
_SHAPES = {
    "model.stft.forward_basis_buffer": (258, 1, 256),
    "model.encoder.0.reparam_conv.weight": (128, 129, 3),
    "model.encoder.0.reparam_conv.bias": (128,),
    "model.encoder.1.reparam_conv.weight": (64, 128, 3),
    "model.encoder.1.reparam_conv.bias": (64,),
    "model.encoder.2.reparam_conv.weight": (64, 64, 3),
    "model.encoder.2.reparam_conv.bias": (64,),
    "model.encoder.3.reparam_conv.weight": (128, 64, 3),
    "model.encoder.3.reparam_conv.bias": (128,),
    "model.decoder.rnn.weight_ih": (512, 128),
    "model.decoder.rnn.weight_hh": (512, 128),
    "model.decoder.rnn.bias_ih": (512,),
    "model.decoder.rnn.bias_hh": (512,),
    "model.decoder.decoder.2.weight": (1, 128, 1),
    "model.decoder.decoder.2.bias": (1,),
}
"""The weights, as the ONNX file names them, and their shapes."""


def load(*, offline: bool = False) -> SileroWeights:
    """Find the weights, fetching them if need be, and read them.

    Raises:
        HubError: As for `find`.
        CheckpointError: As for `read`.
    """
    return read(find(offline=offline))


def find(*, offline: bool = False) -> Path:
    """Return the ONNX file: of the installed `silero-vad` package, else of the cache, else fetched once by pip.

    Args:
        offline: Never use the network; so does `PARASTREAM_OFFLINE=1`.

    Raises:
        HubError: There is no such file and it cannot be fetched; the message says what to run.
    """
    installed = _installed()
    if installed is not None:
        return installed
    cached = cache_directory() / "vad" / _FILE
    if not _intact(cached):
        if is_offline(offline):
            raise _not_found("fetching them is forbidden (offline)")
        _download(cached)
    return cached


def read(path: Path) -> SileroWeights:
    """Read `silero_vad_16k_op15.onnx`.

    Raises:
        CheckpointError: The file is damaged or of another network.
    """
    try:
        tensors = dict(_tensors(memoryview(path.read_bytes())))
        return {name: np.frombuffer(tensors[name], "<f4").reshape(shape) for name, shape in _SHAPES.items()}
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, or not the weights of silero VAD for 16 kHz ({error!r})") from error


def _installed() -> Path | None:
    package = importlib.util.find_spec("silero_vad")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "data" / _FILE
        if path.is_file():
            return path
    return None


def _intact(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256


def _download(target: Path) -> None:
    """Have pip, with the user's own settings, fetch the wheel without its dependencies; keep one file of it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            # At once, so that another process never reads half a file.
            os.replace(_fetch(Path(folder)), target)
    except OSError as error:
        raise _not_found(f"{target} cannot be written ({error.strerror})") from error


def _fetch(folder: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--retries=1", "-q", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), _REQUIREMENT]
    pip = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise _not_found((pip.stderr.strip().splitlines() or ["pip fetched nothing"])[-1])
    try:
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(f"silero_vad/data/{_FILE}", folder))
    except (KeyError, zipfile.BadZipFile) as error:
        raise _not_found(f"{wheel.name} does not hold {_FILE}") from error
    if not _intact(unpacked):
        raise _not_found(f"{_FILE} in {wheel.name} has another checksum than expected")
    return unpacked


def _not_found(why: str) -> HubError:
    return HubError(
        f"the weights of the voice activity detector are not here: {why};"
        f" to install them: {sys.executable} -m pip install --no-deps {_REQUIREMENT}"
    )


def _tensors(model: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Yield names and bytes of the weights in an ONNX file, by the field numbers of its messages (onnx.proto)."""
    for graph in parts(model, 7):  # ModelProto.graph
        for tensor in parts(graph, 5):  # GraphProto.initializer
            for name, values in zip(parts(tensor, 8), parts(tensor, 9), strict=True):  # TensorProto.name, .raw_data
                yield bytes(name).decode(), values
