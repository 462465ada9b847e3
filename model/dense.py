"""Linear layers in the memory layout that the machine multiplies fastest.

On processors with AVX-512, OpenBLAS has kernels for small products that read the weights as they are, where the
ordinary ones first copy them into another order. A streaming window has so few rows that this copy is half of the
work: on a Zen 4 core, 15 rows times (512, 1536) run at 84 GFLOP/s as many small products and at 38 as one. So the
weights are cut into tiles of 32 columns, and the rows into groups for which the small kernels are chosen.

Quantised weights are multiplied as they are on a GPU. On a CPU, where MLX is slow at that, they become float32 once
they are loaded (`dequantize`), and everything is computed as with weights that never were anything else.
"""

from __future__ import annotations

import math
from functools import cache

import mlx.core as mx
import mlx.nn as nn

from . import blas
from .device import on_cpu
from .quantization import Quantization

_TILE = 32
"""Outputs of a tile: two vectors of AVX-512."""
_VOLUME = 1_000_000
"""Rows times inputs times columns of the largest product that OpenBLAS takes for a small one."""
_DEPTH = 512
"""Most inputs of a tile; a layer with more is cut into layers that are summed up."""
_SMALL_KERNELS = ("SkylakeX", "Cooperlake", "Sapphirerapids")
"""OpenBLAS's names of the processors for which it has them."""


@cache
def tiles_are_faster() -> bool:
    """Whether this process computes on a CPU, with a BLAS that is fast at small products."""
    return on_cpu() and blas.info().core in _SMALL_KERNELS


class Dense(nn.Module):
    """y = x Wᵀ. The bias is left to the caller, who adds it (`offset`) in a step that is needed anyway.

    `weight` is (outputs, inputs), as in `nn.Linear`, until `pack` brings it into its final layout. x may be of any
    type; y is of the weights' own.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, parts: int = 1) -> None:
        """`parts`: into how many equal pieces, such as heads, the caller cuts y."""
        super().__init__()
        bound = inputs**-0.5
        self.weight = mx.random.uniform(-bound, bound, (outputs, inputs))
        if bias:
            self.bias = mx.zeros((outputs,))
        self._outputs = outputs
        self._parts = parts
        self._quantization: Quantization | None = None

    def quantized(self, quantization: Quantization) -> None:
        """Makes room for quantised weights, to be loaded, in place of the ones that are there."""
        self._quantization = quantization
        for name, shape in quantization.shapes(*self.weight.shape).items():
            setattr(self, name, mx.zeros(shape, mx.uint32 if name == "weight" else mx.float32))

    @property
    def dtype(self) -> mx.Dtype:
        """Type in which the layer computes."""
        kind: mx.Dtype = (self.weight if self._quantization is None else self.scales).dtype
        return kind

    @property
    def rewritable(self) -> bool:
        """Whether the weights can be changed without loss: one float32 number each, and not packed yet."""
        return self._quantization is None and not self._tiled and self.dtype == mx.float32

    @property
    def offset(self) -> mx.array:
        """The bias, in the shape of y's last three axes."""
        return self.bias.reshape(self._parts, -1, self._width)

    @property
    def splits(self) -> int:
        """Into how many equal pieces x is cut."""
        return int(self.weight.shape[0]) if self._tiled else 1

    @property
    def _tiled(self) -> bool:
        return self.weight.ndim == 5

    @property
    def _width(self) -> int:
        return _TILE if self._tiled else self._outputs // self._parts

    def dequantize(self) -> None:
        """On a CPU, turns quantised weights into float32; once, after loading, before anything else changes them."""
        if self._quantization is not None and on_cpu():
            self.weight = self._quantization.dequantize(self.weight, self.scales, self.biases)
            mx.eval(self.weight)
            del self.scales, self.biases
            self._quantization = None

    def pack(self) -> None:
        """Brings the weights into the layout that this machine is fastest with; once, after loading."""
        if not self.rewritable:
            return
        inputs = self.weight.shape[1]
        splits = inputs // _DEPTH if inputs % _DEPTH == 0 else 1
        excess = -(self._outputs // self._parts) % _TILE
        if not tiles_are_faster() or (excess and self._parts > 1):
            return
        if excess:  # `joined` takes these outputs away again
            self.weight = mx.pad(self.weight, [(0, excess), (0, 0)])
            if "bias" in self:
                self.bias = mx.pad(self.bias, [(0, excess)])
        tiles = self.weight.reshape(-1, _TILE, splits, inputs // splits).transpose(2, 0, 3, 1)
        self.weight = mx.contiguous(tiles)[:, :, None]  # (splits, tiles, 1, inputs / splits, _TILE)
        mx.eval(self.weight)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, T, inputs) -> y (B, T, parts, tiles of a part, width of a tile).

        The memory of y may be in another order: a reshape that joins its axes copies it.
        """
        batch, length = x.shape[:2]
        return self.multiply(x.reshape(batch, length, self.splits, -1).transpose(2, 0, 1, 3))

    def pieces(self, t: mx.array) -> mx.array:
        """A view of another layer's y that, once copied, is what `multiply` takes: (splits, B, T, …)."""
        batch, length = t.shape[:2]
        tiles = max(1, t.shape[3] // self.splits)
        return t.reshape(batch, length, self.splits, tiles, -1).transpose(2, 0, 1, 3, 4)

    def multiply(self, x: mx.array) -> mx.array:
        """As `__call__`, for x that is cut into pieces already: (splits, B, T, inputs / splits)."""
        splits, batch, length, depth = x.shape
        if not self._tiled:
            return self._product(x[0].astype(self.dtype)).reshape(batch, length, self._parts, 1, -1)
        tiles, rows = self.weight.shape[1], batch * length
        groups = math.ceil(rows * depth * _TILE / _VOLUME)
        each = math.ceil(rows / groups)
        x = x.reshape(splits, 1, rows, depth)
        if groups * each > rows:
            x = mx.pad(x, [(0, 0), (0, 0), (0, groups * each - rows), (0, 0)])
        y = x.reshape(splits, 1, groups, each, depth) @ self.weight
        y = y.sum(0) if splits > 1 else y[0]
        y = y.reshape(tiles, groups * each, _TILE)[:, :rows]
        return y.reshape(self._parts, tiles // self._parts, batch, length, _TILE).transpose(2, 3, 0, 1, 4)

    def _product(self, x: mx.array) -> mx.array:
        if self._quantization is None:
            return x @ self.weight.T
        return self._quantization.multiply(x, self.weight, self.scales, self.biases)

    def add_to(self, x: mx.array, y: mx.array) -> mx.array:
        """x (B, T, outputs) + y, which `__call__` gave, + bias."""
        cut = x.reshape(*x.shape[:2], *y.shape[2:])
        return ((cut + self.offset if "bias" in self else cut) + y).reshape(x.shape)

    def joined(self, y: mx.array) -> mx.array:
        """y + bias as (B, T, outputs)."""
        return (y + self.offset if "bias" in self else y).reshape(*y.shape[:2], -1)[..., : self._outputs]
