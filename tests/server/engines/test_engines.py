"""Engines in processes of their own, which are scripted."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from parastream.model.errors import CapacityError, EngineError
from parastream.model.replacements import Replacements
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.engines import engines as module
from parastream.server.engines.engines import Engines
from parastream.server.metrics import Metrics
from parastream.streaming import Observer, SessionConfig
from parastream.streaming.events import Event, Final, InputRejected, SessionEnded

from tests.server.engines.scripted import EARS
from tests.server.fakes import asynchronous
from tests.waiting import until

pytestmark = pytest.mark.process


class Front:
    """What stands before the engines."""

    def __init__(self, script: str, *, command: tuple[str, ...] = (), **settings: Any) -> None:
        self.metrics = Metrics()
        command = command or (sys.executable, "-m", "tests.server.engines.scripted", script)
        config = ServerConfig(**({"engines": 1} | settings))
        self.engines = Engines(command, config, self.metrics, Observer())

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"parastream_{name}")


@asynccontextmanager
async def front(script: str = "", **settings: Any) -> AsyncIterator[Front]:
    """Engines that are ready."""
    made = Front(script, **settings)
    await made.engines.start()
    await made.engines.wait_ready()
    try:
        yield made
    finally:
        await made.engines.close()


def processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "tests.server.engines.scripted" in child.cmdline()]


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


@asynchronous
async def test_sessions_go_where_there_is_most_room() -> None:
    async with front(engines=2) as made:
        told: list[list[Event]] = [[] for _ in range(6)]
        streams = [made.engines.open(SessionConfig(), events.extend) for events in told]
        loads = sorted(process.receiving for process in made.engines._serving)
        assert loads == [3, 3]  # half as many again as each is measured to serve
        with pytest.raises(CapacityError, match="serving 6 sessions"):
            made.engines.open(SessionConfig(), print)
        for length, stream in enumerate(streams):
            stream.send(bytes(10 * length))
            stream.flush()
            stream.end()
        await until(lambda: all(events and isinstance(events[-1], SessionEnded) for events in told))
        assert [texts(events) for events in told] == [[f"{10 * length} bytes"] for length in range(6)]
        assert made.engines.stats().sessions == 0
        assert made.engines.stats().capacity == 4
        assert (made.engines.model, made.engines.languages) == ("scripted", ("en",))
        assert made.engines.listeners == EARS


@asynchronous
async def test_sessions_of_an_engine_that_is_killed_go_on_elsewhere() -> None:
    async with front(engines=2) as made:
        told: list[list[Event]] = [[], []]
        streams = [made.engines.open(SessionConfig(), events.extend) for events in told]
        for stream in streams:
            stream.send(bytes(100))
        await until(lambda: all(told))
        os.kill(processes()[0].pid, signal.SIGKILL)
        await until(lambda: made.value("sessions_moved_total") == 1)
        for stream in streams:
            stream.send(bytes(50))
            stream.end()
        await until(lambda: all(isinstance(events[-1], SessionEnded) for events in told))
        assert [texts(events) for events in told] == [["150 bytes"], ["150 bytes"]]
        await until(lambda: made.value("engines") == 2)
        assert made.value("engine_restarts_total") == 1


@asynchronous
async def test_sessions_wait_for_an_engine_where_there_is_none() -> None:
    async with front() as made:
        events: list[Event] = []
        stream = made.engines.open(SessionConfig(), events.extend)
        stream.send(bytes(100))
        await until(lambda: events)
        os.kill(processes()[0].pid, signal.SIGKILL)
        await until(lambda: not made.engines.ready)
        with pytest.raises(EngineError, match="no engine is ready"):
            made.engines.open(SessionConfig(), print)
        stream.send(bytes(50))
        stream.end()
        await until(lambda: isinstance(events[-1], SessionEnded))
        assert texts(events) == ["150 bytes"]


@asynchronous
async def test_a_session_that_ends_every_engine_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_DELAY", 0.0)
    async with front() as made:
        events: list[Event] = []
        made.engines.open(SessionConfig(), events.extend).send(b"die!")
        await until(lambda: events and isinstance(events[-1], SessionEnded))
        assert events[0] == InputRejected("internal_error", "the recogniser has failed")
        await until(lambda: made.engines.ready)


@asynchronous
async def test_a_late_refusal_is_an_error_of_the_session() -> None:
    async with front("refusing") as made:
        events: list[Event] = []
        made.engines.open(SessionConfig(), events.extend)
        await until(lambda: events)
        assert events == [InputRejected("unsupported", "the model does not stream"), SessionEnded(0.0)]


@asynchronous
async def test_rules_for_words_reach_the_engine() -> None:
    rules = Replacements.read([r"/(\d+)/ bytes => \1 octets", "a =>"]).before(Replacements.read(["b => c"]))
    async with front() as made:
        events: list[Event] = []
        stream = made.engines.open(SessionConfig(replacements=rules), events.extend)
        stream.send(bytes(100))
        stream.end()
        await until(lambda: events and isinstance(events[-1], SessionEnded))
        assert texts(events) == ["100 octets"]


@asynchronous
async def test_a_session_that_is_dropped_leaves_nothing() -> None:
    async with front() as made:
        stream = made.engines.open(SessionConfig(), print)
        stream.cancel()
        stream.send(b"")
        assert made.engines.stats().sessions == 0
        assert made.engines._serving[0].receiving == 0


@asynchronous
async def test_an_engine_that_cannot_begin_is_an_error() -> None:
    for broken, why in (
        (Front("broken"), "there is no such model"),
        (Front("", command=("/nonexistent",)), "No such file"),
        (Front("", command=("false",)), "status 1"),
    ):
        with pytest.raises(EngineError, match="not loaded yet"):
            _ = broken.engines.model
        await broken.engines.start()
        with pytest.raises(EngineError, match=why):
            await broken.engines.wait_ready()
        await broken.engines.wait_stopped()
        await broken.engines.close()


@asynchronous
async def test_engines_that_always_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_DELAY", 0.0)
    async with front() as made:
        events: list[Event] = []
        made.engines.open(SessionConfig(), events.extend)
        made.engines._command = ("false",)
        os.kill(processes()[0].pid, signal.SIGKILL)
        await made.engines.wait_stopped()
        assert isinstance(events[-1], SessionEnded)
        with pytest.raises(EngineError, match="status 1"):
            made.engines.check_running()
    with pytest.raises(EngineError):
        made.engines.check_running()


def devices() -> list[str]:
    """What each process is told to compute on."""
    return sorted(process.environ().get("CUDA_VISIBLE_DEVICES", "") for process in processes())


@asynchronous
async def test_engines_have_the_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is started again has the same as before."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    async with front(engines=3, devices=("0", "2")) as made:
        assert devices() == ["0", "0", "2"]
        next(each for each in processes() if each.environ()["CUDA_VISIBLE_DEVICES"] == "2").kill()
        await until(lambda: made.value("engine_restarts_total") == 1 and len(made.engines._serving) == 3)
        assert devices() == ["0", "0", "2"]
    async with front():
        assert devices() == [""]


def test_settings_of_engines() -> None:
    with pytest.raises(ConfigError, match="engines is -1; allowed are 0 to 64"):
        ServerConfig(engines=-1)
    with pytest.raises(ConfigError, match="devices is of no use without engines"):
        ServerConfig(devices=("0",))
