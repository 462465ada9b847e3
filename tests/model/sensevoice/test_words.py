"""From runs of pieces to words: spaces, scripts without any, marks, numbers."""

from __future__ import annotations

import pytest
from parastream.model.errors import ModelConfigError
from parastream.model.final_pass import TimedWord
from parastream.model.sensevoice.vocabulary import Vocabulary
from parastream.model.sensevoice.words import Run, timed_words
from parastream.model.text import join


def words(*pieces: str) -> tuple[TimedWord, ...]:
    """Words of pieces that take a row each, with a row between them; each is less sure than the one before."""
    runs = [Run(i, 2 * i, 2 * i + 1, 1 - i / 100) for i in range(len(pieces))]
    return timed_words(runs, lambda token: pieces[token], 2 * len(pieces), 0.12 * len(pieces))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("the", "▁tri", "b", "al", "▁chief"), ["the", "tribal", "chief"]),
        (("▁it", "'", "s", "▁50", "%", "▁of", "▁$", "3", ".", "14", "."), ["it's", "50%", "of", "$3.14."]),
        (("今", "天", "天", "气", "不", "错", "。"), ["今", "天", "天", "气", "不", "错。"]),
        (("用", "Py", "thon", "写", "，", "good", "▁code"), ["用", "Python", "写，", "good", "code"]),
        (("です", "ね", "。", "はい"), ["です", "ね。", "はい"]),
        (("안녕", "하세", "요", ".", "▁네"), ["안녕하세요.", "네"]),
        (("t", "▁", "o"), ["t", "o"]),
        (("▁say", "▁“", "yes", "”", "▁no"), ["say", "“yes”", "no"]),
        (("", "a", ""), ["a"]),
        (("。", "▁"), []),
        ((), []),
    ],
)
def test_words(pieces: tuple[str, ...], expected: list[str]) -> None:
    assert [word.text for word in words(*pieces)] == expected


def test_a_text_reads_as_it_was_written() -> None:
    assert join(w.text for w in words("我", "们", "在", "▁Mon", "day", "见", "，", "好", "吗", "？")) == (
        "我们在 Monday 见，好吗？"
    )


def test_marks_take_no_part_in_times_and_confidences() -> None:
    first, second = words("▁so", "me", ",", "▁one", ".")
    assert (first.text, first.start, first.confidence) == ("some,", 0.0, 0.99)
    assert first.end == pytest.approx(0.15)  # row 2 is the third: 0.18 s less half a row
    assert (second.start, second.end, second.confidence) == pytest.approx((0.33, 0.39, 0.97))


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelConfigError, match=r"not SenseVoice's vocabulary: it has no <\|zh\|>"):
        Vocabulary(["<unk>", "a", "b"])
