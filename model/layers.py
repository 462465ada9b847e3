"""Building blocks that encoder and decoder share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import mlx.core as mx
import mlx.nn as nn

LAYER_NORM_EPS = 1e-12
"""FunASR's value. It is zero in half precision, so MLX's float32 kernel matters on all-zero rows."""


def layer_norm(size: int) -> nn.LayerNorm:
    """FunASR's LayerNorm over the last axis."""
    return nn.LayerNorm(size, eps=LAYER_NORM_EPS)


class FSMN(nn.Module):
    """Memory of a SAN-M layer: one learned filter for each channel over time, without bias.

    Source: Gao et al. 2020 (SAN-M); FunASR `fsmn_block`.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = mx.zeros((channels, kernel_size, 1))

    @property
    def kernel_size(self) -> int:
        """Rows that one output row sees."""
        return int(self.weight.shape[1])

    def __call__(self, x: mx.array) -> mx.array:
        """Valid convolution over time: (B, T + kernel - 1, C) -> (B, T, C)."""
        if mx.default_device() == mx.Device(mx.cpu):
            # MLX's grouped convolution on CPU is slower than a sum of shifted products.
            taps = self.weight[:, :, 0]
            length = x.shape[1] - self.kernel_size + 1
            total = x[:, :length] * taps[:, 0]
            for tap in range(1, self.kernel_size):
                total = total + x[:, tap : tap + length] * taps[:, tap]
            return total
        return mx.conv1d(x, self.weight, groups=self.weight.shape[0])


def split_heads(x: mx.array, heads: int) -> mx.array:
    """(B, T, heads * size) -> (B, heads, T, size)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)


def attend(q: mx.array, keys_values: mx.array, heads: int, mask: mx.array | None) -> mx.array:
    """Scaled dot-product attention: q (B, T, d), keys and values side by side (B, S, 2d) -> (B, T, d).

    `mask` (B, 1, 1, S) is True where a key takes part; None where all do.
    """
    batch, length, width = q.shape
    k, v = mx.split(keys_values, 2, axis=-1)
    out = mx.fast.scaled_dot_product_attention(
        split_heads(q, heads),
        split_heads(k, heads),
        split_heads(v, heads),
        scale=(width // heads) ** -0.5,
        mask=mask,
    )
    return out.transpose(0, 2, 1, 3).reshape(batch, length, width)


def pad_time(x: mx.array, before: int, after: int) -> mx.array:
    """Zero rows in front of and behind (B, T, C)."""
    return mx.pad(x, [(0, 0), (before, after), (0, 0)])


def length_mask(lengths: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """(B,) -> (B, width): True in the first `lengths[b]` places of row b."""
    return np.asarray(np.arange(width) < lengths[:, None])


class PositionTable:
    """Sinusoidal positions counted from 1, sines before cosines (FunASR `SinusoidalPositionEncoder`).

    Rows are made once, as far as they are needed.
    """

    def __init__(self, size: int) -> None:
        half = size // 2
        self._inverse = np.exp(-np.arange(half) * (np.log(10000.0) / (half - 1)))
        self._rows = np.zeros((0, 2 * half), np.float32)

    def __call__(self, start: int, count: int) -> NDArray[np.float32]:
        """Encoding of rows start … start + count - 1 (0-based): (count, size)."""
        if start + count > len(self._rows):
            angles = np.arange(1, 2 * (start + count) + 1)[:, None] * self._inverse
            self._rows = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
        return self._rows[start : start + count]
