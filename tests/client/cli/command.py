"""Run the command line, in this process and in one of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest
from parastream.client.cli.main import main

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))
SAID = ["enter one seventy six", "rubout gmef three nine", "ten twenty seven sixty two"]
"""What the embedded speech model hears by itself."""
ONE_EAR = ("--final-model", "asr-small-en")
TRANSCRIBE = ("transcribe", *ONE_EAR)
"""What tests use that are not about the second ear: it takes more time than all the rest."""
BOTH = ["enter 176", *SAID[1:]]
"""What it and Whisper hear together."""
EMBEDDED = Path(str(files("parastream.model") / "assets"))


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Run:
    """Runs a command in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Result:
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        out, err = self.capture.readouterr()
        assert isinstance(exit.value.code, int)
        return Result(exit.value.code, out, err)


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


class Served:
    """`parastream serve` in a process of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        one_ear = () if "--final-model" in arguments else ONE_EAR
        command = [sys.executable, "-m", "parastream.client.cli", "serve", "--port", "0", *one_ear, *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )
        self.log = ""
        self.url = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"ws://\S+", line):
                self.url = found[0]
            if line.startswith("ready"):
                return
        raise AssertionError(f"the server ended: {self.log}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=30)
        self.log += rest or ""
        return self.process.returncode
