"""Transcripts in their written forms, read back by libraries that read such files."""

from __future__ import annotations

import io
import json

import pysubs2
import pytest
import webvtt
from parastream.server.transcripts.cues import cues
from parastream.server.transcripts.formats import TranscriptFormat, render, running_text
from parastream.server.transcripts.utterance import AttributedUtterance, speaker_of

from tests.server.transcripts.saying import LONG, Word, utterance


@pytest.mark.parametrize("form", [TranscriptFormat.SRT, TranscriptFormat.VTT])
def test_subtitle_files_read_back(form: TranscriptFormat) -> None:
    utterances = [utterance(LONG, start=3600.25), utterance("Ten twenty seven sixty two.", start=3620)]
    written = render(utterances, form)
    assert written.startswith("WEBVTT\n" if form is TranscriptFormat.VTT else "1\n01:00:00,250 -->")
    read = pysubs2.SSAFile.from_string(written, form.value)
    assert [(event.start, event.end, event.plaintext) for event in read] == [
        (round(cue.start * 1000), round(cue.end * 1000), "\n".join(cue.lines)) for cue in cues(utterances)
    ]


CONVERSATION = [
    utterance("I think <so> & you?", start=2.0, speaker="Bob & <Co>"),
    utterance("What do you think?", start=0.5, speaker="Alice"),
    utterance("", start=3, speaker="Alice"),
]


def test_speakers_in_webvtt() -> None:
    read = webvtt.from_buffer(io.StringIO(render(CONVERSATION, TranscriptFormat.VTT)))
    assert [(caption.start, caption.voice, caption.text) for caption in read.captions] == [
        ("00:00:00.500", "Alice", "What do you think?"),
        # The library leaves it to its users to resolve entities.
        ("00:00:02.000", "Bob &amp; &lt;Co&gt;", "I think &lt;so&gt; &amp; you?"),
    ]


def test_speakers_in_the_other_forms() -> None:
    assert render(CONVERSATION, TranscriptFormat.TEXT) == "Alice: What do you think?\nBob & <Co>: I think <so> & you?\n"
    read = pysubs2.SSAFile.from_string(render(CONVERSATION, TranscriptFormat.SRT), "srt", keep_unknown_html_tags=True)
    assert [event.plaintext for event in read] == ["Alice: What do you think?", "Bob & <Co>: I think <so> & you?"]
    objects = json.loads(render(CONVERSATION, TranscriptFormat.JSONL))["utterances"]
    assert [(each["speaker"], each["text"]) for each in objects][:2] == [
        ("Alice", "What do you think?"),
        ("Bob & <Co>", "I think <so> & you?"),
    ]


def test_name_of_a_speaker_is_part_of_the_line_and_stays_on_it() -> None:
    said = utterance("After that we go on with the third one.", speaker=" Alice\n in\tWonderland ")
    assert speaker_of(said) == "Alice in Wonderland"
    found = render([said], TranscriptFormat.SRT).splitlines()[2:-1]
    assert found == ["Alice in Wonderland: After that we go", "on with the third one."]


def test_nothing_said() -> None:
    assert render([], TranscriptFormat.SRT) == ""
    assert render([], TranscriptFormat.VTT) == "WEBVTT\n\n"
    assert render([], TranscriptFormat.TEXT) == ""
    assert running_text([]) == "\n"
    assert json.loads(render([], TranscriptFormat.JSONL, file="a.wav")) == {
        "file": "a.wav",
        "text": "",
        "utterances": [],
    }


def test_json_lines() -> None:
    spoken = [AttributedUtterance("你好。", 0.1, 0.5, (Word("你", 0.123, 0.3, 0.9877), Word("好。", 0.3, 0.5)))]
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
