"""CIF predictor: how much of a token each encoded row carries; `cif` makes tokens of that.

Source: Dong & Xu 2020 (continuous integrate-and-fire); FunASR `CifPredictorV2`. Its second head, which says when tokens
were spoken, is that of `CifPredictorV3` (BiCif).
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.config import PredictorConfig
from parastream.model.lanes import LaneWork
from parastream.model.layers import neighbours
from parastream.model.lstm import LSTM


class Upsampling(nn.Module):
    """Several rows for each row: a transposed convolution whose stride is the width of its kernel."""

    def __init__(self, size: int, times: int) -> None:
        super().__init__()
        self.weight = mx.zeros((size, times, size))
        self.bias = mx.zeros((size,))

    def __call__(self, x: mx.array) -> mx.array:
        """Map (B, T, size) to (B, times T, size)."""
        size, times, _ = self.weight.shape
        rows = x @ self.weight.swapaxes(0, 1).reshape(times * size, size).T
        return rows.reshape(x.shape[0], -1, size) + self.bias


class Predictor(nn.Module):
    """Weights of rows."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.cif_conv1d = nn.Conv1d(config.size, config.size, 3)
        self.cif_output = nn.Linear(config.size, 1)
        if config.timestamps:
            self.upsample_cnn = Upsampling(config.size, config.upsample_times)
            self.blstm = LSTM(config.size, config.size, bidirectional=True)
            self.cif_output2 = nn.Linear(2 * config.size, 1)
        self._config = config

    def weigh(self, hidden: mx.array) -> mx.array:
        """Weigh encoded rows (B, T, size), zero beyond each utterance's own: (B, T), from 0 to 1 tokens each."""
        weight, bias = self.cif_conv1d.weight, self.cif_conv1d.bias
        seen = neighbours(hidden.astype(mx.float32))
        x = mx.maximum(mx.addmm(bias, seen, weight.reshape(len(weight), -1).T), 0)
        weights = mx.sigmoid(self.cif_output(x))[..., 0]
        return mx.maximum(weights * self._config.smooth_factor - self._config.noise_threshold, 0)

    def weigh_finely(self, hidden: mx.array, lengths: NDArray[np.int64]) -> LaneWork[mx.array]:
        """Weigh what `upsample_times` rows for each encoded row carry, as the second head sees it.

        Args:
            hidden: Encoded rows (B, T, size).
            lengths: Number of real rows of each utterance, (B,).

        Returns:
            (B, upsample_times T), in no unit: their sum has to be made the number of tokens.
        """
        upsampled = self.upsample_cnn(hidden.astype(mx.float32))
        states = yield from self.blstm(upsampled, lengths * self._config.upsample_times)
        weights = mx.sigmoid(self.cif_output2(states))[..., 0]
        return mx.maximum(weights * self._config.smooth_factor2 - self._config.noise_threshold2, 0)
