"""Several engines in processes of their own, in place of one `Engine`: where sessions go, and what becomes of them.

A session goes to the engine that is least loaded for its capacity. When an engine's process ends, its sessions go on
elsewhere, or wait for an engine, and the process is started again. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from parastream.model.errors import EngineError
from parastream.model.hotwords import Hotwords
from parastream.server.config import ServerConfig
from parastream.server.engines.channel import (
    Cancel,
    Channel,
    End,
    Expect,
    Failed,
    Flush,
    FromEngine,
    Observed,
    Open,
    Ready,
    Refused,
    Setup,
    Stats,
    Told,
    events_of,
    observation,
)
from parastream.server.engines.stream import EngineStream
from parastream.server.metrics import ENGINE_COUNTERS, Metrics
from parastream.streaming import EngineStats, Observer, SessionConfig
from parastream.streaming.capacity import no_room, places
from parastream.streaming.events import Event
from parastream.streaming.observer import FinalTiming, PartialTiming, Turn
from parastream.streaming.replay import Replay
from parastream.streaming.runner import Listener

logger = logging.getLogger("parastream.engines")

_STEADY = 60.0
"""Seconds after which a process that ends is started again at once."""
_LONGEST_DELAY = 30.0
_MOST_FAILURES = 5
"""Starts that may fail in a row while no engine serves; then all is given up."""
_PATIENCE = 10.0
"""Seconds in which a process has to end when its socket has been closed."""


class _Process:
    """One engine's process, as the front sees it."""

    def __init__(self, observer: Observer, on_ready: Callable[[], None]) -> None:
        self.ready: Ready | None = None
        self.stats = EngineStats()
        self.failure: str | None = None
        """What it said was wrong, if it did."""
        self.closed = asyncio.Event()
        self.streams: dict[EngineStream, int] = {}
        self._numbers: dict[int, EngineStream] = {}
        self._count = 0
        self._observer = observer
        self._on_ready = on_ready
        self.channel = Channel(FromEngine, self._receive, lambda _number, _data: None, self.closed.set)

    @property
    def serves(self) -> bool:
        """Whether sessions can go there."""
        return self.ready is not None and self.failure is None and not self.closed.is_set()

    @property
    def receiving(self) -> int:
        """Sessions that may send more audio."""
        return sum(stream.receiving for stream in self.streams)

    @property
    def load(self) -> float:
        """Sessions as a share of what it can serve."""
        return self.receiving / max(1, self.stats.capacity)

    @property
    def places(self) -> int:
        """How many sessions more there is room for."""
        return places(self.receiving, self.stats.capacity, self.stats.window_wait)

    def _receive(self, message: FromEngine) -> None:
        match message:
            case Told():
                stream = self._numbers.get(message.stream)
                if stream is not None:
                    stream.receive(events_of(message))
            case Observed():
                match observation(message):
                    case Turn() as turn:
                        self._observer.turn(turn)
                    case PartialTiming() as partial:
                        self._observer.partial(partial)
                    case FinalTiming() as final:
                        self._observer.final(final)
            case Stats():
                self.stats = message.stats
            case Ready():
                self.ready, self.stats = message, message.stats
                self._on_ready()
            case Failed():
                self.failure = message.reason
            case Refused():
                stream = self._numbers.get(message.stream)
                if stream is not None:
                    stream.fail(message.code, message.reason)

    # what streams say

    def open(self, stream: EngineStream, replay: Replay) -> None:
        """Begin the stream."""
        self._count += 1
        self.streams[stream] = self._count
        self._numbers[self._count] = stream
        self.channel.send(Open(self._count, stream.config, stream.name, replay))

    def audio(self, stream: EngineStream, data: bytes) -> None:
        """Hand over audio."""
        self.channel.send_audio(self.streams[stream], data)

    def flush(self, stream: EngineStream) -> None:
        """End the open utterance."""
        self.channel.send(Flush(self.streams[stream]))

    def expect(self, stream: EngineStream, hotwords: Hotwords) -> None:
        """Listen for other hotwords."""
        self.channel.send(Expect(self.streams[stream], hotwords))

    def end(self, stream: EngineStream) -> None:
        """End the input."""
        self.channel.send(End(self.streams[stream]))

    def leave(self, stream: EngineStream) -> None:
        """Let go of a stream; the engine drops it unless it is over."""
        number = self.streams.pop(stream)
        del self._numbers[number]
        self.channel.send(Cancel(number))


class Engines:
    """Serves as an `Engine`, on the event loop; `start`, then `wait_ready`, and `close` at the end."""

    def __init__(
        self,
        command: Sequence[str],
        config: ServerConfig,
        metrics: Metrics,
        observer: Observer,
        *,
        offline: bool = False,
    ) -> None:
        """Prepare engines.

        Args:
            command: Starts an engine's process; the descriptor of its socket is added as the last argument.
            config: The server's settings, with `engines` of at least 1.
            metrics: Count what becomes of processes and sessions.
            observer: Told of each turn, partial and final.
            offline: Whether engines never ask the network for a model.
        """
        self._command = command
        self._config = config
        self._metrics = metrics
        self._observer = observer
        self._offline = offline
        self._processes: list[_Process | None] = [None] * config.engines
        self._keepers: list[asyncio.Task[None]] = []
        self._streams: set[EngineStream] = set()
        self._homeless: dict[EngineStream, None] = {}  # in the order in which their engines ended
        self._first: Ready | None = None
        self._warm = asyncio.Event()  # all have been ready, or it failed
        self._ended = asyncio.Event()
        self._failure: str | None = None
        self._stop = asyncio.Event()
        self._retired = EngineStats()  # counters of processes that have ended

    # as an engine

    @property
    def ready(self) -> bool:
        """Whether any engine serves."""
        return self._failure is None and any(self._serving)

    @property
    def _serving(self) -> list[_Process]:
        return [process for process in self._processes if process is not None and process.serves]

    @property
    def about(self) -> Ready:
        """What the engines said of themselves.

        Raises:
            EngineError: None is ready yet.
        """
        if self._first is None:
            raise EngineError("the models are not loaded yet")
        return self._first

    @property
    def model(self) -> str:
        """Name of the speech model. Raises `EngineError` before it is loaded."""
        return self.about.model

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that finals may be in. Raises `EngineError` before the models are loaded."""
        return self.about.languages

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The models that listen. Raises `EngineError` before they are loaded."""
        return self.about.listeners

    def check_running(self) -> None:
        """Raise `EngineError` if nothing can be served any more."""
        if self._failure is not None:
            raise EngineError(f"the engines failed: {self._failure}")
        if self._stop.is_set():
            raise EngineError("the engines have been stopped")

    def open(self, config: SessionConfig, on_events: Callable[[list[Event]], None], name: str = "") -> EngineStream:
        """Begin a session on the engine that has most to spare.

        Raises:
            CapacityError: The engines serve as many sessions as they can.
            EngineError: None is ready, or all have failed.
        """
        self.check_running()
        if not self.ready:
            raise EngineError("no engine is ready")
        roomy = [process for process in self._serving if process.places]
        if not roomy:
            raise no_room(sum(process.receiving for process in self._serving))
        stream = EngineStream(config, on_events, name, self._left)
        self._streams.add(stream)
        stream.work_on(min(roomy, key=lambda process: process.load))
        return stream

    def _left(self, stream: EngineStream) -> None:
        self._streams.discard(stream)
        self._homeless.pop(stream, None)

    def stats(self) -> EngineStats:
        """Return a snapshot: sums over all engines, but of what describes one session the worst."""
        all_stats = [process.stats for process in self._serving] or [EngineStats()]
        names = [name for name, _, _ in ENGINE_COUNTERS]
        counters = {name: sum(getattr(each, name) for each in (self._retired, *all_stats)) for name in names}
        return EngineStats(
            sessions=len(self._streams),
            capacity=sum(each.capacity for each in all_stats),
            places=sum(process.places for process in self._serving),
            utilisation=sum(each.utilisation for each in all_stats) / len(all_stats),
            backlog=max(each.backlog for each in all_stats),
            held=max(each.held for each in all_stats),
            window_wait=max(each.window_wait for each in all_stats),
            session_bytes=max(each.session_bytes for each in all_stats),
            **counters,
        )

    # processes

    async def start(self) -> None:
        """Start the processes, which load and warm up the models, and return at once."""
        self._metrics.watch_engines(lambda: len(self._serving))
        for place in range(self._config.engines):
            keeper = asyncio.create_task(self._keep(place))
            keeper.add_done_callback(self._note_end)
            self._keepers.append(keeper)

    async def wait_ready(self) -> None:
        """Wait until all models are warm.

        Raises:
            EngineError: An engine could not begin.
        """
        await self._warm.wait()
        self.check_running()

    async def wait_stopped(self) -> None:
        """Wait until all has been stopped or has failed."""
        await self._ended.wait()

    async def close(self) -> None:
        """End all processes; open sessions get no more events."""
        self._stop.set()
        for process in self._processes:
            if process is not None:
                process.channel.close()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._ended.set()

    async def _keep(self, place: int) -> None:
        """Have one engine's process, again and again."""
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            process = self._processes[place] = _Process(self._observer, self._note_ready)
            try:
                status = await self._run(process, place)
            except OSError as error:  # such as too many processes
                process.failure, status = str(error), 0
                process.closed.set()
            self._retire(process)
            if self._stop.is_set():
                return
            reason = process.failure or (f"signal {-status}" if status < 0 else f"status {status}")
            failures = 0 if time.monotonic() - began >= _STEADY else failures + 1
            if self._first is None or (failures >= _MOST_FAILURES and not self.ready):
                self._fail(reason)
                return
            logger.error(
                "engine %d ended (%s) and is started again; %d sessions go on elsewhere",
                place,
                reason,
                self._move(process),
            )
            self._metrics.engine_restarts.inc()
            if failures > 1:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(2.0 ** (failures - 2), _LONGEST_DELAY)):
                        await self._stop.wait()

    def _note_end(self, keeper: asyncio.Task[None]) -> None:
        error = keeper.exception()
        if error is not None:
            logger.error("an engine could not be kept", exc_info=error)
            self._fail(f"{type(error).__name__}: {error}")

    async def _run(self, process: _Process, place: int) -> int:
        """Run a process to its end and return its status."""
        front, engine = socket.socketpair()
        environment = dict(os.environ)
        if self._config.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._config.devices[place % len(self._config.devices)]
        try:
            started = await asyncio.create_subprocess_exec(
                *self._command,
                str(engine.fileno()),
                pass_fds=[engine.fileno()],
                env=environment,
                start_new_session=True,  # a Ctrl-C is for the front
            )
        except OSError:
            front.close()
            raise
        finally:
            engine.close()
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: process.channel, sock=front)
            process.channel.send(Setup(self._config, self._offline, place))
            if self._stop.is_set():
                process.channel.close()
            await process.closed.wait()
            async with asyncio.timeout(_PATIENCE):
                return await started.wait()
        except TimeoutError:
            started.kill()
            return await started.wait()

    def _note_ready(self) -> None:
        serving = self._serving
        self._first = self._first or next(process.ready for process in serving)
        if len(serving) == len(self._processes):
            self._warm.set()
        for stream in list(self._homeless):
            del self._homeless[stream]
            stream.work_on(min(serving, key=lambda process: process.load))

    def _move(self, process: _Process) -> int:
        """Have the sessions of a process that has ended go on elsewhere, and return how many do."""
        moved = [stream for stream in list(process.streams) if stream.lose_worker()]
        for stream in moved:
            if serving := self._serving:
                stream.work_on(min(serving, key=lambda each: each.load))
            else:
                self._homeless[stream] = None
        self._metrics.sessions_moved.inc(len(moved))
        return len(moved)

    def _retire(self, process: _Process) -> None:
        ended = process.stats
        counters = {name: getattr(self._retired, name) + getattr(ended, name) for name, _, _ in ENGINE_COUNTERS}
        self._retired = replace(self._retired, **counters)

    def _fail(self, reason: str) -> None:
        self._failure = reason
        for stream in list(self._streams):
            stream.fail("internal_error", "the recogniser has failed")
        self._warm.set()
        self._ended.set()
