"""Measure the cost of voice activity detection in NumPy and in ONNX Runtime, side by side on the same speech.

    ./run python -m benchmarks.vad [--json FILE]

The script prints microseconds for each frame of 32 ms: medians, taking turns. The forms are

- `numpy`: what the server runs, the gain and the states of its sessions included,
- `network`: the network alone of that, which finds its input and its states in one array, as the others do here,
- `graph`: the same network as a graph of ours (`model/graphs`), one run for a frame of each session,
- `onnxruntime`: silero's own file, in the same way.

ONNX Runtime has one thread, as NumPy does.
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
from parastream.model.graphs.builder import GraphBuilder
from parastream.model.graphs.program import Program, array_of
from parastream.streaming.silero import CONTEXT, FRAME, HIDDEN, Silero
from parastream.streaming.vad import Vad

SHAPES = [(1, 1), (1, 3), (1, 20), (8, 3), (16, 1), (16, 3), (64, 1), (64, 3), (64, 20), (128, 1), (128, 3)]
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
    weights = silero_weights.load()
    networks = Silero(weights), Program(graph_of(weights)), load_reference()
    result: dict[str, Any] = {"hardware": hardware(), "us_per_frame": {}}
    for sessions, frames in SHAPES:
        # Each session is at another place of the recording.
        voices = np.stack([np.roll(samples, -i * len(samples) // sessions)[: frames * FRAME] for i in range(sessions)])
        result["us_per_frame"][f"{sessions} x {frames}"] = compare(Vad(weights), *networks, voices)
    publish(result, options.json)


def load_reference() -> onnxruntime.InferenceSession:
    """Load the same weights in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; it warns about unused initialisers in the file
    return onnxruntime.InferenceSession(str(silero_weights.find()), options, providers=["CPUExecutionProvider"])


def graph_of(weights: silero_weights.SileroWeights) -> GraphBuilder:
    """Lay the network out as a graph for a frame of each of B sessions.

    The inputs are samples (B, 640): context, frame, and the mirror image behind it; and both vectors of the LSTM,
    (B, 128). The outputs are probabilities (B, 1) and both vectors.
    """
    graph = GraphBuilder()
    x = graph.input("x", ["b", CONTEXT + FRAME + CONTEXT])
    hidden, cell = (graph.input(name, ["b", HIDDEN]) for name in ("hidden", "cell"))
    columns = [graph.slice(x, 128 * column, 128 * column + 256, axis=1) for column in range(4)]
    basis = weights["model.stft.forward_basis_buffer"][:, 0]
    parts = graph.split(graph.linear(graph.node("Concat", *columns, axis=0), basis), [129, 129], axis=1)
    power = graph.node("Add", *(graph.node("Mul", part, part) for part in parts))
    columns = graph.split(graph.reshape(graph.node("Sqrt", power), 4, -1, 129), [1] * 4, axis=0)
    columns = [graph.reshape(column, -1, 129) for column in columns]
    for layer, stride in enumerate((1, 2, 2, 1)):
        name = f"model.encoder.{layer}.reparam_conv"
        taps, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        made = []
        for middle in range(0, len(columns), stride):
            seen = range(max(middle - 1, 0), min(middle + 2, len(columns)))  # the padding adds nothing
            weight = np.concatenate([taps[:, :, column - middle + 1] for column in seen], axis=1)
            joined = graph.node("Concat", *(columns[column] for column in seen), axis=1)
            made.append(graph.node("Relu", graph.linear(joined, weight, bias)))
        columns = made
    rnn = "model.decoder.rnn"
    gates = graph.linear(columns[0], weights[f"{rnn}.weight_ih"], weights[f"{rnn}.bias_ih"])
    gates = graph.linear(hidden, weights[f"{rnn}.weight_hh"], weights[f"{rnn}.bias_hh"], residual=gates)
    enter, keep, new, show = graph.split(gates, [HIDDEN] * 4, axis=1)
    enter, keep, show = (graph.node("Sigmoid", gate) for gate in (enter, keep, show))
    entering = graph.node("Mul", enter, graph.node("Tanh", new))
    cell = graph.node("Add", graph.node("Mul", keep, cell), entering)
    hidden = graph.node("Mul", show, graph.node("Tanh", cell))
    output = weights["model.decoder.decoder.2.weight"][:, :, 0], weights["model.decoder.decoder.2.bias"]
    graph.output(graph.node("Sigmoid", graph.linear(graph.node("Relu", hidden), *output)))
    graph.output(hidden)
    graph.output(cell)
    return graph


def compare(
    vad: Vad,
    network: Silero,
    graph: Program,
    reference: onnxruntime.InferenceSession,
    voices: NDArray[np.float32],
) -> dict[str, float]:
    """Return the medians for sessions that each bring some frames, (sessions, frames * 512), and their ratios."""
    sessions, frames = len(voices), voices.shape[1] // FRAME
    states = [vad.new_state() for _ in range(sessions)]
    padded = np.concatenate((np.zeros((sessions, CONTEXT), np.float32), voices), axis=1)
    steps = [padded[:, start : start + CONTEXT + FRAME].copy() for start in range(0, frames * FRAME, FRAME)]
    mirrored = [np.concatenate((step, step[:, -2 : -CONTEXT - 2 : -1]), axis=1) for step in steps]
    blocks = padded.reshape(-1, CONTEXT)
    frame = FRAME // CONTEXT
    places = np.array([k * (1 + frame * frames) + frame * t for t in range(frames) for k in range(sessions)])
    loudness = np.ones(len(places), np.float32)
    zeros = np.zeros((2, sessions, HIDDEN), np.float32)

    def as_served() -> None:
        vad(list(voices), states)

    def in_numpy() -> NDArray[np.float32]:
        hidden, cell = zeros.copy()
        gates = network.encode(blocks, places, loudness).reshape(4, frames, sessions, HIDDEN)
        after = np.empty((frames, sessions, HIDDEN), np.float32)
        for t in range(frames):
            network.step(gates[:, t], hidden, cell)
            after[t] = hidden
        return network.probabilities(after)

    def as_graph() -> NDArray[np.float32]:
        hidden, cell = zeros
        found = []
        for step in mirrored:
            probabilities, hidden, cell = graph({"x": step, "hidden": hidden, "cell": cell})
            found.append(array_of(probabilities)[:, 0])
        return np.array(found)

    def by_silero() -> None:
        for step in steps:
            reference.run(None, {"input": step, "state": zeros, "sr": RATE})

    np.testing.assert_allclose(as_graph(), in_numpy(), atol=1e-4)
    forms: dict[str, Callable[[], object]] = {
        "numpy": as_served,
        "network": in_numpy,
        "graph": as_graph,
        "onnxruntime": by_silero,
    }
    spent = dict(zip(forms, medians(list(forms.values())), strict=True))
    per_frame = {name: 1e6 * seconds / (sessions * frames) for name, seconds in spent.items()}
    return per_frame | {
        "ratio": spent["onnxruntime"] / spent["numpy"],
        "graph_ratio": spent["graph"] / spent["network"],
    }


def medians(forms: list[Callable[[], object]]) -> list[float]:
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
