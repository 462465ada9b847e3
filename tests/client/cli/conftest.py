"""The command line, a server of its own, and a call on two channels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.client.cli.command import SAMPLE, Run, Served


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in list(os.environ):
        if name.startswith("PARASTREAM_"):
            monkeypatch.delenv(name)
    return Run(capfd)


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    server = Served()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log
    assert "INFO" not in server.log  # which is logged only where it is asked for


@pytest.fixture(scope="session")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample on two channels, four seconds later on the second one."""
    samples = soundfile.read(SAMPLE, dtype="int16")[0]
    pause = np.zeros(4 * 16_000, np.int16)
    path = tmp_path_factory.mktemp("call") / "call.flac"
    soundfile.write(path, np.stack([np.append(samples, pause), np.append(pause, samples)], axis=1), 16_000)
    return path
