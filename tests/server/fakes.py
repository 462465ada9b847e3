"""A scripted engine, for tests of what happens around the recogniser; and helpers that talk to a server."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection
from typing import Any, ParamSpec, cast

from parastream.model.computing import Computing
from parastream.model.errors import EngineError
from parastream.model.hotwords import Hotwords
from parastream.server.app import Server
from parastream.server.config import ServerConfig
from parastream.server.metrics import Metrics
from parastream.server.sessions.admission import Admission
from parastream.server.wire.messages import Error, Ready, ServerMessage, decode_server_message
from parastream.streaming import Engine, EngineStats, SessionConfig
from parastream.streaming.events import (
    Event,
    Final,
    Flushed,
    Partial,
    Progress,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
    Word,
)
from parastream.streaming.runner import Listener
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

P = ParamSpec("P")

UTTERANCE = 3200
"""Bytes of each utterance that the scripted engine hears."""


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop of its own; fail it when it hangs."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            # A busy machine makes any step slow, which the debug mode would tell in the log that tests look at.
            asyncio.get_running_loop().slow_callback_duration = math.inf
            async with asyncio.timeout(60):
                await test(*args, **kwargs)

        asyncio.run(limited(), debug=True)

    return run


def heard(index: int, audio: bytes) -> list[Event]:
    """What the scripted engine tells of one utterance: its text is a digest of its audio."""
    text = hashlib.sha256(audio).hexdigest()[:16]
    start, end = index * 0.1, index * 0.1 + len(audio) / 32000
    word = Word(text, start, end, 0.5)
    return [
        SpeechStarted(index, start),
        Partial(index, start, end, text[:8], text[8:], (word,)),
        SpeechEnded(index, end, "silence"),
        Final(index, start, end, text, (word,), 0.5),
    ]


def expected_texts(audio: bytes) -> list[str]:
    """The finals of the scripted engine for all of a session's audio."""
    pieces = [audio[first : first + UTTERANCE] for first in range(0, len(audio), UTTERANCE)]
    finals = [heard(index, piece)[-1] for index, piece in enumerate(pieces)]
    return [final.text for final in finals if isinstance(final, Final)]


class FakeStream:
    """Hears an utterance in every `UTTERANCE` bytes, and in the rest at the end."""

    def __init__(self, config: SessionConfig, on_events: Callable[[list[Event]], None]) -> None:
        self.config = config
        self.tell = on_events
        self.audio = b""
        self.utterances = 0
        self.ended = False
        self.cancelled = False
        self.behind = 0.0
        """Seconds of audio that it has not looked at."""
        self.failure: Exception | None = None
        self.expected = [config.hotwords]
        """The hotwords from the beginning, and from each change."""
        self.hold_end = False
        """Whether finals at the end, and at a flush, are a long time coming."""

    def send(self, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.audio += data
        self._look()

    def look(self, behind: float = 0.0) -> None:
        """Look at all the audio, also at what is to come, but for what lies `behind`, in seconds."""
        self.behind = behind
        self._look()

    def _look(self) -> None:
        audio = self.config.format
        time = len(self.audio) // audio.frame_bytes / audio.rate - self.behind
        while UTTERANCE * (self.utterances + 1) <= min(len(self.audio), time * audio.frame_bytes * audio.rate):
            self._hear()
        if time > 0 and not self.cancelled:
            self.tell([Progress(time, time)])

    def _hear(self) -> None:
        first = UTTERANCE * self.utterances
        events = heard(self.utterances, self.audio[first : first + UTTERANCE])
        self.utterances += 1
        self.tell([event for event in events if self.config.partials or not isinstance(event, Partial)])

    def expect(self, hotwords: Hotwords) -> None:
        self.expected.append(hotwords)

    def flush(self) -> None:
        if self.hold_end:
            return
        if len(self.audio) > UTTERANCE * self.utterances:
            self._hear()
        self.tell([Flushed(len(self.audio) / 32000)])

    def end(self) -> None:
        if not self.ended and not self.hold_end:
            self.look()
            if len(self.audio) > UTTERANCE * self.utterances:
                self._hear()
            self.tell([SessionEnded(len(self.audio) / 32000)])
        self.ended = True

    def cancel(self) -> None:
        self.cancelled = True


class FakeEngine:
    """Opens scripted streams."""

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.ready = True
        self.failure: Exception | None = None
        self.refusal: Exception | None = None
        self.languages: tuple[str, ...] = ("en",)
        self.loading = False
        self.places = 1000

    @property
    def listeners(self) -> tuple[Listener, ...]:
        computing = Computing("graphs", "int8")
        return (Listener("scripted", self.languages, partials=True, finals=True, computing=computing),)

    @property
    def model(self) -> str:
        if self.loading:
            raise EngineError("the models are not loaded yet")
        return "scripted"

    def check_running(self) -> None:
        if self.failure is not None:
            raise EngineError(f"the engine failed: {self.failure}")

    def open(self, config: SessionConfig, on_events: Callable[[list[Event]], None], name: str) -> FakeStream:
        if self.refusal is not None:
            raise self.refusal
        self.streams.append(FakeStream(config, on_events))
        return self.streams[-1]

    def stats(self) -> EngineStats:
        return EngineStats(sessions=len(self.streams), windows=7, capacity=3, utilisation=0.5, places=self.places)


class TimedStream(FakeStream):
    """Tells the times of its audio at any rate."""

    def _hear(self) -> None:
        audio = self.config.format
        first = UTTERANCE * self.utterances
        piece = self.audio[first : first + UTTERANCE]
        start, end = (place / audio.frame_bytes / audio.rate for place in (first, first + len(piece)))
        word = Word("words", start, end, 0.5)
        self.tell([SpeechStarted(self.utterances, start), Final(self.utterances, start, end, "words", (word,), 0.5)])
        self.utterances += 1


class TimedEngine(FakeEngine):
    """Opens such streams."""

    def open(self, config: SessionConfig, on_events: Callable[[list[Event]], None], name: str = "") -> FakeStream:
        self.streams.append(TimedStream(config, on_events))
        return self.streams[-1]


def admission(engine: FakeEngine, **settings: Any) -> Admission:
    """What protocols begin transcriptions with, on this thread."""
    return Admission(cast(Engine, engine), ServerConfig(**settings), Metrics(), lambda call: call())


@asynccontextmanager
async def serving(engine: FakeEngine | Engine, **settings: Any) -> AsyncIterator[Server]:
    """A server on a free port, closed at the end."""
    settings = {"port": 0, "drain_timeout": 0.5, "close_timeout": 0.5, **settings}
    server = Server(cast(Engine, engine), ServerConfig(**settings))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def connected(
    server: Server, *first: str | bytes, path: str = "", **options: Any
) -> AsyncIterator[ClientConnection]:
    """A bare WebSocket connection on which some messages have been sent; `path` is added to the address."""
    async with connect(
        server.url + path, ping_interval=None, compression=None, close_timeout=0.5, **options
    ) as websocket:
        for message in first:
            await websocket.send(message)
        yield websocket


async def receive(websocket: ClientConnection) -> ServerMessage:
    """The next message."""
    return decode_server_message(await websocket.recv())


async def receive_all(websocket: ClientConnection) -> tuple[list[ServerMessage], int, str]:
    """All messages until the server closes, and the code and reason it closes with."""
    messages: list[ServerMessage] = []
    try:
        while True:
            messages.append(await receive(websocket))
    except ConnectionClosed as closed:
        if closed.rcvd is None:
            raise
        return messages, closed.rcvd.code, closed.rcvd.reason


async def receive_ready(websocket: ClientConnection) -> Ready:
    """The answer to `start` or `resume`."""
    message = await receive(websocket)
    assert isinstance(message, Ready)
    return message


def error_in(messages: list[ServerMessage]) -> Error:
    """The last message, which says what was wrong."""
    message = messages[-1]
    assert isinstance(message, Error)
    return message


async def get(server: Server, path: str) -> tuple[int, str]:
    """Status and body of a plain HTTP request."""

    def request() -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    return await asyncio.to_thread(request)


async def metrics(server: Server) -> dict[str, float]:
    """What `/metrics` says, by name; those with labels are left out."""
    _, text = await get(server, "/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if not sample.labels}
