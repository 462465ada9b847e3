"""Token times against FunASR's rule, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.timestamps import token_times


def test_a_token_lasts_from_its_own_fire_to_the_next_one() -> None:
    starts, ends = token_times(np.array([4, 8, 11]), 20)
    assert starts == pytest.approx([0.15, 0.39, 0.57])
    assert ends == pytest.approx([0.39, 0.57, 0.57 + 0.63])


def test_after_twelve_rows_the_gap_is_silence() -> None:
    starts, ends = token_times(np.array([4, 40]), 60)
    assert ends - starts == pytest.approx([0.72, 0.72])


def test_tokens_that_fire_together_at_the_end_last_a_row() -> None:
    starts, ends = token_times(np.array([9, 9]), 10)
    assert starts == pytest.approx([0.45, 0.45])
    assert ends == pytest.approx([0.51, 0.6])


def test_no_tokens() -> None:
    starts, ends = token_times(np.zeros(0, np.int64), 10)
    assert len(starts) == len(ends) == 0


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(0, 50))
def test_times_are_ordered_and_inside_the_utterance(rows: list[int], more: int) -> None:
    fired = np.array(sorted(rows), np.int64)
    total = (int(fired[-1]) if len(fired) else 0) + 1 + more
    starts, ends = token_times(fired, total)
    assert (np.diff(starts) >= 0).all()
    assert (ends > starts).all()
    assert (starts >= 0).all()
    assert (ends <= total * 0.06 + 1e-9).all()
