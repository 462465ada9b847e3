"""What Paraformer's encoder and decoder share as graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from parastream.model.graphs.builder import Arithmetic, GraphBuilder

Float32 = NDArray[np.float32]
Take = Callable[[str], Float32]
"""Hands out a network's weights by their names."""

LAYER_NORM_EPS = 1e-12
"""FunASR's."""


class SanmBuilder(GraphBuilder):
    """A graph of layers whose weights have names."""

    def __init__(self, take: Take, arithmetic: Arithmetic = "float32") -> None:
        """Make an empty graph that takes its weights from `take`."""
        super().__init__(arithmetic)
        self.take = take

    def norm(self, x: str, name: str) -> str:
        """Add the LayerNorm of this name."""
        return self.layer_norm(x, self.take(f"{name}.weight"), self.take(f"{name}.bias"), LAYER_NORM_EPS)

    def dense(
        self, x: str, name: str, *, bias: bool = True, residual: str | None = None, after_relu: bool = False
    ) -> str:
        """Add the linear layer of this name to rows x (N, inputs); the rest as for `linear`."""
        added = self.take(f"{name}.bias") if bias else None
        return self.linear(x, self.take(f"{name}.weight"), added, residual=residual, after_relu=after_relu)

    def heads(self, rows: str, shape: str) -> str:
        """Cut rows (B T, H d) into (B, H, T, d); `shape` holds the integers B, T, H, d."""
        return self.node("Transpose", self.node("Reshape", rows, shape), perm=(0, 2, 1, 3))

    def remembered(self, name: str, index: str, fresh: str, axis: int) -> str:
        """Put what slots of an input remember in front of what is new, along an axis."""
        return self.node("Concat", self.node("Gather", name, index, axis=0), fresh, axis=axis)

    def filter(self, x: str, taps: Float32, before: int = 0, after: int = 0) -> str:
        """Filter rows over time, each channel by taps of its own.

        Args:
            x: Rows (B, T, C).
            taps: Filters (C, kernel).
            before: Rows of zeros to put in front.
            after: Rows of zeros to put behind.

        Returns:
            (B, T + before + after - kernel + 1, C).
        """
        channels, kernel = taps.shape
        image = self.node("Unsqueeze", self.node("Transpose", x, perm=(0, 2, 1)), self.integers(2))
        filtered = self.node(
            "Conv",
            image,
            self.constant(taps[:, None, None]),
            group=channels,
            kernel_shape=(1, kernel),
            pads=(0, before, 0, after),
        )
        return self.node("Transpose", self.node("Squeeze", filtered, self.integers(2)), perm=(0, 2, 1))

    def stacked(self, values: list[str]) -> str:
        """Put values of the same shape one upon the other, along a new first axis."""
        return self.node("Concat", *(self.node("Unsqueeze", value, self.integers(0)) for value in values), axis=0)
