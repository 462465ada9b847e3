"""Transcripts in their written forms: read back by the library that reads such files, and property tests."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.server.subtitles import (
    Cue,
    CueRules,
    TranscriptFormat,
    cues,
    join_texts,
    render,
)


@dataclass(frozen=True)
class Word:
    text: str
    start: float
    end: float
    confidence: float = 0.9


@dataclass(frozen=True)
class Utterance:
    text: str
    start: float
    end: float
    words: tuple[Word, ...]


def utterance(text: str, *, start: float = 0.0, each: float = 0.3, pauses: dict[int, float] | None = None) -> Utterance:
    """Words of `each` seconds; `pauses[i]` is the silence in front of word i."""
    words = []
    clock = start
    for index, word in enumerate(text.split()):
        clock += (pauses or {}).get(index, 0.0)
        words.append(Word(word, clock, clock + each))
        clock += each
    return Utterance(text, start, clock, tuple(words))


LONG = (
    "Enter one seventy six and then erase the second line, which nobody needs any more. "
    "After that we go on with the third one and leave it as it stands."
)


def test_short_utterance_is_one_cue() -> None:
    assert cues([utterance("Enter one seventy six.", start=1.5, each=0.5)]) == [
        Cue(1.5, 3.5, ("Enter one seventy six.",))
    ]


def test_cuts_at_sentence_end_then_comma() -> None:
    lines = [" ".join(cue.lines) for cue in cues([utterance(LONG)])]
    assert lines == [
        "Enter one seventy six and then erase the second line, which nobody needs any more.",
        "After that we go on with the third one and leave it as it stands.",
    ]
    comma = "this is one rather long phrase with many words, and this is another one of about the same length"
    assert next(" ".join(cue.lines) for cue in cues([utterance(comma)])).endswith("words,")


def test_cuts_at_longest_pause_without_marks() -> None:
    text = " ".join(f"word{index:02d}" for index in range(20))
    found = cues([utterance(text, pauses={6: 0.1, 9: 0.4, 12: 0.2})])
    assert found[1].lines[0].startswith("word09")


def test_lines_are_balanced_and_short_enough() -> None:
    found = cues([utterance(LONG)])
    assert found[0].lines == (
        "Enter one seventy six and then erase the",
        "second line, which nobody needs any more.",
    )


def test_full_width_characters_take_two_columns() -> None:
    text = "重点呢想谈三个问题，首先呢就是这一轮全球金融动荡的表现。" * 3
    spoken = [character for character in text if character not in "，。"]
    found = cues([Utterance(text, 0, 20, tuple(Word(c, i * 0.2, i * 0.2 + 0.2) for i, c in enumerate(spoken)))])
    assert len(found) > 1
    assert all(len(line) <= 21 for cue in found for line in cue.lines)
    assert all(line[0] not in "，。" for cue in found for line in cue.lines)
    assert "".join(line for cue in found for line in cue.lines) == text


def test_marks_may_be_missing_from_words() -> None:
    spoken = Utterance("Rubout, GMEF three.", 0, 2, (Word("rubout", 0, 1), Word("GMEF", 1, 1.5), Word("three", 1.5, 2)))
    assert cues([spoken])[0].lines == ("Rubout, GMEF three.",)


def test_short_cue_stays_for_a_second_unless_the_next_one_comes() -> None:
    first, second = utterance("go", start=1.0), utterance("stop", start=1.6)
    assert [(cue.start, round(cue.end, 3)) for cue in cues([first, second])] == [(1.0, 1.6), (1.6, 2.6)]


def test_utterance_without_text_makes_no_cue() -> None:
    assert cues([Utterance("", 0, 1, ())]) == []


def test_rules_are_checked() -> None:
    with pytest.raises(ValueError, match="columns=1"):
        CueRules(columns=1)


@pytest.mark.parametrize("form", [TranscriptFormat.SRT, TranscriptFormat.VTT])
def test_subtitle_files_read_back(form: TranscriptFormat) -> None:
    utterances = [utterance(LONG, start=3600.25), utterance("Ten twenty seven sixty two.", start=3620)]
    written = render(utterances, form)
    assert written.startswith("WEBVTT\n" if form is TranscriptFormat.VTT else "1\n01:00:00,250 -->")
    read = pysubs2.SSAFile.from_string(written, form.value)
    assert [(event.start, event.end, event.plaintext) for event in read] == [
        (round(cue.start * 1000), round(cue.end * 1000), "\n".join(cue.lines)) for cue in cues(utterances)
    ]


def test_nothing_said() -> None:
    assert render([], TranscriptFormat.SRT) == ""
    assert render([], TranscriptFormat.VTT) == "WEBVTT\n\n"
    assert render([], TranscriptFormat.TEXT) == "\n"
    assert json.loads(render([], TranscriptFormat.JSONL, file="a.wav")) == {
        "file": "a.wav",
        "text": "",
        "utterances": [],
    }


def test_json_lines() -> None:
    spoken = [Utterance("你好。", 0.1, 0.5, (Word("你", 0.1234567, 0.3, 0.98765), Word("好。", 0.3, 0.5)))]
    written = render(spoken, TranscriptFormat.JSONL, file="声音.flac")
    assert written.count("\n") == 1
    assert json.loads(written) == {
        "file": "声音.flac",
        "text": "你好。",
        "utterances": [
            {
                "text": "你好。",
                "start": 0.1,
                "end": 0.5,
                "words": [
                    {"text": "你", "start": 0.123, "end": 0.3, "confidence": 0.9877},
                    {"text": "好。", "start": 0.3, "end": 0.5, "confidence": 0.9},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["Yes.", "No."], "Yes. No."),
        (["是。", "不是。"], "是。不是。"),
        (["Yes.", "不是。", "", "OK."], "Yes.不是。OK."),
        ([], ""),
    ],
)
def test_join_texts(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


@st.composite
def transcripts(draw: st.DrawFn) -> list[Utterance]:
    clock = 0.0
    result = []
    for _ in range(draw(st.integers(0, 3))):
        shown = draw(
            st.lists(
                st.sampled_from(["a", "seven", "GMEF", "seventy,", "nine.", "你", "好。"]),
                min_size=1,
                max_size=40,
            )
        )
        words = []
        begin = clock
        for text in shown:
            clock += draw(st.sampled_from([0.0, 0.0, 0.12, 0.5]))
            words.append(Word(text, clock, clock + 0.24))
            clock += 0.24
        result.append(Utterance(" ".join(shown), begin, clock, tuple(words)))
    return result


@given(transcripts())
def test_cues_keep_the_rules_and_every_word(utterances: list[Utterance]) -> None:
    rules = CueRules()
    found = cues(utterances, rules)
    shown = " ".join(line for cue in found for line in cue.lines).split()
    assert shown == [word for u in utterances for word in u.text.split()]
    for cue in found:
        assert cue.start < cue.end <= cue.start + rules.longest + 1e-9
        assert 1 <= len(cue.lines) <= rules.lines
        assert all(0 < len(line) <= rules.columns for line in cue.lines)
    for before, after in itertools.pairwise(found):
        assert before.end <= after.start + 1e-9
