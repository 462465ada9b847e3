"""The predictor's second head as graphs, always in float32: when tokens were spoken.

It is `weigh_finely` of `parastream.model.predictor`.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from parastream.model.config import PredictorConfig
from parastream.model.graphs.lstm import LSTMLayer
from parastream.model.graphs.program import Program, array_of
from parastream.model.graphs.sanm import Float32, SanmBuilder, Take


class TimestampStage:
    """Weighs what `upsample_times` rows for each encoded row carry."""

    def __init__(self, config: PredictorConfig, take: Take) -> None:
        """Build the graphs."""
        self._config = config
        size, times = config.size, config.upsample_times
        upsampling = SanmBuilder(take)
        weight = take("predictor.upsample_cnn.weight").swapaxes(0, 1).reshape(times * size, size)
        rows = upsampling.linear(upsampling.input("rows", ["t", size]), np.ascontiguousarray(weight))
        bias = upsampling.constant(take("predictor.upsample_cnn.bias"))
        upsampling.output(upsampling.node("Add", upsampling.reshape(rows, -1, size), bias))
        self._upsampling = Program(upsampling)
        self._ways = [LSTMLayer(take, "predictor.blstm", size, size, ending) for ending in ("l0", "l0_reverse")]
        output = SanmBuilder(take)
        states = output.input("states", ["t", 2 * size])
        output.output(output.node("Sigmoid", output.dense(states, "predictor.cif_output2")))
        self._output = Program(output)

    def weigh(self, encoded: Float32) -> Generator[None, None, Float32]:
        """Weigh the finer rows of an utterance from its encoded rows (T, size): (upsample_times T,)."""
        rows = array_of(self._upsampling({"rows": encoded})[0])
        there = yield from self._ways[0].in_pieces(rows)
        back = yield from self._ways[1].in_pieces(rows[::-1])
        states = np.concatenate([there, back[::-1]], axis=1)
        weights = array_of(self._output({"states": states})[0])[:, 0]
        config = self._config
        scaled: Float32 = weights * np.float32(config.smooth_factor2) - np.float32(config.noise_threshold2)
        return np.maximum(scaled, 0)
