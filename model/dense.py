"""Linear layers in the memory layout that the machine multiplies fastest.

On processors with AVX-512, OpenBLAS has kernels for small products that read the weights in place; its ordinary kernels
first copy them into another order. A streaming window has so few rows that this copy is half of the work: on a Zen 4
core, 15 rows times (512, 1536) run at 84 GFLOP/s as many small products and at 38 as one. The weights are therefore cut
into tiles of 32 columns, and the rows into groups for which OpenBLAS chooses the small kernels.

A GPU multiplies quantised weights directly. MLX is slow at that on a CPU, so there they become float32 after loading
(`dequantize_on_cpu`), and everything is computed as with any other weights.
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
"""Rows times inputs times columns of the largest product that OpenBLAS treats as small."""
_DEPTH = 512
"""Most inputs of a tile. A layer with more is cut into several, whose results are added up."""
_SMALL_KERNELS = ("SkylakeX", "Cooperlake", "Sapphirerapids")
"""OpenBLAS's names of the processors for which it has small kernels."""


def added_up(*terms: mx.array) -> mx.array:
    """Return the sum of arrays; on a GPU it is one operation."""
    return sum_up(*terms) if on_cpu() else _fused_sum(*terms)


def sum_up(first: mx.array, *others: mx.array) -> mx.array:
    """Do the same, with one operation after another."""
    for other in others:
        first = first + other
    return first


_fused_sum = mx.compile(sum_up, shapeless=True)


@cache
def tiles_are_faster() -> bool:
    """Say whether this process computes on a CPU with a BLAS that is fast at small products."""
    return on_cpu() and blas.info().core in _SMALL_KERNELS


class Dense(nn.Module):
    """y = x Wᵀ + b, in the forms in which the layers around it need y.

    `weight` is (outputs, inputs), as in `nn.Linear`, until `pack` brings it into its final layout. x may have any type;
    y has the weights' type. Leading axes of x are rows.

    MLX dispatches every operation separately, views included, on the CPU that also computes. The forms are therefore
    made with as few operations as possible.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, parts: int = 1) -> None:
        """Make a layer with random weights; `parts` is the number of equal pieces that `heads` cuts y into."""
        super().__init__()
        bound = inputs**-0.5
        self.weight = mx.random.uniform(-bound, bound, (outputs, inputs))
        if bias:
            self.bias = mx.zeros((outputs,))
        self._outputs = outputs
        self._parts = parts
        self._quantization: Quantization | None = None
        self._transposed: mx.array | None = None

    def quantized(self, quantization: Quantization) -> None:
        """Replace the weights by room for quantised ones, which are loaded next."""
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
        """Whether the weights can be changed without loss: they are float32 and not packed yet."""
        return self._quantization is None and not self._tiled and self.dtype == mx.float32

    @property
    def _tiled(self) -> bool:
        return self.weight.ndim == 5

    def dequantize_on_cpu(self) -> None:
        """Do what `dequantize` does where MLX is slow at quantised weights."""
        if on_cpu():
            self.dequantize()

    def dequantize(self) -> None:
        """Turn quantised weights into float32; once, after loading, before anything else changes them."""
        if self._quantization is not None:
            self.weight = self._quantization.dequantize(self.weight, self.scales, self.biases)
            mx.eval(self.weight)
            del self.scales, self.biases
            self._quantization = None

    def pack(self) -> None:
        """Bring the weights into the layout that this machine is fastest with; once, after loading."""
        if not self._tiled and self._quantization is None:
            self._transposed = self.weight.T
            mx.eval(self._transposed)  # a view
        if not self.rewritable:
            return
        inputs = self.weight.shape[1]
        splits = inputs // _DEPTH if inputs % _DEPTH == 0 else 1
        excess = -(self._outputs // self._parts) % _TILE
        if not tiles_are_faster() or (excess and self._parts > 1):
            return
        if excess:  # `__call__` removes these outputs again
            self.weight = mx.pad(self.weight, [(0, excess), (0, 0)])
            if "bias" in self:
                self.bias = mx.pad(self.bias, [(0, excess)])
        tiles = self.weight.reshape(-1, _TILE, splits, inputs // splits).transpose(2, 0, 3, 1)
        self._transposed = None
        self.weight = mx.contiguous(tiles)[:, :, None]  # (splits, tiles, 1, inputs / splits, _TILE)
        if "bias" in self:
            self.bias = self.bias.reshape(-1, _TILE)
        mx.eval(self.parameters())

    def __call__(self, x: mx.array) -> mx.array:
        """Map x (..., inputs) to y (..., outputs)."""
        if not self._tiled:
            return self._plain(x, self.get("bias")).reshape(*x.shape[:-1], -1)
        y = self._rows(self._product(x))
        if "bias" in self:
            y = y + self.bias
        y = y.reshape(*x.shape[:-1], -1)
        return y if y.shape[-1] == self._outputs else y[..., : self._outputs]

    def heads(self, x: mx.array, batch: int) -> mx.array:
        """Map x (B, T, inputs), or its rows (B T, inputs), to y (B, parts, T, outputs / parts)."""
        if not self._tiled:
            y = self._plain(x, self.bias)
            return y.reshape(batch, -1, self._parts, y.shape[-1] // self._parts).transpose(0, 2, 1, 3)
        y = self._product(x)
        tiles = self.weight.shape[1] // self._parts
        y = y.reshape(self._parts, tiles, batch, -1, _TILE).transpose(2, 0, 3, 1, 4)
        y = y + self.bias.reshape(self._parts, 1, tiles, _TILE)
        return y.reshape(batch, self._parts, -1, tiles * _TILE)

    def add_to(self, residual: mx.array, x: mx.array, *terms: mx.array) -> mx.array:
        """Return residual + terms + y, for residual and each term (..., outputs) and x (..., inputs)."""
        if not self._tiled:
            terms = (*terms, self.bias) if "bias" in self else terms
            added = added_up(residual, *terms).reshape(-1, residual.shape[-1])
            return self._plain(x, added).reshape(residual.shape)
        return self._added(sum_up(residual, *terms), self._product(x))

    def add_pieces_to(self, residual: mx.array, pieces: mx.array) -> mx.array:
        """Do the same as `add_to` for an x in the form of another layer's `pieces`."""
        return self._added(residual, self._sum(pieces)) if self._tiled else self.add_to(residual, pieces)

    def pieces(self, x: mx.array, following: Dense) -> mx.array:
        """Compute x Wᵀ, without b, cut into the pieces that the next layer sums up: (pieces, rows, tiles, width).

        After an elementwise function, and with their tiles joined, they are what that layer's `add_pieces_to` takes.
        """
        if not self._tiled:
            return self._plain(x)[None, :, None]
        y = self._product(x)
        tiles = self.weight.shape[1] // following._splits
        return y.reshape(following._splits, tiles, -1, _TILE).transpose(0, 2, 1, 3)

    def bias_of_pieces(self, following: Dense) -> mx.array:
        """Return b in the form of `pieces`."""
        return self.bias.reshape(following._splits, 1, -1, _TILE) if self._tiled else self.bias

    @property
    def _splits(self) -> int:
        return int(self.weight.shape[0]) if self._tiled else 1

    def _added(self, residual: mx.array, y: mx.array) -> mx.array:
        cut = residual.reshape(-1, self.weight.shape[1], _TILE)
        if "bias" in self:
            cut = cut + self.bias
        return (cut + self._rows(y)).reshape(residual.shape)

    def _rows(self, y: mx.array) -> mx.array:
        """Bring the rows of `_product`'s result to the front: (rows, tiles, _TILE)."""
        return y.reshape(self.weight.shape[1], -1, _TILE).transpose(1, 0, 2)

    def _product(self, x: mx.array) -> mx.array:
        """Compute x Wᵀ for x (..., inputs) and weights in tiles: (tiles, rows, _TILE), with further axes."""
        splits, depth = self._splits, int(self.weight.shape[3])
        # Contiguous, since MLX would copy the transposed pieces anew for every tile.
        return self._sum(x if splits == 1 else mx.contiguous(x.reshape(-1, splits, depth).transpose(1, 0, 2)))

    def _plain(self, x: mx.array, added: mx.array | None = None) -> mx.array:
        """Compute x Wᵀ, plus (outputs,) or (N, outputs), for x of N rows and weights without tiles: (N, outputs)."""
        x = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        if self._quantization is None:
            weight = self.weight.T if self._transposed is None else self._transposed
            return x @ weight if added is None else mx.addmm(added.astype(self.dtype), x, weight)
        y = self._quantization.multiply(x, self.weight, self.scales, self.biases)
        return y if added is None else y + added

    def _sum(self, x: mx.array) -> mx.array:
        """Do the same as `_product` for x in pieces (splits, rows, inputs / splits), or whole if there is one piece."""
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
