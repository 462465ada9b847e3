"""The process, without the process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from typing import cast

import pytest
from parastream.model.errors import ParastreamError
from parastream.server import main
from parastream.server.app import Server
from parastream.server.config import ServerConfig
from parastream.streaming import Engine, Models

from .fakes import FakeEngine


class Stopping(FakeEngine):
    """An engine whose thread ends as soon as it has begun."""

    def start(self) -> None:
        pass

    def wait_ready(self) -> None:
        pass

    def wait_stopped(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stopping]:
    engine = Stopping()
    monkeypatch.setattr(main, "new_server", lambda load, config: Server(cast(Engine, engine), config))
    yield engine
    gc.unfreeze()


def load() -> Models:
    raise AssertionError("nobody asks for models here")


def test_a_process_whose_engine_has_failed_ends_with_an_error(
    engine: Stopping, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.failure = ParastreamError("out of memory")
    assert asyncio.run(main._serve(ServerConfig(port=0), load)) == 1
    assert "the engine failed: out of memory" in capsys.readouterr().err


def test_hanging_up_the_terminal_does_not_end_the_server(
    engine: Stopping, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_stopped() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine, "wait_stopped", wait_stopped)
    assert asyncio.run(main._serve(ServerConfig(port=0), load)) == 0
    assert "stopping" in capsys.readouterr().err
