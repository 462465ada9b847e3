"""Numbers as people write them: `parastream itn`, and `--itn` of `parastream transcribe` here and through a server."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.client.cli.command import SAMPLE, TRANSCRIBE, Run, Served

WRITTEN = ["Enter 176.", "Rubout GMEF three nine.", "10, 27 62."]


def lines_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("language", "spoken", "written"),
    [
        ("en", "It cost twenty five dollars.\n\nno one  knows\r\n", "It cost $25.\n\nno one knows\n"),
        ("zh", "百分之三十五的人同意\n一起去\n", "35%的人同意\n一起去\n"),
    ],
)
def test_a_line_in_is_a_line_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, language: str, spoken: str, written: str
) -> None:
    lines_in(monkeypatch, spoken.encode())
    result = run("itn", "--language", language)
    assert (result.status, result.out, result.err) == (0, written, "")


def test_what_is_not_utf_8_is_named_and_what_came_before_is_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines_in(monkeypatch, b"twenty dogs\n\xff\xfe\n")
    result = run("itn", "--language", "en")
    assert (result.status, result.out) == (1, "20 dogs\n")
    assert "line 2 is not UTF-8" in result.err


def test_ctrl_c_ends_the_filter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.BytesIO):
        def __next__(self) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
    assert run("itn", "--language", "en").status == 130


def test_a_language_must_be_one_that_has_rules(run: Run) -> None:
    result = run("itn", "--language", "fr")
    assert result.status == 2
    assert "'en', 'zh'" in result.err


@pytest.mark.process
def test_recordings_are_transcribed_with_numbers_here_and_through_a_server(run: Run, served: Served) -> None:
    here = json.loads(run(*TRANSCRIBE, SAMPLE, "--itn", "--format", "jsonl").out)
    assert [utterance["text"] for utterance in here["utterances"]] == WRITTEN
    there = json.loads(run("transcribe", SAMPLE, "--itn", "--format", "jsonl", "--server", served.url).out)
    assert there == here
    spoken = json.loads(run("transcribe", SAMPLE, "--format", "jsonl", "--server", served.url).out)
    one, seventy, six = spoken["utterances"][0]["words"][1:]
    (written,) = here["utterances"][0]["words"][1:]
    assert (written["start"], written["end"]) == (one["start"], six["end"])
    assert written["confidence"] == min(one["confidence"], seventy["confidence"], six["confidence"])
