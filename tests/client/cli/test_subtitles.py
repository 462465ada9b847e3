"""`parastream subtitles`: what was saved comes out again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.client.cli.command import TRANSCRIBE, Run, Served


@pytest.mark.process
def test_channels_apart_through_a_server_and_saved(run: Run, served: Served, call: Path, tmp_path: Path) -> None:
    options = ("--channel", "all", "--label", "Alice", "--label", "Bob")
    here = run(*TRANSCRIBE, call, *options, "--format", "jsonl")
    there = run("transcribe", call, *options, "-f", "jsonl", "--server", served.url, "--save", tmp_path)
    assert (there.status, there.err) == (0, "")
    assert json.loads(there.out) == json.loads(here.out)
    saved = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(saved) == {".jsonl", ".txt", ".srt", ".vtt"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[\w-]{6}", saved[".txt"].stem)
    assert saved[".txt"].read_text() == run(*TRANSCRIBE, call, *options).out
    for form in ("srt", "vtt"):
        assert saved[f".{form}"].read_text() == run(*TRANSCRIBE, call, *options, "--format", form).out
    again = run("subtitles", saved[".jsonl"], "--format", "vtt", "--label", "Carol")
    assert again.out == saved[".vtt"].read_text().replace("<v Alice>", "<v Carol>")
    assert run("subtitles", saved[".jsonl"], "-f", "text").out == saved[".txt"].read_text()
    as_objects = json.loads(run("subtitles", saved[".jsonl"], "-f", "jsonl").out)
    assert as_objects["utterances"] == json.loads(here.out)["utterances"]
    short = run("subtitles", saved[".jsonl"], "--line-length", "20").out
    assert max(map(len, short.splitlines())) < 30  # the lines with times
    assert run("subtitles", tmp_path / "absent.jsonl").status == 1
    assert "not the journal of a session" in run("subtitles", saved[".srt"]).err
