"""Which tokens are chosen, from arrays of either kind."""

from __future__ import annotations

from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest
from parastream.model.layers import log_probabilities
from parastream.model.selection import best, of_each


@pytest.mark.parametrize("xp", [mx, np])
def test_the_best_tokens_and_their_probabilities(xp: ModuleType) -> None:
    logits = np.random.default_rng(1).standard_normal((2, 3, 7)).astype(np.float32)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    logarithms = xp.array(np.array(log_probabilities(mx.array(logits))))
    chosen = of_each(best(logarithms, xp), np.array([3, 1]))
    for row, count, (ids, confidences) in zip(expected, (3, 1), chosen, strict=True):
        assert ids.dtype == np.int32
        assert ids.tolist() == row.argmax(-1)[:count].tolist()
        np.testing.assert_allclose(confidences, row.max(-1)[:count], rtol=1e-5)
