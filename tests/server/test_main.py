"""The process, without the process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from types import ModuleType

import pytest
from parastream.model.errors import ParastreamError
from parastream.server import main
from parastream.server.config import ServerConfig
from parastream.streaming import Models

from ..conftest import collect_and_freeze
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
    monkeypatch.setattr(main, "new_engine", lambda load, config, metrics: engine)
    yield engine
    gc.unfreeze()  # what the server has frozen
    collect_and_freeze()


def load() -> Models:
    raise AssertionError("nobody asks for models here")


def test_a_process_whose_engine_has_failed_ends_with_an_error(
    engine: Stopping, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.failure = ParastreamError("out of memory")
    assert asyncio.run(main._serve(ServerConfig(port=0), load, (), offline=True)) == 1
    assert "the engine failed: out of memory" in capsys.readouterr().err


def test_hanging_up_the_terminal_does_not_end_the_server(
    engine: Stopping, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_stopped() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine, "wait_stopped", wait_stopped)
    assert asyncio.run(main._serve(ServerConfig(port=0), load, (), offline=True)) == 0
    told = capsys.readouterr().err
    assert "stopping" in told
    assert "hears    scripted: text while people speak and finals; en; computed by graphs in int8\n" in told


@pytest.mark.parametrize("installed", [False, True])
def test_uvloop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    async def serving() -> int:
        return 7

    used = []

    def run(main: Coroutine[None, None, int]) -> int:
        used.append(True)
        return asyncio.run(main)

    fake = ModuleType("uvloop")
    vars(fake)["run"] = run
    monkeypatch.setitem(sys.modules, "uvloop", fake if installed else None)
    assert main._run(serving()) == 7
    assert bool(used) == installed
