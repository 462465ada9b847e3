"""The process of one engine: models and inference, at the other end of a front's socket.

It ends with the socket: whatever becomes of the front, no engine is left behind. Signals are the front's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial

from parastream.model import blas, prepare_process
from parastream.model.errors import ModelConfigError, ParastreamError
from parastream.server.engines.channel import (
    Cancel,
    Channel,
    End,
    Expect,
    Failed,
    Flush,
    Observation,
    Open,
    Ready,
    Refused,
    Setup,
    Stats,
    ToEngine,
    observed,
    told,
)
from parastream.server.log import set_log_level
from parastream.server.sessions.mailbox import Mailbox
from parastream.server.sessions.recogniser import engine_config
from parastream.streaming import Engine, LoggingObserver, Models, Observer, Stream
from parastream.streaming.events import Event, SessionEnded
from parastream.streaming.observer import FinalTiming, PartialTiming, Turn

_STATS_INTERVAL = 0.25
"""Seconds between reports of how the engine is."""

Load = Callable[[Setup], Models]
"""Loads models; called on the engine's thread."""


def run(descriptor: int, load: Load) -> int:
    """Serve the front at the other end of a socket until that is closed, and return the process's exit status.

    Args:
        descriptor: Of the socket, which was inherited.
        load: Loads the models.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prepare_process()
    return asyncio.run(_EngineProcess(load).serve(socket.socket(fileno=descriptor)))


class _EngineProcess:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._setup: asyncio.Future[Setup]
        self._closed = asyncio.Event()
        self._loaded = False
        self._streams: dict[int, Stream] = {}
        self._engine: Engine
        self._channel: Channel

    async def serve(self, front: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        self._setup = loop.create_future()
        self._channel = Channel(ToEngine, self._receive, self._hear, self._lose_front)
        await loop.create_unix_connection(lambda: self._channel, sock=front)
        closed = asyncio.create_task(self._closed.wait())
        setup = await self._setup
        set_log_level(setup.config.log_level)
        _take_cpus(setup)
        self._mailbox = Mailbox(loop.call_soon_threadsafe)
        observers = [_Telling(self._mailbox, self._channel), LoggingObserver()]
        engine = self._engine = Engine(
            partial(self._load, setup), engine_config(setup.config), observers=observers, replaceable=True
        )
        engine.start()
        loading = asyncio.create_task(asyncio.to_thread(engine.wait_ready))
        await asyncio.wait([loading])
        self._loaded = True
        try:
            loading.result()
            gc.collect()
            gc.freeze()
            self._channel.send(_ready(engine))
            await self._serve_until(closed)
        except ParastreamError as error:
            self._channel.send(Failed(str(error)))
            self._channel.close()
            await closed
            return 1
        return 0

    def _lose_front(self) -> None:
        if not self._loaded:
            os._exit(0)  # in the middle of what cannot be broken off
        self._closed.set()

    async def _serve_until(self, closed: asyncio.Task[bool]) -> None:
        stopped = asyncio.create_task(asyncio.to_thread(self._engine.wait_stopped))
        while not closed.done() and not stopped.done():
            self._channel.send(Stats(self._engine.stats()))
            await asyncio.wait([closed, stopped], timeout=_STATS_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        if not closed.done():
            self._engine.check_running()
        await asyncio.to_thread(self._engine.close)
        await stopped

    # what the front says

    def _receive(self, message: ToEngine) -> None:
        match message:
            case Setup():
                self._setup.set_result(message)
            case Open():
                self._open(message)
            case Flush():
                self._with(message.stream, Stream.flush)
            case Expect():
                self._with(message.stream, lambda each: each.expect(message.hotwords))
            case End():
                self._with(message.stream, Stream.end)
            case Cancel():
                self._with(message.stream, Stream.cancel)
                self._streams.pop(message.stream, None)

    def _hear(self, stream: int, data: bytes) -> None:
        self._with(stream, lambda each: each.send(data))

    def _with(self, number: int, call: Callable[[Stream], None]) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            with contextlib.suppress(ParastreamError):  # the engine has failed, which ends this process
                call(stream)

    def _open(self, message: Open) -> None:
        def on_events(events: list[Event]) -> None:  # on the inference thread
            self._mailbox.put(partial(self._tell, message.stream), events)

        try:
            self._streams[message.stream] = self._engine.open(
                message.config, on_events, message.name, admitted=True, replay=message.replay
            )
        except ModelConfigError as error:
            self._channel.send(Refused(message.stream, "unsupported", str(error)))
        except ParastreamError as error:
            self._channel.send(Refused(message.stream, "internal_error", str(error)))

    def _tell(self, stream: int, events: Sequence[Event]) -> None:
        if stream in self._streams:
            self._channel.send(told(stream, events))
            if isinstance(events[-1], SessionEnded):
                del self._streams[stream]


class _Telling(Observer):
    """Passes on to the front what it counts."""

    def __init__(self, mailbox: Mailbox, channel: Channel) -> None:
        self._mailbox = mailbox
        self._channel = channel

    def turn(self, turn: Turn) -> None:
        self._tell(turn)

    def partial(self, partial: PartialTiming) -> None:
        self._tell(partial)

    def final(self, final: FinalTiming) -> None:
        self._tell(final)

    def _tell(self, what: Observation) -> None:
        self._mailbox.put(lambda _: self._channel.send(observed(what)), ())


def _ready(engine: Engine) -> Ready:
    from parastream.model.device import on_cpu

    device = "CPU" if on_cpu() else "GPU"
    return Ready(engine.model, engine.languages, engine.listeners, device, str(blas.info()), engine.stats())


def _take_cpus(setup: Setup) -> None:
    """Keep to a share of the CPUs where engines compute on them: each measures what it can do with its own."""
    from parastream.model.device import on_cpu

    count = setup.config.engines
    if sys.platform == "linux" and on_cpu():
        cpus = sorted(os.sched_getaffinity(0))
        if count <= len(cpus):
            first, last = (len(cpus) * place // count for place in (setup.place, setup.place + 1))
            os.sched_setaffinity(0, cpus[first:last])
