"""Measure the cost of voice activity detection in NumPy and in ONNX Runtime, side by side on the same speech.

    ./run python -m benchmarks.vad [--json FILE]

The script prints microseconds for each frame of 32 ms: medians, taking turns. ONNX Runtime has one thread, as NumPy
does, and takes one frame of each session per call. It finds its input and its states in one array, which is easier than
in a server.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray
from parastream.client.cli.bench.results import hardware, publish
from parastream.client.sources import sample_recording
from parastream.model import silero_weights
from parastream.streaming.silero import CONTEXT, FRAME, HIDDEN
from parastream.streaming.vad import Vad

SHAPES = [(1, 1), (1, 3), (1, 20), (8, 1), (8, 3), (64, 1), (64, 3), (64, 20)]
"""Sessions, and frames of each in a call: 3 is what a client's messages of 100 ms bring."""
TURNS = 60
RATE = np.array(16000, np.int64)


def main() -> None:
    """Print a line for each shape, and write them if a file is named."""
    parser = argparse.ArgumentParser(description="Cost of voice activity detection, against ONNX Runtime.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    with sample_recording() as sample:
        samples, _ = soundfile.read(sample, dtype="float32")
    vad, reference = Vad(silero_weights.load()), load_reference()
    result: dict[str, Any] = {"hardware": hardware(), "us_per_frame": {}}
    for sessions, frames in SHAPES:
        result["us_per_frame"][f"{sessions} x {frames}"] = compare(vad, reference, samples, sessions, frames)
    publish(result, options.json)


def load_reference() -> onnxruntime.InferenceSession:
    """Load the same weights in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; it warns about unused initialisers in the file
    return onnxruntime.InferenceSession(str(silero_weights.find()), options, providers=["CPUExecutionProvider"])


def compare(
    vad: Vad, reference: onnxruntime.InferenceSession, samples: NDArray[np.float32], sessions: int, frames: int
) -> dict[str, float]:
    """Return the medians for so many sessions that each bring so many frames, and their ratio."""
    # Each session is at another place of the recording.
    voices = np.stack([np.roll(samples, -i * len(samples) // sessions)[: frames * FRAME] for i in range(sessions)])
    states = [vad.new_state() for _ in range(sessions)]
    padded = np.concatenate((np.zeros((sessions, CONTEXT), np.float32), voices), axis=1)
    steps = [padded[:, start : start + CONTEXT + FRAME].copy() for start in range(0, frames * FRAME, FRAME)]
    state = np.zeros((2, sessions, HIDDEN), np.float32)

    def ours() -> None:
        vad(list(voices), states)

    def theirs() -> None:
        for step in steps:
            reference.run(None, {"input": step, "state": state, "sr": RATE})

    numpy, onnx = medians([ours, theirs])
    per_frame = 1e6 / (sessions * frames)
    return {"numpy": numpy * per_frame, "onnxruntime": onnx * per_frame, "ratio": onnx / numpy}


def medians(forms: list[Callable[[], None]]) -> list[float]:
    """Return the seconds that each form takes, in turns. The first call of a turn does not count: its cache is cold."""
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(TURNS):
        for form, spent in zip(forms, times, strict=True):
            form()
            began = time.perf_counter()
            form()
            spent.append(time.perf_counter() - began)
    return [statistics.median(spent) for spent in times]


if __name__ == "__main__":
    main()
