"""`parastream demo`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from parastream.client.cli import demo

from tests.client.cli.command import BOTH, Run, words


def test_demo(run: Run) -> None:
    result = run("demo", "--pace", "4")
    assert (result.status, result.err) == (0, "")
    finals = [line.partition("✓ ")[2] for line in result.out.splitlines() if "✓" in line]
    assert [words(final) for final in finals] == BOTH
    assert "\nasr-small-en and whisper-tiny-en listen\n" in result.out
    partials = [line for line in result.out.splitlines() if re.match(r" +\d:\d\d\.\d   ", line)]
    assert len(partials) >= 6
    assert re.search(
        r"3 utterances through ws://127\.0\.0\.1:\d+/v1/stream: real-time factor \d\.\d\d, "
        r"first partial \d\.\d\d s after the start of speech, final -?\d\.\d\d s after the last word",
        result.out,
    )


def test_the_demo_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert demo.command_line() == "parastream"
    (tmp_path / "run").touch()
    assert demo.command_line() == "./run parastream"


@pytest.mark.process
def test_interrupt_ends_the_demo() -> None:
    command = [sys.executable, "-m", "parastream.client.cli", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith("streaming"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == ""
