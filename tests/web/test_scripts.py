"""What the page computes by itself is what the server computes: joined text, subtitles, files."""

from __future__ import annotations

import bisect
import json
import random
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from parastream.model.text import is_wide, join
from parastream.server.http.pages import WEB
from parastream.server.transcripts.cues import Cue, SubtitleStyle, cues
from parastream.server.transcripts.formats import TranscriptFormat, render
from parastream.server.transcripts.utterance import AttributedUtterance
from parastream.server.wire.messages import Word
from parastream.server.wire.room_names import room_name

from .scripting import Scripts

DATA = Path(__file__).parents[1] / "data"
JOINS = json.loads((DATA / "joins.json").read_text("utf-8"))
CASES = json.loads((DATA / "cues.json").read_text("utf-8"))["cases"]

WORDS = [
    "a", "the", "of", "and", "which", "seven", "GMEF", "it's", "seventy,", "nine.", "really?", "“so”", "I", "because",
    "你", "好。", "的", "因为", "但是，", "😀", "x" * 45,
]  # fmt: skip


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("scripts"))


def utterance_of(case: dict[str, Any]) -> AttributedUtterance:
    words = tuple(Word(text, start, end, 0.9) for text, start, end in case["words"])
    return AttributedUtterance(case["text"], case["start"], case["end"], words, case["speaker"])


def line_of(utterance: AttributedUtterance) -> dict[str, Any]:
    """As the page keeps it."""
    words = [{"text": word.text, "start": word.start, "end": word.end, "confidence": 0.9} for word in utterance.words]
    return {
        "id": "1",
        "text": utterance.text,
        "start": utterance.start,
        "end": utterance.end,
        "speaker": utterance.speaker,
        "words": words,
    }


def cue_of(shown: dict[str, Any]) -> Cue:
    return Cue(shown["start"], shown["end"], tuple(shown["lines"]), shown["speaker"])


def style_of(case: dict[str, Any]) -> dict[str, float]:
    """All values of a style, of which the case names some."""
    return vars(SubtitleStyle(**case["style"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_server_makes_the_cues_of_the_table(case: dict[str, Any]) -> None:
    utterances = [utterance_of(each) for each in case["utterances"]]
    assert cues(utterances, SubtitleStyle(**case["style"])) == [cue_of(each) for each in case["cues"]]


def test_the_page_makes_the_cues_of_the_table(scripts: Scripts) -> None:
    calls = [[[line_of(utterance_of(each)) for each in case["utterances"]], style_of(case)] for case in CASES]
    found = dict(zip([case["name"] for case in CASES], scripts.call("cues.js", "cues", calls), strict=True))
    assert {name: list(map(cue_of, shown)) for name, shown in found.items()} == {
        case["name"]: list(map(cue_of, case["cues"])) for case in CASES
    }


def test_the_page_has_the_default_style_of_the_server(scripts: Scripts) -> None:
    said = [utterance for case in CASES for utterance in case["utterances"]]
    lines = [[line_of(utterance_of(each))] for each in said]
    default = vars(SubtitleStyle())
    assert scripts.call("cues.js", "cues", [[each] for each in lines]) == scripts.call(
        "cues.js", "cues", [[each, default] for each in lines]
    )


def anything_said(chance: random.Random) -> list[AttributedUtterance]:
    """What one or two speakers say, with pauses of every length."""
    result = []
    for speaker in chance.choice([("",), ("Al",), ("Alice & <Co>", "Bob")]):
        clock = chance.choice([0.0, 1.7])
        for _ in range(chance.randint(0, 4)):
            shown = chance.choices(WORDS, k=chance.randint(1, 40))
            begin, words = clock, []
            for text in shown:
                clock = round(clock + chance.choice([0.0, 0.0, 0.0, 0.12, 0.5, 8.0]), 3)
                end = round(clock + chance.choice([0.06, 0.241, 0.24, 0.4]), 3)
                words.append(Word(text if chance.random() < 0.9 else text.strip(".,"), clock, end, 0.9))
                clock = end
            kept = tuple(words) if chance.random() < 0.8 else ()
            result.append(AttributedUtterance(chance.choice([" ", " ", ""]).join(shown), begin, clock, kept, speaker))
            clock = round(clock + chance.choice([0.3, 0.7, 5.0]), 3)
    return sorted(result, key=lambda utterance: utterance.start)


@pytest.mark.parametrize("form", [TranscriptFormat.TEXT, TranscriptFormat.SRT, TranscriptFormat.VTT])
def test_the_files_of_the_page_are_those_of_the_server(scripts: Scripts, form: TranscriptFormat) -> None:
    chance = random.Random(1)
    said = [anything_said(chance) for _ in range(150)]
    said += [sorted(map(utterance_of, case["utterances"]), key=lambda each: each.start) for case in CASES]
    kind = form.suffix.removeprefix(".")
    written = scripts.call("subtitles.js", "render", [[list(map(line_of, each)), kind] for each in said])
    assert written == [render(each, form) for each in said]


def test_the_json_of_the_page_has_the_text_and_times_of_the_server(scripts: Scripts) -> None:
    chance = random.Random(2)
    said = [anything_said(chance) for _ in range(20)]
    written = scripts.call("subtitles.js", "render", [[list(map(line_of, each)), "json"] for each in said])
    for text, utterances in zip(written, said, strict=True):
        expected = json.loads(render(utterances, TranscriptFormat.JSONL))
        del expected["file"]
        assert json.loads(text) == expected


def test_the_page_joins_texts_as_the_table_says(scripts: Scripts) -> None:
    joined = scripts.call("text.js", "join", [[case["texts"]] for case in JOINS["joins"]])
    assert joined == [case["joined"] for case in JOINS["joins"]]


def test_the_page_joins_any_texts_as_the_server_does(scripts: Scripts) -> None:
    chance = random.Random(3)
    pieces = ["".join(chance.choices("ab1.?，。你好カ한😀% ²", k=chance.randint(0, 4))) for _ in range(3000)]
    texts = [pieces[first : first + 6] for first in range(0, len(pieces), 6)]
    assert scripts.call("text.js", "join", [[each] for each in texts]) == list(map(join, texts))


def test_the_page_tells_wide_characters_from_narrow_ones(scripts: Scripts) -> None:
    characters = JOINS["wide"] + JOINS["narrow"]
    assert scripts.call("text.js", "isWide", [[each] for each in characters]) == [
        *[True] * len(JOINS["wide"]),
        *[False] * len(JOINS["narrow"]),
    ]


def test_the_widths_of_the_page_are_those_of_every_character_that_python_knows() -> None:
    ranges = [int(number, 16) for number in re.findall(r"0x\w+", (WEB / "wide.js").read_text("utf-8"))]
    assert ranges == sorted(set(ranges))
    wrong = [
        f"{code:x}"
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) != "Cn" and bisect.bisect_right(ranges, code) % 2 != is_wide(chr(code))
    ]
    assert wrong == [], "make them again: ./run python docs/make_wide.py"


def test_names_of_rooms_are_mended_to_what_the_server_takes(scripts: Scripts) -> None:
    given = [
        "hall",
        "a b",
        "会议！",
        "cafe\u0301",
        "\u0301a",
        "हॉल",
        "../x",
        "\u202ehall",
        70 * "x",
        60 * "\U00020000",
        "",
    ]
    mended = scripts.call("room-names.js", "roomName", [[name] for name in given])
    assert mended[:8] == ["hall", "a-b", "会议-", "caf\u00e9", "a", "हॉल", "-x", "-hall"]
    for name in mended[:-1]:
        assert room_name(name) == name
    assert mended[-1] == ""
