"""Token times against FunASR's rule, worked out by hand, and those of a timestamp head also against its own numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model.lattice import Lattice
from parastream.model.timestamps import timed_finely, token_times, upsampled_token_times
from parastream.model.tokens import Tokens

from ..reference import recipe
from ..reference.driver import FOLDER

CHARACTER, END = 20, 2


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


def tokens(ids: list[int]) -> Tokens:
    places = np.arange(len(ids))
    return Tokens(np.array(ids, np.int32), np.ones(len(ids), np.float32), places)


def times(ids: list[int], weights: NDArray[np.float32]) -> list[Any]:
    """Starts and ends of the tokens, in finer rows of 20 ms."""
    found = timed_finely(tokens(ids), weights, 3)
    assert found.upsampled is not None
    starts, ends = upsampled_token_times(found.rows, found.upsampled)
    return [(pytest.approx(start / 0.02), pytest.approx(end / 0.02)) for start, end in zip(starts, ends, strict=True)]


def fired(total: int, *rows: int) -> NDArray[np.float32]:
    """Weights of a head that fires in some rows."""
    weights = np.zeros(total, np.float32)
    weights[list(rows)] = 0.1
    return weights


def test_a_timestamp_head_fires_where_a_token_begins() -> None:
    # The end token fires where the last word is over: so much of the silence behind it belongs to it.
    assert times([CHARACTER, CHARACTER, END], fired(60, 10, 20, 30)) == [(8.5, 18.5), (18.5, 44.25), (28.5, 28.5)]
    assert times([CHARACTER, CHARACTER, END], fired(33, 10, 20, 30))[1] == (18.5, 33)


def test_the_last_token_of_a_timestamp_head_may_be_followed_by_silence() -> None:
    assert times([CHARACTER, CHARACTER, END], fired(60, 1, 20, 40))[:2] == [(0, 11.5), (18.5, 30.5)]


def test_tokens_that_stand_for_nothing_do_not_count() -> None:
    found = timed_finely(tokens([0, CHARACTER, 1, CHARACTER, END, END]), fired(60, 10, 20, 30), 3)
    assert found.rows.tolist() == [10, 10, 20, 20, 30, 30]
    assert timed_finely(tokens([END]), fired(60, 10), 3).rows.tolist() == [10]
    assert times([END], fired(60, 10)) == [(8.5, 8.5)]


def test_positions_of_a_lattice_have_the_same_rows() -> None:
    ids = np.zeros((2, 1), np.int32)
    lattice = Lattice(ids, ids.astype(np.float32), ids[0], ids.astype(np.float32), np.arange(2))
    found = timed_finely(replace(tokens([CHARACTER, END]), lattice=lattice), fired(9, 2, 5), 3)
    assert found.lattice is not None
    assert found.lattice.rows.tolist() == found.rows.tolist() == [2, 5]


def test_a_head_that_knows_nothing_spreads_the_tokens() -> None:
    assert timed_finely(tokens([CHARACTER, CHARACTER, END]), fired(30), 3).rows.tolist() == [9, 19, 29]


@pytest.mark.parametrize(("stage", "last"), [("times", CHARACTER), ("times_short", END)])
def test_times_of_a_timestamp_head_are_those_of_funasr(stage: str, last: int) -> None:
    expected = dict(np.load(FOLDER / recipe.SEACO_SIZE / "seaco.npz"))
    ids = [CHARACTER] * (expected["plain"].shape[1] - 1) + [last]
    found = timed_finely(tokens(ids), expected["us_alphas"][0], recipe.UPSAMPLING)
    if last == END:
        assert found.rows.tolist() == np.flatnonzero(expected["us_peaks"][0] >= 1 - 1e-4).tolist()
    assert found.upsampled is not None
    pairs = np.stack(upsampled_token_times(found.rows, found.upsampled), axis=1)[: len(expected[stage])]
    np.testing.assert_allclose(pairs, expected[stage] / 1000, atol=1.01e-3)  # FunASR cuts to milliseconds


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(0, 50))
def test_times_are_ordered_and_inside_the_utterance(rows: list[int], more: int) -> None:
    fired = np.array(sorted(rows), np.int64)
    total = (int(fired[-1]) if len(fired) else 0) + 1 + more
    starts, ends = token_times(fired, total)
    assert (np.diff(starts) >= 0).all()
    assert (ends > starts).all()
    assert (starts >= 0).all()
    assert (ends <= total * 0.06 + 1e-9).all()
