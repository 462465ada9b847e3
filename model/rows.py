"""Rows of features, as the encoder takes them in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import EncoderConfig

Float32 = NDArray[np.float32]


def length_mask(lengths: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Map lengths (B,) to a mask (B, width): True in the first `lengths[b]` places of row b."""
    return np.asarray(np.arange(width) < lengths[:, None])


class Embedding:
    """Scales rows of features and adds the encodings of their positions."""

    def __init__(self, config: EncoderConfig) -> None:
        self._positions = PositionTable(config.input_size)
        self._scale = np.float32(config.size**0.5)

    def __call__(self, features: Float32, start: int = 0) -> Float32:
        """Embed rows (T, input) of positions `start` and following."""
        return features * self._scale + self._positions(start, len(features))


class PositionTable:
    """Sinusoidal positions counted from 1, sines before cosines (FunASR `SinusoidalPositionEncoder`).

    Rows are made once, as far as they are needed.
    """

    def __init__(self, size: int) -> None:
        half = size // 2
        self._inverse = np.exp(-np.arange(half) * (np.log(10000.0) / (half - 1)))
        self._rows = np.zeros((0, 2 * half), np.float32)

    def __call__(self, start: int, count: int) -> NDArray[np.float32]:
        """Return the encodings (count, size) of `count` rows from row `start` on, counted from 0."""
        if start + count > len(self._rows):
            angles = np.arange(1, 2 * (start + count) + 1)[:, None] * self._inverse
            self._rows = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
        return self._rows[start : start + count]
