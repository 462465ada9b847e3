"""LSTM over whole sequences (Hochreiter & Schmidhuber 1997), with torch's names and layouts of weights.

A sequence that is read backwards begins at its own end, so what stands behind it in a batch does not matter.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.lanes import LaneWork

_STEPS = 48
"""Places of the sequences that are computed in one go."""
_FORWARD, _BACKWARD = "", "_reverse"
"""How torch's names of weights end."""


class LSTM(nn.Module):
    """One layer or several upon each other; computed in float32."""

    def __init__(self, inputs: int, size: int, *, layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        self._layers = layers
        self._ways = (_FORWARD, _BACKWARD) if bidirectional else (_FORWARD,)
        self._size = size
        for layer in range(layers):
            for way in self._ways:
                self[f"weight_ih_l{layer}{way}"] = mx.zeros((4 * size, inputs))
                self[f"weight_hh_l{layer}{way}"] = mx.zeros((4 * size, size))
                self[f"bias_ih_l{layer}{way}"] = mx.zeros((4 * size,))
                self[f"bias_hh_l{layer}{way}"] = mx.zeros((4 * size,))
            inputs = len(self._ways) * size

    def __call__(self, x: mx.array, lengths: NDArray[np.int64]) -> LaneWork[mx.array]:
        """Read B sequences.

        Args:
            x: (B, T, inputs).
            lengths: Number of real places of each, (B,).

        Returns:
            The states at each place, those of the way back behind those of the way there: (B, T, ways size). Behind a
            sequence's end they mean nothing.
        """
        x = x.astype(mx.float32)
        places = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
        ends = lengths[:, None]
        turned = mx.array(np.where(places < ends, ends - 1 - places, places))[:, :, None]
        for layer in range(self._layers):
            read = [x if way == _FORWARD else mx.take_along_axis(x, turned, axis=1) for way in self._ways]
            states = yield from self._read(mx.stack(read), layer)
            found = [
                one if way == _FORWARD else mx.take_along_axis(one, turned, axis=1)
                for way, one in zip(self._ways, states, strict=True)
            ]
            x = mx.concatenate(found, axis=-1)
        return x

    def _read(self, x: mx.array, layer: int) -> LaneWork[mx.array]:
        """Read x (ways, B, T, inputs) with one layer: its states (ways, B, T, size)."""

        def of_ways(name: str) -> mx.array:
            return mx.stack([self[f"{name}_l{layer}{way}"] for way in self._ways]).astype(mx.float32)

        ways, batch, length, _ = x.shape
        size = self._size
        bias = (of_ways("bias_ih") + of_ways("bias_hh"))[:, None, None]
        given = x @ of_ways("weight_ih").swapaxes(1, 2)[:, None] + bias
        given = given.transpose(2, 0, 1, 3)
        recurrent = of_ways("weight_hh").swapaxes(1, 2)
        hidden = cell = mx.zeros((ways, batch, size))
        states = []
        for place in range(length):
            gates = mx.addmm(given[place], hidden, recurrent)
            opened = mx.sigmoid(gates)  # of the third part, the candidates, nobody looks at this
            candidates = mx.tanh(gates[..., 2 * size : 3 * size])
            cell = opened[..., size : 2 * size] * cell + opened[..., :size] * candidates
            hidden = opened[..., 3 * size :] * mx.tanh(cell)
            states.append(hidden)
            if place % _STEPS == _STEPS - 1:
                yield states[-_STEPS:], cell
        return mx.stack(states, axis=2)
