"""Where subtitles are cut and how long they are shown: examples, and properties of any transcript."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.server.transcripts import cues as cues_module
from parastream.server.transcripts.cues import Cue, CueCache, SubtitleStyle, cues, lay_out, time_cues
from parastream.server.transcripts.utterance import AttributedUtterance

from tests.server.transcripts.saying import LONG, Word, utterance


def lines(utterances: list[AttributedUtterance], style: SubtitleStyle = SubtitleStyle()) -> list[tuple[str, ...]]:
    return [cue.lines for cue in cues(utterances, style)]


def test_short_utterance_is_one_cue() -> None:
    assert cues([utterance("Enter one seventy six.", start=1.5, each=0.5)]) == [
        Cue(1.5, 3.5, ("Enter one seventy six.",))
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # At the ends of sentences and at commas, with lines that begin with a conjunction.
        (
            LONG,
            [
                ("Enter one seventy six", "and then erase the second line,"),
                ("which nobody needs any more.",),
                ("After that we go on with the third one", "and leave it as it stands."),
            ],
        ),
        # No article, preposition or pronoun at the end of a line.
        (
            "The committee of the house has not been able to agree "
            "with the president of the united states about the future of the programme.",
            [
                ("The committee of the house", "has not been able to agree"),
                ("with the president of the united states", "about the future of the programme."),
            ],
        ),
        # Sentences do not share a cue when there is time for each.
        (
            "It depends on what you mean by that. Really? No.",
            [("It depends on what you mean by that.",), ("Really? No.",)],
        ),
    ],
)
def test_where_text_is_cut(text: str, shown: list[tuple[str, ...]]) -> None:
    assert lines([utterance(text)]) == shown


def test_cuts_in_the_longest_pause_without_marks() -> None:
    text = " ".join(f"word{index:02d}" for index in range(20))
    found = lines([utterance(text, pauses={6: 0.1, 9: 0.4, 12: 0.2})])
    assert found[1][0].startswith("word09")


def test_one_line_where_it_fits_and_else_the_longer_one_below() -> None:
    assert lines([utterance("Nobody has ever seen such a thing here.")]) == [
        ("Nobody has ever seen such a thing here.",)
    ]
    ((top, bottom),) = lines([utterance("Somebody may have seen something like that before")])
    assert len(top) <= len(bottom)


def test_style_of_another_house() -> None:
    style = SubtitleStyle(line_length=20, lines=3)
    found = lines([utterance("After that we go on with the third one and leave it")], style)
    assert found == [("After that we go", "on with the third", "one and leave it")]


def test_chinese_lines_hold_sixteen_characters() -> None:
    text = (
        "重点呢想谈三个问题，首先呢就是这一轮全球金融动荡的表现，第二呢是这一轮动荡的原因以及它对我们国家经济的影响。"
    )
    spoken = [character for character in text if character not in "，。"]
    words = tuple(Word(c, i * 0.2, i * 0.2 + 0.2) for i, c in enumerate(spoken))
    found = lines([AttributedUtterance(text, 0, 20, words)])
    assert found == [
        ("重点呢想谈三个问题，首先呢", "就是这一轮全球金融动荡的表现，"),
        ("第二呢是这一轮动荡的原因", "以及它对我们国家经济的影响。"),
    ]


def test_marks_may_be_missing_from_words() -> None:
    spoken = AttributedUtterance(
        "Rubout, GMEF three.", 0, 2, (Word("rubout", 0, 1), Word("GMEF", 1, 1.5), Word("three", 1.5, 2))
    )
    assert lines([spoken]) == [("Rubout, GMEF three.",)]


def test_text_without_words_is_cut_at_spaces() -> None:
    found = cues([AttributedUtterance(LONG, 0, 15, ())])
    assert [cue.lines for cue in found] == lines([utterance(LONG)])
    assert found[0].start == 0
    assert found[-1].end == 15


def test_a_cache_lays_out_each_utterance_once_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out = []

    def count(each: AttributedUtterance, style: SubtitleStyle) -> list[Cue]:
        laid_out.append(each.text)
        return lay_out(each, style)

    style = SubtitleStyle(line_length=20)
    said = [utterance(LONG), utterance("Yes.", start=20)]
    expected = cues(said, style)
    monkeypatch.setattr(cues_module, "lay_out", count)
    cache = CueCache(style)
    assert cache.cues(said) == cache.cues(said) == expected
    assert laid_out == [LONG, "Yes."]
    said.pop()
    assert cache.cues([*said, utterance("Yes.", start=20)]) == expected
    assert laid_out == [LONG, "Yes.", "Yes."]


def test_utterance_without_text_makes_no_cue() -> None:
    assert cues([AttributedUtterance("", 0, 1, ()), AttributedUtterance("  ", 0, 1, ())]) == []


# --- times ----------------------------------------------------------------------------------------


def test_a_cue_stays_as_long_as_it_takes_to_read() -> None:
    said = utterance("Incomprehensibilities notwithstanding.", each=0.4)
    assert cues([said])[0].end == 2.235  # 38 / 17
    # But neither for long after the speech, nor when something else is said.
    assert cues([said], SubtitleStyle(linger=0.5))[0].end == 1.3
    assert cues([said, utterance("Go.", start=1.5)])[0].end == 1.417  # 1.5 - 1 / 12


def test_a_full_width_character_takes_as_long_to_read_as_two() -> None:
    said = AttributedUtterance(
        "一二三四五六七八九十。",
        0,
        1,
        tuple(Word(c, i / 10, (i + 1) / 10) for i, c in enumerate("一二三四五六七八九十")),
    )
    assert cues([said])[0].end == 1.294  # 22 / 17


def test_shortest_cue_and_the_gap_before_the_next() -> None:
    first, second = utterance("go", start=1.0, each=0.2), utterance("stop", start=1.6)
    assert [(cue.start, cue.end) for cue in cues([first, second])] == [(1.0, 1.517), (1.6, 2.433)]
    assert [cue.end for cue in cues([first])] == [1.833]


def test_pauses_too_short_to_be_one_are_filled() -> None:
    first = utterance("one two three four", each=0.5)
    assert cues([first, utterance("five", start=2.4)])[0].end == 2.317  # 2.4 - 1 / 12
    assert cues([first, utterance("five", start=2.6)])[0].end == 2.0


def test_speakers_may_overlap_but_not_with_themselves() -> None:
    alice = [utterance(LONG, speaker="Alice"), utterance("Yes.", start=13.0, speaker="Alice")]
    bob = [utterance("That is what I thought.", start=5.0, speaker="Bob")]
    together = cues(bob + alice)
    assert [cue.start for cue in together] == sorted(cue.start for cue in together)
    assert [cue for cue in together if cue.speaker == "Alice"] == cues(alice)
    assert [cue for cue in together if cue.speaker == "Bob"] == cues(bob)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"line_length": 9}, "line_length is 9; allowed is 10 or more"),
        ({"lines": 0}, "lines is 0; allowed is 1 or more"),
        ({"min_cue": 2, "max_cue": 1}, r"max_cue is 1; allowed is min_cue \(2\) or more"),
        ({"max_speed": 0}, "max_speed is 0; allowed is more than 0"),
        ({"gap": -1}, "gap is -1; allowed is 0 or more"),
    ],
)
def test_style_is_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubtitleStyle(**values)


@st.composite
def transcripts(draw: st.DrawFn) -> list[AttributedUtterance]:
    result = []
    for speaker in draw(st.sampled_from([("",), ("Al",), ("Al", "B")])):
        clock = draw(st.sampled_from([0.0, 1.7]))
        for _ in range(draw(st.integers(0, 3))):
            shown = draw(
                st.lists(
                    st.sampled_from(["a", "of", "seven", "GMEF", "seventy,", "nine.", "你", "好。", "x" * 50]),
                    min_size=1,
                    max_size=40,
                )
            )
            words = []
            begin = clock
            for text in shown:
                clock += draw(st.sampled_from([0.0, 0.0, 0.0, 0.12, 0.5, 8.0]))
                lasts = draw(st.sampled_from([0.06, 0.24, 0.24, 0.4]))
                words.append(Word(text, clock, clock + lasts))
                clock += lasts
            result.append(AttributedUtterance(" ".join(shown), begin, clock, tuple(words), speaker))
            clock += draw(st.sampled_from([0.3, 0.7, 5.0]))
    return result


def columns(line: str) -> float:
    return sum(42 / 16 if character in "你好。" else 1 for character in line)


ROUNDING = 0.0011
"""Seconds: times of cues are whole milliseconds."""


@given(transcripts(), st.sampled_from([SubtitleStyle(), SubtitleStyle(37, 3, 1.0, 5.0, 13.0), SubtitleStyle(gap=0)]))
def test_cues_keep_the_rules_and_every_word(utterances: list[AttributedUtterance], style: SubtitleStyle) -> None:
    found = cues(utterances, style)
    assert found == time_cues([cue for each in utterances for cue in lay_out(each, style)], style)
    for speaker in {each.speaker for each in utterances}:
        mine = [cue for cue in found if cue.speaker == speaker]
        spoken = [word for each in utterances if each.speaker == speaker for word in each.words]
        assert " ".join(line for cue in mine for line in cue.lines).split() == [word.text for word in spoken]
        place = 0
        for cue, after in itertools.zip_longest(mine, mine[1:]):
            assert 1 <= len(cue.lines) <= style.lines
            for line in (f"{speaker}: {cue.lines[0]}" if speaker else cue.lines[0], *cue.lines[1:]):
                assert columns(line) <= style.line_length or len(line.removeprefix(f"{speaker}: ").split()) == 1
            first = spoken[place]
            place += len(" ".join(cue.lines).split())
            last = spoken[place - 1]
            assert (cue.start, cue.end) == (round(cue.start, 3), round(cue.end, 3))
            assert cue.start == pytest.approx(first.start, abs=ROUNDING)
            assert cue.start < cue.end <= max(cue.start + style.max_cue, last.end) + ROUNDING
            assert cue.end <= max(last.end + max(style.linger, style.min_pause), cue.start + style.min_cue) + ROUNDING
            room = after.start - cue.start if after else 1e9
            if after:
                assert cue.end <= after.start - min(style.gap, room / 2) + ROUNDING
            assert cue.end >= min(cue.start + style.min_cue, cue.start + room - style.gap) - ROUNDING
            assert cue.end >= min(last.end, cue.start + room - style.gap) - ROUNDING
