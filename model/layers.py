"""Building blocks that encoder and decoder share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.dense import Dense
from parastream.model.device import on_cpu, on_cuda

LAYER_NORM_EPS = 1e-12
"""FunASR's value. It is zero in half precision, so MLX's float32 kernel matters on all-zero rows."""

_BAND = {True: 16, False: 32}
"""Output rows of a band matrix of `FSMN`, on a CPU and on a GPU; more rows are computed in blocks."""

P = ParamSpec("P")
R = TypeVar("R")

_MANY = 8192
"""Attention scores from which on their softmax is computed by operations on whole arrays."""
_ROUND = 1.5 * 2**23
"""Added to a small float32, it leaves no bits for a fraction."""
_POWER_OF_TWO = (0.00132669704, 0.00967545975, 0.0555074262, 0.240221218, 0.693146949, 1.00000007)
"""2**x between -0.5 and 0.5 as a polynomial, exact to 8e-8; highest power first."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return what does the same with fewer steps of Python where MLX computes on a GPU.

    What it is called with has few shapes: it is traced for each. Arrays that it takes from elsewhere must not change.
    """
    return function if on_cpu() else mx.compile(function)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis. A following `Dense` may take over its scale and shift."""

    def __init__(self, size: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__()
        self.weight = mx.ones((size,))
        self.bias = mx.zeros((size,))
        self._mean = mx.full((size, 1), 1 / size)
        self._epsilon = eps
        self._eps = mx.full((1, 1), eps)

    def hand_over(self, layer: Dense) -> None:
        """Move scale and shift into `layer`, the only one that follows, unless its weights would lose precision."""
        if not layer.rewritable:
            return
        layer.bias = layer.bias + layer.weight @ self.bias
        layer.weight = layer.weight * self.weight
        del self.weight, self.bias

    def __call__(self, x: mx.array) -> mx.array:
        """Give x (..., size) mean 0 and variance 1, then scale and shift it unless the next layer does that."""
        if "weight" in self or not on_cpu():
            return mx.fast.layer_norm(x, self.get("weight"), self.get("bias"), self._epsilon)
        # MLX's own takes twice the time on CPUs: its sums over an axis are slow, but not a matrix product.
        x = x - x @ self._mean
        return x * mx.rsqrt(mx.addmm(self._eps, mx.square(x), self._mean))


class FSMN(nn.Module):
    """Memory of a SAN-M layer: one learned filter for each channel over time, without bias.

    Source: Gao et al. 2020 (SAN-M); FunASR `fsmn_block`.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = mx.zeros((channels, kernel_size, 1))
        self._bands: dict[tuple[int, int, int, int | None], mx.array] = {}

    @property
    def kernel_size(self) -> int:
        """Rows that one output row sees."""
        return int(self.weight.shape[1])

    def __call__(self, x: mx.array, before: int = 0, after: int = 0, *, residual: bool = False) -> mx.array:
        """Filter over time.

        Args:
            x: (B, T, C), or in heads (B, H, T, C / H).
            before: Number of zero rows to put in front.
            after: Number of zero rows to put behind.
            residual: Whether to add x to the result, which would cost bits in half precision.

        Returns:
            (B, T + before + after - kernel + 1, C).
        """
        batch, length = x.shape[0], x.shape[-2]
        most = _BAND[on_cpu()]
        own = before if residual else None
        outputs = length + before + after - self.kernel_size + 1
        # Grouped convolutions are slow on CPUs, and cuDNN plans one anew for every shape of a batch, which takes a
        # quarter of a second. A product of each channel's rows and a band matrix that holds the filter once for each
        # output row takes a small part of the time, though it multiplies many zeros.
        rows = x.transpose(1, 3, 0, 2).reshape(-1, batch, length) if x.ndim == 4 else x.transpose(2, 0, 1)
        if length <= most:
            filtered = (rows @ self._band(length, before, outputs, own)).transpose(1, 2, 0)
        else:
            blocks = math.ceil(outputs / most)
            span = most + self.kernel_size - 1
            padded = mx.pad(rows, [(0, 0), (0, 0), (before, blocks * most + self.kernel_size - 1 - before - length)])
            step = padded.shape[2]
            seen = mx.as_strided(padded, (padded.shape[0], batch, blocks, span), (batch * step, step, most, 1))
            filtered = seen.reshape(-1, batch * blocks, span) @ self._band(span, 0, most, own)
            filtered = filtered.reshape(-1, batch, blocks * most)[:, :, :outputs].transpose(1, 2, 0)
        return filtered

    def _band(self, inputs: int, before: int, outputs: int, own: int | None) -> mx.array:
        """Make the band matrix (C, inputs, outputs): tap i + before - o at input i, output o; plus 1 at tap `own`."""
        key = (inputs, before, outputs, own)
        if key not in self._bands:
            taps = np.arange(inputs)[:, None] + before - np.arange(outputs)
            inside = (taps >= 0) & (taps < self.kernel_size)
            chosen = self.weight[:, :, 0][:, mx.array(np.where(inside, taps, 0))]
            band = mx.where(mx.array(inside), chosen, 0) + mx.array(taps == own).astype(chosen.dtype)
            mx.eval(band)
            self._bands[key] = band
        return self._bands[key]


def attention_mask(takes_part: NDArray[np.bool_], dtype: mx.Dtype) -> mx.array | None:
    """Return what `attend` needs to know of which keys (B, S) take part; None where all do, and it costs to say so.

    On a GPU it is what is added to the scores: one that is there for every batch is planned for only once.
    """
    if not on_cpu():
        return mx.array(np.where(takes_part, np.float32(0), -np.float32(np.inf))[:, None, None, :]).astype(dtype)
    return None if takes_part.all() else mx.array(takes_part[:, None, None, :])


def attend(
    q: mx.array,
    keys_values: mx.array,
    mask: mx.array | None = None,
    memory: mx.array | None = None,
    *,
    of_many_shapes: bool = False,
) -> mx.array:
    """Compute scaled dot-product attention of several heads.

    Args:
        q: Queries (B, H, T, d).
        keys_values: The heads of the keys, then those of the values, (B, 2H, S, d).
        mask: What `attention_mask` returned for the keys, (B, 1, 1, S' + S).
        memory: Earlier keys and values, which come before the others, (B, 2H, S', d).
        of_many_shapes: Whether there are many combinations of B, T and S.

    Returns:
        (B, T, H d).
    """
    batch, heads, length, depth = q.shape
    scale = depth**-0.5
    if memory is not None and not on_cpu():
        keys_values, memory = mx.concatenate([memory, keys_values], axis=2), None
    k, v = mx.split(keys_values, 2, axis=1)
    if memory is not None:
        # Joining the scores costs less than joining the keys and values.
        keys, values = mx.split(memory, 2, axis=1)
        scores = mx.concatenate([q @ keys.swapaxes(2, 3), q @ k.swapaxes(2, 3)], axis=-1)
        earlier, now = mx.split(softmax(scores, scale, mask), [keys.shape[2]], axis=-1)
        out = earlier @ values + now @ v
    elif of_many_shapes and on_cuda():
        # cuDNN plans fused attention anew for every shape, which takes 50 ms.
        scores = q.astype(mx.float32) @ k.astype(mx.float32).swapaxes(2, 3)
        out = softmax(scores, scale, mask).astype(v.dtype) @ v
    else:
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    return out.transpose(0, 2, 1, 3).reshape(batch, length, heads * depth)


def softmax(scores: mx.array, scale: float, mask: mx.array | None = None) -> mx.array:
    """Compute the softmax of scale * scores over the last axis; for the `mask` see `attention_mask`."""
    if mask is not None and mask.dtype != mx.bool_:
        return mx.softmax(scores * scale + mask, axis=-1)
    if mask is not None:
        scores = mx.where(mask, scores, -mx.inf)
    if scores.size < _MANY or scores.dtype != mx.float32 or not on_cpu():
        return mx.softmax(scores * scale, axis=-1)
    # MLX calls the C library's exponential for each value, which takes twice as long as all of these operations.
    x = scores * (scale * math.log2(math.e))
    x = mx.maximum(x - mx.max(x, axis=-1, keepdims=True), -126)
    whole = x + _ROUND  # its lowest bits are those of x, rounded, as an integer
    x = x - (whole - _ROUND)
    power = mx.full((), _POWER_OF_TWO[0])
    for factor in _POWER_OF_TWO[1:]:
        power = power * x + factor
    # 2 to the whole part: added to the exponent, which begins at bit 23.
    weights = (power.view(mx.int32) + (whole.view(mx.int32) << 23)).view(mx.float32)
    return weights / mx.sum(weights, axis=-1, keepdims=True)


def log_probabilities(logits: mx.array) -> mx.array:
    """Turn logits into logarithms of probabilities, in float32, over the last axis."""
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def pad_time(x: mx.array, before: int, after: int) -> mx.array:
    """Put zero rows in front of and behind x (B, T, C)."""
    return mx.pad(x, [(0, 0), (before, after), (0, 0)])


def neighbours(x: mx.array, stride: int = 1) -> mx.array:
    """Put each row of x (..., T, C) between the ones before and behind it, every `stride`-th: (..., T / stride, 3 C).

    A product of that is a convolution over three rows; MLX is slow at those on CPUs, cuDNN plans one for each shape.
    """
    length = x.shape[-2]
    x = mx.pad(x, [*[(0, 0)] * (x.ndim - 2), (1, 1), (0, 0)])
    return mx.concatenate([x[..., i : i + length : stride, :] for i in range(3)], axis=-1)
