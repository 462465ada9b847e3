"""Times of words for clients of FunASR."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.text import join
from parastream.server.protocols.funasr.messages import Sentence
from parastream.server.protocols.funasr.stamps import Spoken
from parastream.server.wire.messages import Word


def words(*texts: str) -> list[Word]:
    return [Word(text, 1 + index, 2 + index, 0.5) for index, text in enumerate(texts)]


def spoken(*texts: str) -> Spoken:
    return Spoken(join(texts), words(*texts))


def counted_by_the_page(text: str) -> list[tuple[str, int]]:
    """The pieces that FunASR's web page cuts a text into, and which stamp it reads for each; then their number."""
    found, index = [], 0
    for piece in filter(None, re.split("[。？，、?. ,]", text)):
        found.append((piece, index))
        index += 1 if re.fullmatch("[a-zA-Z]+", piece) else len(piece.encode("utf-16-le")) // 2
    return [*found, ("", index)]


def test_english() -> None:
    sentences = spoken("Enter", "one,", "it's", "two.", "Three")
    assert sentences.text == "Enter one, it's two. Three"
    assert sentences.timed
    assert sentences.timestamp == [
        *((1000, 2000), (2000, 3000), (3000, 3250), (3250, 3500), (3500, 3750), (3750, 4000), (4000, 5000)),
        (5000, 6000),
    ]
    assert sentences.sentences == (
        Sentence("Enter one", ",", 1000, 3000, ((1000, 2000), (2000, 3000))),
        Sentence("it's two", ".", 3000, 5000, ((3000, 4000), (4000, 5000))),
        Sentence("Three", "", 5000, 6000, ((5000, 6000),)),
    )


def test_chinese() -> None:
    sentences = spoken("正", "是", "因为，", "iPhone", "好？！")
    assert sentences.timestamp == [
        (1000, 2000),
        (2000, 3000),
        (3000, 3500),
        (3500, 4000),
        (4000, 5000),
        (5000, 6000),
        (6000, 6000),
    ]
    assert sentences.sentences == (
        Sentence("正 是 因 为", "，", 1000, 4000, ((1000, 2000), (2000, 3000), (3000, 3500), (3500, 4000))),
        Sentence("iPhone 好", "？！", 4000, 6000, ((4000, 5000), (5000, 6000))),
    )


@pytest.mark.parametrize(("text", "given"), [("", []), (",", words(",")), ("Other text.", words("Enter"))])
def test_nothing_is_said_without_words_or_when_they_are_others(text: str, given: list[Word]) -> None:
    assert not Spoken(text, given).timed


def test_marks_before_the_first_word_do_not_matter() -> None:
    assert Spoken("one two.", words("，", "，one", "two.")).timestamp == [(2000, 3000), (3000, 4000)]


WORDS = st.lists(
    st.text(st.sampled_from("abcXYZ0189'-&é世界你好𠀀😀"), min_size=1, max_size=6).flatmap(
        lambda word: st.sampled_from([word, word + ",", word + ".", word + "？", word + "！", word + "?!"])
    ),
    min_size=1,
    max_size=12,
)


@given(WORDS)
def test_the_page_finds_a_stamp_for_each_piece_and_it_is_the_right_one(texts: list[str]) -> None:
    sentences = spoken(*texts)
    pieces = counted_by_the_page(sentences.text)
    assert len(sentences.timestamp) == pieces[-1][1]
    assert all(start <= end for start, end in sentences.timestamp)
    assert sentences.timestamp == sorted(sentences.timestamp)
    assert "".join(piece.text_seg.replace(" ", "") for piece in sentences.sentences) == re.sub(
        "[ ,.？！?!]", "", sentences.text
    )


@given(st.lists(st.sampled_from(["one", "two.", "three,", "你", "好。", "it's"]), min_size=1, max_size=12))
def test_stamps_are_those_of_the_words(texts: list[str]) -> None:
    sentences = spoken(*texts)
    for piece, index in counted_by_the_page(sentences.text)[:-1]:
        if index < len(sentences.timestamp):
            start = sentences.timestamp[index][0] // 1000 - 1
            assert piece[0] in texts[start]
