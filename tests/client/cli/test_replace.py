"""`parastream transcribe --replace` and `--profanity`, with models of its own and through a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.client.cli.command import SAMPLE, TRANSCRIBE, Run, Served


@pytest.mark.process
def test_words_are_replaced_here_and_through_a_server(run: Run, served: Served, tmp_path: Path) -> None:
    rules = tmp_path / "rules.txt"
    rules.write_text(
        "\ufeff# names\n\nrubout g mef => Rub Out\nrubout gmef => Rub-out\n/s[ei]venty/ six => Shit\n", "utf-8"
    )
    options = ("--replace", rules, "--profanity", "drop", "--format", "jsonl")
    here = json.loads(run(*TRANSCRIBE, SAMPLE, *options).out)
    assert [utterance["text"] for utterance in here["utterances"]][:2] == ["Enter one Shit.", "Rub-out three nine."]
    assert json.loads(run("transcribe", SAMPLE, *options, "--server", served.url).out) == here
    rules.write_text("one => damn\nthree => shitty\nshit =>")
    masked = run("transcribe", SAMPLE, "--replace", rules, "--profanity", "mask", "--server", served.url).out
    assert masked.startswith("Enter damn seventy six.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a => b\nwrong\n", "rules.txt, line 2: 'wrong' is no rule"),
        (b"\xff", "rules.txt is not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(run: Run, tmp_path: Path, content: bytes | None, message: str) -> None:
    rules = tmp_path / "rules.txt"
    if content is not None:
        rules.write_bytes(content)
    result = run("transcribe", SAMPLE, "--replace", rules)
    assert result.status == 1
    assert message in result.err
