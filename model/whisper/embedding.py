"""The table of tokens, and the output layer that shares its weights."""

from __future__ import annotations

from functools import cached_property

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.dense import Dense
from parastream.model.device import on_cpu


class Embedding(Dense):
    """A row for each token, of `size` values; or a linear layer from `size` values to a logit for each token."""

    def __init__(self, tokens: int, size: int) -> None:
        super().__init__(size, tokens, bias=False)

    def rows(self, ids: mx.array) -> mx.array:
        """Ids of any shape -> (…, size)."""
        if self._quantization is None:
            return self.weight[ids]
        parts = (self.weight[ids], self.scales[ids], self.biases[ids])
        return self._quantization.dequantize(*parts).astype(self.dtype)

    def logits(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply rows (N, size) -> (N, tokens); on a CPU by NumPy, which takes a third of the time for a few rows."""
        if on_cpu():
            return hidden @ self._table.T
        return np.array(self(mx.array(hidden)).astype(mx.float32))

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """The weights' own memory, once they are loaded."""
        return np.array(self.weight, copy=False)
