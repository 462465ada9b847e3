"""The command line: help, versions and wrong usage."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer
from parastream.client.cli.main import app

from tests.client.cli.command import Run


@pytest.mark.process
def test_help_lists_the_commands_without_importing_what_they_need(run: Run) -> None:
    result = run("--help")
    assert result.status == 0
    assert re.findall(r"^  (\w+)  ", result.out, re.M) == [
        "serve", "transcribe", "itn", "subtitles", "mic", "demo", "doctor", "version", "models", "lm", "bench",
    ]  # fmt: skip
    code = "import sys, parastream.client.cli.main; print(*sys.modules)"
    imported = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"mlx", "numpy", "onnxruntime", "websockets", "rich"} & set(imported)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command that does something."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield *path, name


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_help_names_values_by_what_they_mean(run: Run, command: Sequence[str]) -> None:
    """Not by types of Python; choices stand in angle brackets too: `<8|4>`."""
    result = run(*command, "--help")
    assert result.status == 0
    assert [found for found in re.findall(r"<([^>]*)>", result.out) if "|" not in found] == []
    assert not re.search(r"list\[|\bstr\b|\[\[|…\W*…", result.out)


@pytest.mark.parametrize("command", [("version",), ("--version",)])
def test_version(run: Run, command: Sequence[str]) -> None:
    result = run(*command)
    assert result.status == 0
    assert re.fullmatch(r"parastream \d+\.\d+\.\d+\n", result.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", "No such command"),
        ("transcribe", "Missing argument"),
        ("transcribe a.wav --format ass", "'ass'"),
        ("transcribe a.wav --pace 1", "--pace: needs --server"),
        ("transcribe .", "--output: is needed for ."),
        ("transcribe @list", "--output: is needed for @list"),
        ("transcribe a.wav -o d --force", "--force: is for directories and lists"),
        ("transcribe a.wav --server ws://h --pace -1", "--pace"),
        ("transcribe a.wav --server ws://h --final-model x", "--final-model: cannot be chosen by a client"),
        ("transcribe a.wav --server ws://h --punctuation ct-punc", "--punctuation: cannot be chosen"),
        ("transcribe a.wav --server ws://h --dtype float32", "--dtype: cannot be chosen by a client"),
        ("transcribe a.wav --server ws://h --compute mlx", "--compute: cannot be chosen by a client"),
        ("transcribe a.wav --compute cuda", "'cuda' is not one of 'mlx', 'graphs'"),
        ("mic --server ws://h --dtype int8", "--dtype: cannot be chosen by a client"),
        ("transcribe a.wav --server ws://h --offline", "--offline: cannot be used with --server"),
        ("transcribe a.wav --streaming --final-model x", "--final-model: cannot be used with --streaming"),
        ("transcribe a.wav b.wav --format srt", "--output: is needed to write srt for several recordings"),
        ("transcribe a.wav b/a.flac --output d", "a.wav and b/a.flac would both become a.txt"),
        ("transcribe a.wav --channel one", "--channel: must be a number or all"),
        ("transcribe a.wav --label Alice", "--label: needs --channel all"),
        ("transcribe a.wav --save d", "--save: needs --server"),
        ("transcribe a.wav --lines 1", "--lines: is for the formats srt and vtt"),
        ("transcribe a.wav --format srt --lines 0", "--lines: is 0; allowed is 1 or more"),
        ("subtitles a.jsonl --min-cue 9", "--max-cue: is 7; allowed is min_cue (9) or more"),
        ("mic --record sound.mp3", "must end with .wav or .flac"),
        ("mic --label Alice --label Bob", "--label: there are more names than channels (1)"),
        ("mic --server ws://h --final-model x", "--final-model: cannot be chosen by a client"),
        ("mic --server ws://h --refine off", "--refine: cannot be chosen by a client"),
        ("models convert a b --dtype int4", "'--dtype'"),
        ("serve --port many", "'--port'"),
        ("serve --log-level loud", "'--log-level'"),
        ("serve --verbose --log-level debug", "--verbose: cannot be used with --log-level"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, message: str) -> None:
    result = run(*arguments.split())
    assert result.status == 2
    assert message in result.err
    assert result.out == ""
