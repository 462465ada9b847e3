"""Hotwords as an automaton: whatever was granted for a word that broke off is given back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.hotwords import Hotword
from parastream.model.search.automaton import BONUS, BONUS_UNSPACED, OUTSIDE, ROOT, Automaton
from parastream.model.search.lexicon import Lexicon
from parastream.model.search.spoken import spoken_forms

PIECES = [
    "<blank>",
    "new",
    "york",
    "ne@@",
    "w",
    "yo@@",
    "rk",
    "times",
    "ti@@",
    "m",
    "es",
    "a",
    "b",
    "x@@",
    "阿",
    "里",
    "巴",
]
LEXICON = Lexicon(PIECES)


def automaton(*terms: str | Hotword) -> Automaton:
    return Automaton(tuple(Hotword(t) if isinstance(t, str) else t for t in terms), LEXICON)


def names(tokens: Iterable[int]) -> set[str]:
    return {PIECES[token] for token in tokens}


def total(hotwords: Automaton, pieces: str) -> float:
    """What an utterance earns in all."""
    score, state = 0.0, ROOT
    for piece in pieces.split():
        gain, state = hotwords.advance(state, PIECES.index(piece))
        score += gain
    return score + hotwords.end(state)


@pytest.mark.parametrize(
    ("pieces", "earned"),
    [
        ("new york", 9 * BONUS),
        ("ne@@ w yo@@ rk", 9 * BONUS),  # in whatever pieces
        ("a new york b", 9 * BONUS),
        ("new york new york", 18 * BONUS),
        ("new", 0.0),
        ("new times", 0.0),
        ("new new york", 9 * BONUS),
        ("x@@ new york", 0.0),  # in the middle of a word: "xnew"
        ("x@@ new a new york", 9 * BONUS),
        ("<blank> new <blank> york", 9 * BONUS),
        ("", 0.0),
    ],
)
def test_complete_hotwords_earn_their_characters(pieces: str, earned: float) -> None:
    assert total(automaton("new york"), pieces) == pytest.approx(earned)


@pytest.mark.parametrize(
    ("pieces", "earned"),
    [
        ("阿 里", 2 * BONUS_UNSPACED),
        ("阿 阿 里 里", 2 * BONUS_UNSPACED),
        ("a 阿 里 b", 2 * BONUS_UNSPACED),
        ("x@@ 阿 里", 2 * BONUS_UNSPACED),  # no space is needed before it
        ("阿 里 巴", 2 * BONUS_UNSPACED),
        ("阿 巴", 0.0),
    ],
)
def test_characters_of_their_own_begin_anywhere_and_earn_more(pieces: str, earned: float) -> None:
    assert total(automaton("阿里"), pieces) == pytest.approx(earned)


def test_hotwords_may_overlap() -> None:
    offset = -0.5 * math.log(2)
    hotwords = automaton("阿里", "里巴阿")
    assert total(hotwords, "阿 里 巴 阿") == pytest.approx(5 * BONUS_UNSPACED + 2 * offset)
    assert total(hotwords, "阿 里 巴") == pytest.approx(2 * BONUS_UNSPACED + offset)


def test_one_hotword_may_be_the_beginning_or_the_end_of_another() -> None:
    offset = -0.5 * math.log(3)
    hotwords = automaton("new york", "new york times", "york a")
    assert total(hotwords, "new york") == pytest.approx(9 + offset)
    assert total(hotwords, "new york times") == pytest.approx(15 + offset)
    assert total(hotwords, "new york ti@@ b") == pytest.approx(9 + offset)
    assert total(hotwords, "new york a") == pytest.approx(9 + 7 + 2 * offset), "both are there"


def test_more_hotwords_are_each_expected_less() -> None:
    many = [f"{a}{b}" for a in "ab" for b in ("new", "york", "a")]
    assert total(automaton("york", *many[:3]), "york") == pytest.approx(5 - 0.5 * math.log(4))
    others = [f"b {x} {y} {z}" for x in many for y in many for z in many]
    assert total(automaton("a", *others), "a") == 0.0, "but none is a disadvantage"


def test_weights_multiply_the_bonus() -> None:
    assert total(automaton(Hotword("york", 2.0)), "york") == pytest.approx(10)
    assert total(automaton(Hotword("york", 0.5)), "york") == pytest.approx(2.5)


def test_tokens_that_go_on_with_a_hotword() -> None:
    hotwords = automaton("new york")
    assert names(hotwords.going_on(ROOT)) == {"new", "ne@@"}
    assert names(hotwords.going_on(OUTSIDE)) == set()
    _, state = hotwords.advance(ROOT, PIECES.index("ne@@"))
    assert names(hotwords.going_on(state)) == {"w"}
    _, state = hotwords.advance(ROOT, PIECES.index("new"))
    assert names(hotwords.going_on(state)) == {"york", "yo@@"}
    assert names(hotwords.tokens.tolist()) == {"new", "york", "ne@@", "w", "yo@@", "rk"}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parastream.model.search.automaton._MOST_CACHED", 3)
    hotwords = automaton("new york times")
    assert total(hotwords, "ne@@ w yo@@ rk ti@@ m es") == pytest.approx(0.0)
    assert total(hotwords, "ne@@ w yo@@ rk times") == pytest.approx(15.0)
    for _ in range(3):
        for state in range(10):
            hotwords.going_on(state)
    assert len(hotwords._advanced) <= 3
    assert len(hotwords._going_on) <= 3


@given(st.lists(st.sampled_from(PIECES), max_size=10))
def test_what_is_earned_is_what_can_be_read(pieces: list[str]) -> None:
    """Against a search in the text: for hotwords none of which can overlap another."""
    text = "".join(LEXICON.texts[PIECES.index(piece)] for piece in pieces)
    hotwords = automaton("new", "阿里")
    offset = -0.5 * math.log(2)
    whole = text if text.endswith(" ") or not text else text + " "  # the end completes the last word
    found = len(re.findall(r"(?<![a-z])new ", whole)), whole.count("阿里")
    earned = found[0] * (4 * BONUS + offset) + found[1] * (2 * BONUS_UNSPACED + offset)
    assert total(hotwords, " ".join(pieces)) == pytest.approx(earned)


@pytest.mark.parametrize(
    ("term", "forms"),
    [
        ("MLX", ["m l x ", "mlx "]),
        ("NASA", ["n a s a ", "nasa "]),
        ("Nguyễn", ["nguyen "]),
        ("Đặng Løvstad", ["dang lovstad "]),
        ("GPT-4o", ["g p t four o ", "gpt four o "]),
        ("PyTorch", ["py torch ", "pytorch "]),
        ("New York", ["new york "]),
        ("O'Brien", ["o brien ", "obrien ", "o'brien "]),
        ("5G手机", ["五g 手机"]),
        ("阿里巴巴", ["阿里巴巴"]),
        ("☃", []),
        ("ж", []),  # a letter that this model cannot write
    ],
)
def test_how_hotwords_are_spoken(term: str, forms: list[str]) -> None:
    lexicon = Lexicon([*"abcdefghijklmnopqrstuvwxyz'", *"五手机阿里巴"])
    assert spoken_forms(Hotword(term), lexicon) == forms


def test_what_a_hotword_sounds_like_may_be_said() -> None:
    lexicon = Lexicon(list("abcdefghijklmnopqrstuvwxyz'"))
    hotword = Hotword("GPT-4o", 1.0, ("G P T four oh", "gee pee tee 4"))
    assert spoken_forms(hotword, lexicon) == ["g p t four oh "], "digits cannot be written by this model"
