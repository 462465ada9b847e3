"""LSTM as graphs: the network of `parastream.model.lstm`, for one sequence or several of different lengths."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray
from parastream.model.graphs.builder import GraphBuilder
from parastream.model.graphs.program import Program, array_of
from parastream.model.graphs.sanm import Float32, Take

_STEPS = 48
"""Places of a sequence that are computed in one go: those of a second of speech, with a timestamp head."""
_ORDER = (0, 3, 1, 2)
"""Where torch has what ONNX expects: the gates for input, output and forgetting, and the candidates."""


class LSTMLayer:
    """One layer in one direction."""

    def __init__(self, take: Take, name: str, inputs: int, size: int, ending: str) -> None:
        """Build the graph.

        Args:
            take: See `Take`.
            name: Of the LSTM.
            inputs: Size of what it reads.
            size: Of its states.
            ending: Of its weights' names, such as `l0`.
        """
        self._size = size
        graph = GraphBuilder()
        biases = [_ordered(take(f"{name}.bias_{part}_{ending}")) for part in ("ih", "hh")]
        weights = [_ordered(take(f"{name}.weight_{part}_{ending}"))[None] for part in ("ih", "hh")]
        x = graph.input("x", ["steps", "b", inputs])
        lengths = graph.input("lengths", ["b"], np.int32)
        states = [graph.input(state, [1, "b", size]) for state in ("hidden", "cell")]
        constants = [graph.constant(value) for value in (*weights, np.concatenate(biases)[None])]
        y, *after = graph.node_with_outputs(3, "LSTM", x, *constants, lengths, *states, hidden_size=size)
        graph.output(graph.node("Squeeze", y, graph.integers(1)))
        for state in after:
            graph.output(state)
        self._program = Program(graph)

    def in_pieces(self, x: Float32) -> Generator[None, None, Float32]:
        """Read one sequence (T, inputs), and yield after each piece of it: the states (T, size)."""
        hidden = cell = np.zeros((1, 1, self._size), np.float32)
        found = []
        for start in range(0, len(x), _STEPS):
            piece = np.ascontiguousarray(x[start : start + _STEPS, None])
            y, hidden, cell = self._run(piece, np.array([len(piece)]), hidden, cell)
            found.append(y[:, 0])
            yield
        return np.concatenate(found)

    def sequences(self, x: Float32, lengths: NDArray[np.int64]) -> tuple[Float32, Float32]:
        """Read B sequences (T, B, inputs), padded: the states (T, B, size), and those at the sequences' ends."""
        nothing = np.zeros((1, x.shape[1], self._size), np.float32)
        y, hidden, _ = self._run(x, lengths, nothing, nothing)
        return y, hidden[0]

    def _run(self, x: Float32, lengths: NDArray[np.int64], hidden: Float32, cell: Float32) -> list[Float32]:
        given = {"x": x, "lengths": lengths.astype(np.int32), "hidden": hidden, "cell": cell}
        return [array_of(value) for value in self._program(given)]


def _ordered(weight: Float32) -> Float32:
    """Bring the four parts of a weight (4 size, …) into ONNX's order."""
    parts = np.split(weight, 4)
    return np.concatenate([parts[place] for place in _ORDER])
