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
from parastream.model import blas
from parastream.model.device import on_cpu
from parastream.model.quantization import Quantization

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
    """y = x Wᵀ + b, in the forms in which the layers around it need y.

    `weight` is (outputs, inputs), as in `nn.Linear`, until `pack` brings it into its final layout. x may be of any
    type; y is of the weights' own. Leading axes of x are rows.

    MLX hands out every operation by itself, views included, and that takes time of the CPU that computes: so the forms
    are made with as few of them as possible.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, parts: int = 1) -> None:
        """`parts`: into how many equal pieces `heads` cuts y."""
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
    def _tiled(self) -> bool:
        return self.weight.ndim == 5

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
        if excess:  # `__call__` takes these outputs away again
            self.weight = mx.pad(self.weight, [(0, excess), (0, 0)])
            if "bias" in self:
                self.bias = mx.pad(self.bias, [(0, excess)])
        tiles = self.weight.reshape(-1, _TILE, splits, inputs // splits).transpose(2, 0, 3, 1)
        self.weight = mx.contiguous(tiles)[:, :, None]  # (splits, tiles, 1, inputs / splits, _TILE)
        if "bias" in self:
            self.bias = self.bias.reshape(-1, _TILE)
        mx.eval(self.parameters())

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., inputs) -> y (..., outputs)."""
        y = self._rows(self._product(x))
        if "bias" in self:
            y = y + self.bias
        y = y.reshape(*x.shape[:-1], -1)
        return y if y.shape[-1] == self._outputs else y[..., : self._outputs]

    def heads(self, x: mx.array, batch: int) -> mx.array:
        """Rows x (B T, inputs), or x (B, T, inputs) -> y (B, parts, T, outputs / parts)."""
        y = self._product(x)
        if not self._tiled:
            return (y + self.bias).reshape(batch, -1, self._parts, y.shape[-1] // self._parts).transpose(0, 2, 1, 3)
        tiles = self.weight.shape[1] // self._parts
        y = y.reshape(self._parts, tiles, batch, -1, _TILE).transpose(2, 0, 3, 1, 4)
        y = y + self.bias.reshape(self._parts, 1, tiles, _TILE)
        return y.reshape(batch, self._parts, -1, tiles * _TILE)

    def add_to(self, residual: mx.array, x: mx.array) -> mx.array:
        """residual (..., outputs) + y, for x (..., inputs)."""
        return self._added(residual, self._product(x))

    def add_pieces_to(self, residual: mx.array, pieces: mx.array) -> mx.array:
        """As `add_to`, for x as another layer's `pieces` are."""
        return self._added(residual, self._sum(pieces))

    def pieces(self, x: mx.array, behind: Dense) -> mx.array:
        """x Wᵀ, without b, as pieces of the inputs of the layer behind, each in tiles: (pieces, rows, tiles, width).

        `add_pieces_to` takes them with their tiles joined, after whatever is done to each number in between.
        """
        y = self._product(x)
        if not self._tiled:
            return y[None, :, None]
        tiles = self.weight.shape[1] // behind._splits
        return y.reshape(behind._splits, tiles, -1, _TILE).transpose(0, 2, 1, 3)

    def bias_of_pieces(self, behind: Dense) -> mx.array:
        """b in the same form."""
        return self.bias.reshape(behind._splits, 1, -1, _TILE) if self._tiled else self.bias

    @property
    def _splits(self) -> int:
        return int(self.weight.shape[0]) if self._tiled else 1

    def _added(self, residual: mx.array, y: mx.array) -> mx.array:
        if not self._tiled:
            y = y.reshape(residual.shape)
            return residual + y + self.bias if "bias" in self else residual + y
        cut = residual.reshape(-1, self.weight.shape[1], _TILE)
        if "bias" in self:
            cut = cut + self.bias
        return (cut + self._rows(y)).reshape(residual.shape)

    def _rows(self, y: mx.array) -> mx.array:
        """What `_product` gave with its rows in front: (rows, tiles, _TILE), or as it is."""
        return y.reshape(self.weight.shape[1], -1, _TILE).transpose(1, 0, 2) if self._tiled else y

    def _product(self, x: mx.array) -> mx.array:
        """x Wᵀ for x (..., inputs): in the order of (tiles, rows, _TILE), but with more axes; or (rows, outputs) where
        the weights are not in tiles."""
        if not self._tiled:
            return self._plain(x.reshape(-1, x.shape[-1]).astype(self.dtype))
        splits, depth = self._splits, int(self.weight.shape[3])
        return self._sum(x if splits == 1 else x.reshape(-1, splits, depth).transpose(1, 0, 2))

    def _plain(self, x: mx.array) -> mx.array:
        """x Wᵀ for rows x (N, inputs) and weights that are not in tiles."""
        if self._quantization is None:
            return x @ self.weight.T
        return self._quantization.multiply(x, self.weight, self.scales, self.biases)

    def _sum(self, x: mx.array) -> mx.array:
        """As `_product`, for x as pieces (splits, rows, inputs / splits), or whole if there is one piece."""
        if not self._tiled:
            return self._product(x)
        splits, depth = self._splits, x.shape[-1]
        rows = x.size // (splits * depth)
        groups = math.ceil(rows * depth * _TILE / _VOLUME)
        each = math.ceil(rows / groups)
        if groups * each > rows:
            x = mx.pad(x.reshape(splits, rows, depth), [(0, 0), (0, groups * each - rows), (0, 0)])
        y = x.reshape(splits, 1, groups, each, depth) @ self.weight
        if splits > 1:
            y = y.sum(0, keepdims=True)
        return y if groups * each == rows else y.reshape(-1, groups * each, _TILE)[:, :rows]
