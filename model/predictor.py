"""CIF predictor: how much of a token each encoded row carries; `cif` makes tokens of that.

Source: Dong & Xu 2020 (continuous integrate-and-fire); FunASR `CifPredictorV2`.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from parastream.model.config import PredictorConfig
from parastream.model.layers import pad_time


class Predictor(nn.Module):
    """Weights of rows."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.cif_conv1d = nn.Conv1d(config.size, config.size, 3)
        self.cif_output = nn.Linear(config.size, 1)
        self._config = config

    def weigh(self, hidden: mx.array) -> mx.array:
        """Weigh encoded rows (B, T, size), zero beyond each utterance's own: (B, T), from 0 to 1 tokens each."""
        x = nn.relu(self.cif_conv1d(pad_time(hidden.astype(mx.float32), 1, 1)))
        weights = mx.sigmoid(self.cif_output(x))[..., 0]
        return mx.maximum(weights * self._config.smooth_factor - self._config.noise_threshold, 0)
