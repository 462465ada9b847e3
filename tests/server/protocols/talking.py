"""Talk with an adapter by hand, and with a server over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from parastream.server.app import Server
from parastream.server.protocols.base import Adapter
from parastream.server.routes import parse
from parastream.streaming import events as ev
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ..fakes import FakeEngine, FakeStream, admission

Message = dict[str, Any]


def said(utterance: int, text: str, *, start: float = 1.0, word: float = 0.25, confidence: float = 0.5) -> ev.Final:
    """A final whose words, told apart by spaces, last `word` seconds each."""
    words = [
        ev.Word(each, start + index * word, start + (index + 1) * word, confidence)
        for index, each in enumerate(text.split())
    ]
    end = words[-1].end if words else start
    return ev.Final(utterance, start, end, text, tuple(words), confidence if words else 0.0)


def hears(utterance: int, stable: str, draft: str = "", *, start: float = 1.0) -> ev.Partial:
    """A partial without words."""
    return ev.Partial(utterance, start, start + 1, stable, draft, ())


class Talk:
    """An adapter over a scripted engine, held as a connection would."""

    def __init__(self, kind: type[Adapter], path: str = "/", **settings: Any) -> None:
        self.engine = FakeEngine()
        self.admission = admission(self.engine, **settings)
        self.adapter = kind(self.admission, parse(path))
        self._started: set[tuple[int, int]] = set()

    def say(self, *messages: bytes | str | Message) -> None:
        for message in messages:
            self.adapter.receive(json.dumps(message) if isinstance(message, dict) else message)

    @property
    def stream(self) -> FakeStream:
        """The stream that was opened last."""
        return self.engine.streams[-1]

    def tell(self, events: Iterable[ev.Event], stream: FakeStream | None = None) -> None:
        """Have a stream, or the last one, tell of something; utterances begin by themselves."""
        stream = stream or self.stream
        for event in events:
            if isinstance(event, ev.Partial | ev.Final) and (id(stream), event.utterance) not in self._started:
                self._started.add((id(stream), event.utterance))
                stream.tell([ev.SpeechStarted(event.utterance, event.start)])
            stream.tell([event])

    def raw(self) -> list[str]:
        """What was sent since the last time."""
        sent = []
        while (message := self.adapter.take()) is not None:
            sent.append(message.decode())
        return sent

    def heard(self) -> list[Message]:
        """The same, when it is all JSON."""
        return [json.loads(message) for message in self.raw()]

    @property
    def close_code(self) -> int | None:
        return None if self.adapter.ending is None else self.adapter.ending[0]


@asynccontextmanager
async def connected(server: Server, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """A connection to one of the server's paths."""
    url = f"ws://127.0.0.1:{server.port}{path}"
    async with connect(url, ping_interval=None, compression=None, close_timeout=0.5, **options) as websocket:
        yield websocket


async def all_of(websocket: ClientConnection) -> tuple[list[str], int]:
    """All messages until the server closes, and the code that it closes with."""
    messages: list[str] = []
    try:
        while True:
            messages.append(str(await websocket.recv()))
    except ConnectionClosed as closed:
        if closed.rcvd is None:
            raise
        return messages, closed.rcvd.code


def pieces(audio: bytes, size: int) -> Iterable[bytes]:
    """Audio cut into messages."""
    return (audio[first : first + size] for first in range(0, len(audio), size))


async def speak(
    websocket: ClientConnection,
    *messages: bytes | str | Message,
    size: int = 3200,
    pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0),
) -> None:
    """Send messages, audio cut into such of `size` bytes."""
    for message in messages:
        if isinstance(message, bytes):
            for piece in pieces(message, size):
                await websocket.send(piece)
                await pause()
        else:
            await websocket.send(json.dumps(message) if isinstance(message, dict) else message)
