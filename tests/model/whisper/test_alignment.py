"""Times of tokens from cross-attention."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from parastream.model.whisper.alignment import path_starts, token_starts


def cheapest(costs: np.ndarray) -> float:
    """The cost of the cheapest path, by trying the first columns of all rows."""
    rows, columns = costs.shape
    best = np.inf
    for starts in itertools.combinations_with_replacement(range(columns), rows - 1):
        edges = [0, *starts, columns - 1]
        for steps in itertools.product([0, 1], repeat=rows - 1):
            # A row ends where the next one starts, or just before it.
            ends = [max(start, edge - step) for start, edge, step in zip(edges, edges[1:], [*steps, 0], strict=False)]
            total = sum(costs[i, edges[i] : ends[i] + 1].sum() for i in range(rows))
            if all(end >= edge - 1 for end, edge in zip(ends, edges[1:], strict=False)):
                best = min(best, total)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_path_is_the_cheapest(seed: int) -> None:
    generator = np.random.default_rng(seed)
    costs = generator.standard_normal((int(generator.integers(1, 5)), int(generator.integers(1, 7))))
    starts = path_starts(costs)
    assert starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    rows, columns = costs.shape
    found = np.inf
    for steps in itertools.product([0, 1], repeat=rows - 1):
        edges = [*starts.tolist(), columns - 1]
        ends = [max(edges[i], edges[i + 1] - step) for i, step in enumerate([*steps, 0])]
        found = min(found, sum(costs[i, edges[i] : ends[i] + 1].sum() for i in range(rows)))
    assert found == pytest.approx(cheapest(costs))


def test_tokens_begin_where_they_are_attended_to() -> None:
    places = [5, 20, 40, 47, 80]
    scores = np.random.default_rng(0).standard_normal((5, 3, 100)).astype(np.float32)
    for row, (first, following) in zip(scores, itertools.pairwise([*places, 100]), strict=True):
        row[:, first:following] += 6
    found = token_starts(scores)
    assert len(found) == 4
    np.testing.assert_allclose(found, np.array(places[1:]) * 0.02, atol=0.061)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_the_shortest_utterances_have_times(frames: int) -> None:
    scores = np.random.default_rng(0).standard_normal((4, 2, frames)).astype(np.float32)
    found = token_starts(scores)
    assert found.shape == (3,)
    assert (found >= 0).all()
    assert (found <= frames * 0.02).all()
