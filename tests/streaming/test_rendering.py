"""From tokens to text: what is settled, when words were spoken, and how sure they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.final_pass import TimedWord
from parastream.model.search.search import WordSearch
from parastream.model.tokenizer import Tokenizer
from parastream.model.tokens import Tokens
from parastream.streaming.events import Word
from parastream.streaming.heard import Heard
from parastream.streaming.rendering import (
    Rendering,
    capitalised,
    continued,
    ends_sentence,
    placed_words,
    render,
    rounded_confidence,
    session_time,
    spelled_words,
    unmarked,
)

TOKENS = ["<blank>", "<unk>", "hel@@", "lo", "hello", "wor@@", "ld", "a", "b", "'s", "-", "你", "好", "1", "0@@", "."]
TOKENIZER = Tokenizer(TOKENS)
RATE = 16000
START, END = 2 * RATE, 5 * RATE


def tokens(text: str, *, confidences: list[float] | None = None, every: int = 5) -> Tokens:
    """The tokens that a text names, one of which fires in every so many rows."""
    ids = [TOKENS.index(token) for token in text.split()]
    rows = every * np.arange(1, len(ids) + 1, dtype=np.int64)
    given = np.ones(len(ids), np.float32) if confidences is None else np.array(confidences, np.float32)
    return Tokens(np.array(ids, np.int32), given, rows)


def rendered(text: str, *, end: int = END, **given: Any) -> Rendering:
    hearing = Heard(WordSearch(TOKENIZER), ())
    hearing.take(tokens(text, **given))
    return render(*hearing.shown((end - START) / RATE), START)


@pytest.mark.parametrize(
    ("text", "stable", "draft"),
    [
        ("", "", ""),
        ("<blank> <unk>", "", ""),
        ("hel@@", "", "hel"),
        ("hel@@ lo", "", "hello"),
        ("hel@@ lo wor@@", "hello", " wor"),
        ("hel@@ lo wor@@ ld", "hello", " world"),
        ("hello 你", "hello", " 你"),
        ("你 好", "你", "好"),
        ("hello a", "hello", " a"),
        ("hello a b", "hello", " AB"),  # spelled out: one word, which may still grow
        ("hello a b hello", "hello AB", " hello"),
    ],
)
def test_all_words_but_the_last_are_settled(text: str, stable: str, draft: str) -> None:
    found = rendered(text)
    assert (found.stable, found.draft, found.text) == (stable, draft, stable + draft)


@given(st.lists(st.sampled_from(TOKENS), max_size=12), st.integers(0, 12))
def test_further_tokens_change_nothing_that_is_settled(text: list[str], cut: int) -> None:
    before, after = rendered(" ".join(text[:cut])), rendered(" ".join(text))
    assert after.text.startswith(before.stable)
    assert after.stable.startswith(before.stable)
    settled = [word.text for word in before.words[:-1]]
    assert [word.text for word in after.words[: len(settled)]] == settled


def test_words_are_where_their_tokens_fired() -> None:
    first, second = rendered("hel@@ lo 你").words
    # CIF fires 1.5 rows of 60 ms after a token begins: in rows 5, 10 and 15 of an utterance that begins at 2 s.
    assert (first.text, first.start, first.end) == ("hello", 2.21, 2.81)
    assert (second.text, second.start, second.end) == ("你", 2.81, 3.53)


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=12), st.integers(1, 60), st.integers(1, 8))
def test_no_word_leaves_its_utterance(text: list[str], length: int, every: int) -> None:
    end = START + length * 960 // 2
    found = rendered(" ".join(text), end=end, every=every)
    for word in found.words:
        assert session_time(START) <= word.start <= word.end <= session_time(end)


def test_a_word_is_as_sure_as_its_least_sure_token() -> None:
    found = rendered("hel@@ lo 你", confidences=[0.91234567, 0.5, 0.25])
    assert [word.confidence for word in found.words] == [0.5, 0.25]


def test_times_and_confidences_are_rounded() -> None:
    assert session_time(1) == 0.0
    assert session_time(16_007) == 1.0
    assert session_time(16_008, 0.25) == 1.25  # half way to the next millisecond, to the even one
    assert rounded_confidence(0.123456) == 0.1235


def test_marks_change_how_words_are_spelled_but_not_where_they_are() -> None:
    words = [TimedWord("hello", 0.0, 0.5, 0.5), TimedWord("world", 0.5, 1.0, 0.25), TimedWord("你", 1.0, 1.5, 1.0)]
    text, spelled = placed_words(spelled_words(words, ["Hello,", "world.", "你。"]), RATE)
    assert text == "Hello, world. 你。"
    assert spelled == (Word("Hello,", 1.0, 1.5, 0.5), Word("world.", 1.5, 2.0, 0.25), Word("你。", 2.0, 2.5, 1.0))
    with pytest.raises(ValueError, match="zip"):
        spelled_words(words, ["Hello,"])


@pytest.mark.parametrize(
    ("spelled", "ends"),
    [([], False), (["one."], True), (["one", "two?”"], True), (["one,"], False), (["好。"], True), (["3.5"], False)],
)
def test_the_last_mark_says_whether_a_sentence_ends(spelled: list[str], ends: bool) -> None:
    assert ends_sentence(spelled) is ends


def test_a_sentence_that_goes_on_after_a_cut_has_no_capital_in_its_middle() -> None:
    assert continued(["And", "then", "London"]) == ["and", "then", "London"]
    assert continued(["London", "is"]) == ["London", "is"]
    assert continued(["I", "know"]) == ["I", "know"]
    assert continued([]) == []


def test_a_sentence_begins_with_a_capital() -> None:
    assert capitalised(["of", "the"]) == ["Of", "the"]
    assert capitalised(["“so”"]) == ["“so”"]
    assert capitalised([]) == []


def test_words_without_their_marks_and_capitals() -> None:
    said = ["“Enter", "GMEF", "39,”", "don't", "U.S.", "Well-known", "I", "-"]
    assert unmarked(said) == ["enter", "GMEF", "39", "don't", "U.S", "well-known", "i", "-"]
