"""Guards of decoding: loops, budgets; and hotwords."""

from __future__ import annotations

import pytest
from parastream.model.whisper.bias import FIRST, INSIDE, HotwordBias
from parastream.model.whisper.decoding import Decoding, most_tokens, repeated


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], 0),
        ([5] * 5, 0),
        ([5] * 6, 5),
        ([1, 2, 5, 5, 5, 5, 5, 5], 5),
        ([3, 9] * 3, 0),  # a digit said three times, with commas
        ([3, 9] * 4, 6),
        ([1, 2, 3] * 2, 0),
        ([1, 2, 3] * 3, 6),
        ([7, 1, 2, 3, 1, 2, 3, 1, 2, 3], 6),
        ([1, 2, 3, 1, 2, 3, 1, 2, 4], 0),
        (list(range(40)) * 3, 80),
        (list(range(40)), 0),
    ],
)
def test_a_loop_is_an_n_gram_three_times_in_a_row(ids: list[int], expected: int) -> None:
    assert repeated(ids) == expected


def test_an_utterance_stops_at_its_end_at_a_loop_or_at_its_budget() -> None:
    end = 50256
    decoding = Decoding(frames=10, limit=3)
    assert decoding.take(1, -0.1, end)
    assert not decoding.take(end, -0.2, end)
    assert (decoding.ids, decoding.log_probabilities, decoding.repeated) == ([1], [-0.1, -0.2], 0)
    decoding = Decoding(frames=10, limit=3)
    assert [decoding.take(token, -0.1, end) for token in (1, 2, 3)] == [True, True, False]
    decoding = Decoding(frames=10, limit=100)
    assert [decoding.take(4, -0.1, end) for _ in range(6)] == [True] * 5 + [False]
    assert decoding.repeated == 5


def test_the_budget_grows_with_the_length_and_fits_the_decoder() -> None:
    assert [most_tokens(seconds, 448) for seconds in (0, 2.5, 10, 29)] == [16, 36, 96, 224]


def test_hotwords_get_a_small_bonus_at_their_first_token_and_a_larger_one_inside() -> None:
    bias = HotwordBias([([1, 2, 3], 1.0), ([1, 4], 1.0), ([5], 1.0), ([2, 6], 1.0)])
    first = {1: FIRST, 5: FIRST, 2: FIRST}
    assert bias.bonuses([]) == first
    assert bias.bonuses([9]) == first
    assert bias.bonuses([9, 1]) == first | {2: INSIDE, 4: INSIDE}
    assert bias.bonuses([1, 2]) == first | {3: INSIDE, 6: INSIDE}  # two paths are open
    assert bias.bonuses([1, 2, 3]) == first
    assert bias.bonuses([1, 9, 2]) == first | {6: INSIDE}
    assert HotwordBias([]).bonuses([1]) == {}


def test_the_bonus_of_a_hotword_is_multiplied_by_its_weight() -> None:
    bias = HotwordBias([([1, 2], 0.5), ([1, 3], 2.0)])
    assert bias.bonuses([]) == {1: 2 * FIRST}
    assert bias.bonuses([1]) == {1: 2 * FIRST, 2: INSIDE / 2, 3: 2 * INSIDE}
