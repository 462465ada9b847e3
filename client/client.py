"""The asynchronous client: audio in, events out, over connections that may break in between.

```python
import asyncio

import soundfile
from parastream.client import Final, connect


async def main() -> None:
    samples, rate = soundfile.read("speech.wav", dtype="int16")
    async with connect("ws://127.0.0.1:8765", rate=rate) as client:
        await client.send(samples)
        await client.stop()
        async for event in client:
            if isinstance(event, Final):
                print(event.text)


asyncio.run(main())
```

Sending and iterating may also happen in two tasks, for live audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import msgspec
import numpy as np
from numpy.typing import NDArray
from parastream.client.errors import ClientError, ConnectionFailedError, ServerError
from parastream.server.wire.messages import (
    PROTOCOL,
    STREAM_PATH,
    Acknowledged,
    Done,
    EndpointOptions,
    Error,
    Final,
    Flush,
    Flushed,
    Partial,
    Ready,
    Resume,
    ServerMessage,
    SpeechEnded,
    SpeechStarted,
    Start,
    Stats,
    Stop,
    decode_server_message,
    encode,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

ClientEvent = SpeechStarted | Partial | SpeechEnded | Final | Flushed | Stats | Done
"""What iterating over a client yields."""

_LARGEST_MESSAGE = 1 << 16  # bytes
_FLUSH = b""  # stands for a flush among pieces of audio
_RESUMABLE = (1011, 1012)  # close codes after which the session may still be there
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0  # seconds between attempts to reconnect


@dataclass(frozen=True, slots=True)
class Reconnected:
    """A broken connection was replaced and the session goes on; nothing was lost."""

    attempts: int
    seconds: float
    """How long the session had no connection."""
    resent: int
    """Bytes of audio that have to be sent once more."""
    cause: Exception
    """What broke the connection."""


def connect(
    url: str,
    *,
    token: str | None = None,
    format: Literal["s16le", "f32le", "mulaw", "alaw"] = "s16le",
    rate: int = 16000,
    channels: int = 1,
    channel: int | Literal["all"] = 0,
    labels: Sequence[str] = (),
    model: str = "",
    hotwords: Sequence[str] = (),
    partials: bool = True,
    punctuation: bool = True,
    final_pass: bool = True,
    room: str = "",
    stats: float = 0.0,
    endpoint: Mapping[str, float] | None = None,
    on_reconnect: Callable[[Reconnected], None] | None = None,
    open_timeout: float = 10.0,
    buffer_bytes: int = 8 << 20,
) -> AsyncClient:
    """Prepare a session; `async with` opens it. A URL without a path means the server's native endpoint.

    Args:
        url: `ws://` or `wss://` address of the server.
        token: presented as a bearer token.
        format, rate, channels, channel: what the audio is, and which of its channels is recognised (`all`: each one).
        labels: names of the speakers, one for each channel that is recognised.
        model: name of the model that is expected; empty for the server's.
        partials: whether to be told what is heard before an utterance has ended.
        punctuation: whether finals are punctuated.
        final_pass: False for finals as the streaming pass heard them.
        room: the caption room that hears the session.
        stats: seconds between `Stats` events, 0 for none.
        endpoint: fields of `EndpointOptions`, where utterances begin and end.
        on_reconnect: called when a broken connection has been replaced.
        open_timeout: seconds for opening a connection.
        buffer_bytes: audio kept until the server has acknowledged it; `send` waits while there is more.
    """
    start = Start(
        format=format,
        rate=rate,
        channels=channels,
        channel=channel,
        labels=tuple(labels),
        model=model,
        hotwords=tuple(hotwords),
        partials=partials,
        punctuation=punctuation,
        final_pass=final_pass,
        room=room,
        stats=stats,
        endpoint=EndpointOptions(**(endpoint or {})),
    )
    return AsyncClient(
        url,
        start,
        token=token,
        on_reconnect=on_reconnect,
        open_timeout=open_timeout,
        buffer_bytes=buffer_bytes,
    )


def stream_url(url: str) -> str:
    """The address of a server's native endpoint, unless `url` has a path of its own."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=STREAM_PATH)) if parts.path in ("", "/") else url


def proxy_for(url: str) -> Literal[True] | None:
    """As websockets wants it: none to a server on this machine, else the one that the environment names."""
    return None if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1") else True


class AsyncClient:
    """One session. Made by `connect`; an asynchronous context manager and an asynchronous iterator of events.

    When the connection breaks, the session goes on over a new one for as long as the server keeps it. Errors:
    `ServerError` when the server refuses something, `ConnectionFailedError` when the session cannot go on; both
    come from the iteration after the events before them, and from `send`.
    """

    def __init__(
        self,
        url: str,
        start: Start,
        *,
        token: str | None,
        on_reconnect: Callable[[Reconnected], None] | None,
        open_timeout: float,
        buffer_bytes: int,
    ) -> None:
        self._url = stream_url(url)
        self._start = start
        self._token = token
        self._on_reconnect = on_reconnect
        self._open_timeout = open_timeout
        self._audio = _UnacknowledgedAudio(buffer_bytes)
        self._stopped = False
        self._received = 0  # seq of the last event
        self._events: deque[ClientEvent | ServerError] = deque()
        self._ended = False
        self._failure: ClientError | None = None
        self._work = asyncio.Event()  # there is something to send
        self._room = asyncio.Event()  # there may be room for more audio
        self._news = asyncio.Event()  # there may be something for the iterator
        self._ready: Ready | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> Ready:
        """What the server said when the session was opened."""
        if self._ready is None:
            raise RuntimeError("the session is not open; use `async with connect(...) as client:`")
        return self._ready

    @property
    def acknowledged(self) -> int:
        """Bytes of audio that the server has accepted for certain."""
        return self._audio.acknowledged

    async def __aenter__(self) -> Self:
        websocket, self._ready = await self._open(self._start)
        self._task = asyncio.create_task(self._run(websocket))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close. A session that was not stopped, or whose `Done` has not come yet, is dropped."""
        assert self._task is not None
        if not self._ended:  # otherwise it is closing its connection, and may finish that
            self._task.cancel()
        await asyncio.wait([self._task])

    async def send(self, audio: bytes | bytearray | memoryview | NDArray[Any]) -> None:
        """Send audio: bytes of the session's format cut anywhere, or an array of int16 or float samples.

        Arrays are (n,) or (n, channels) and are converted to the session's format; floats have full scale 1.

        Raises:
            ServerError, ConnectionFailedError: the session has ended.
            TypeError, ValueError: the array does not fit the session's format.
        """
        data = memoryview(_wire_bytes(audio, self._start.format, self._start.channels))
        if self._stopped:
            raise RuntimeError("audio after stop()")
        for first in range(0, len(data), _LARGEST_MESSAGE):
            while self._audio.full and not self._ended:
                self._room.clear()
                await self._room.wait()
            if self._ended:
                raise self._failure or RuntimeError("the session has ended")
            self._audio.append(bytes(data[first : first + _LARGEST_MESSAGE]))
            self._work.set()
        await asyncio.sleep(0)  # lets the audio out even if the caller never waits for anything else

    async def flush(self) -> None:
        """End the open utterance with the audio sent so far; `Flushed` follows its `Final`, and the session goes on.

        Raises:
            ServerError, ConnectionFailedError: the session has ended.
        """
        if self._stopped:
            raise RuntimeError("flush() after stop()")
        if self._ended:
            raise self._failure or RuntimeError("the session has ended")
        self._audio.append(_FLUSH)
        self._work.set()
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Say that the audio has ended; go on iterating for the finals and `Done`."""
        self._stopped = True
        self._work.set()
        await asyncio.sleep(0)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientEvent:
        while not self._events:
            if self._ended:
                raise self._failure or StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        event = self._events.popleft()
        if isinstance(event, ServerError):
            raise event
        return event

    # connections

    async def _open(self, first: Start | Resume) -> tuple[ClientConnection, Ready]:
        """Connect and begin or resume the session.

        Raises:
            ServerError: the server refuses.
            ConnectionFailedError: there is no way to the server.
        """
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            async with asyncio.timeout(self._open_timeout):
                websocket = await connect_websocket(
                    self._url,
                    subprotocols=[Subprotocol(PROTOCOL)],
                    additional_headers=headers,
                    compression=None,
                    ping_interval=None,  # the server is never silent for long, see _receive
                    max_queue=None,  # everything is read at once; a full queue would hold up closing
                    proxy=proxy_for(self._url),
                )
                try:
                    await websocket.send(encode(first), text=True)
                    answer = _decode(await websocket.recv())
                except BaseException:
                    await _abort(websocket)
                    raise
        except InvalidStatus as error:
            raise _http_error(error) from error
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            raise ConnectionFailedError(f"cannot connect to {self._url}: {error or 'timed out'}") from error
        if isinstance(answer, Ready):
            return websocket, answer
        await _abort(websocket)
        if isinstance(answer, Error):
            raise ServerError(answer.code, answer.message, answer.allowed)
        raise ClientError(f"the server answered with {type(answer).__name__} instead of Ready")

    async def _run(self, websocket: ClientConnection) -> None:
        """Keep the session going over as many connections as it takes."""
        try:
            while True:
                try:
                    await self._exchange(websocket)
                    break
                except (ConnectionClosed, TimeoutError) as error:
                    await _abort(websocket)
                    websocket = await self._reconnect(error)
        except ClientError as error:
            self._failure = error
        finally:
            self._ended = True
            self._news.set()
            self._room.set()
            await websocket.close()

    async def _reconnect(self, cause: ConnectionClosed | TimeoutError) -> ClientConnection:
        if isinstance(cause, ConnectionClosed) and cause.rcvd is not None and cause.rcvd.code not in _RESUMABLE:
            raise ConnectionFailedError(f"the server closed the connection: {cause.rcvd}") from cause
        clock = asyncio.get_running_loop().time
        began, delay, attempts = clock(), _FIRST_DELAY, 0
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            attempts += 1
            try:
                websocket, ready = await self._open(Resume(self.ready.session, self._received))
                break
            except ConnectionFailedError as error:
                delay = min(2 * delay, _LONGEST_DELAY)
                if clock() + delay > began + self.ready.resume_window:
                    message = f"the session could not be resumed in {clock() - began:.1f} s: {error}"
                    raise ConnectionFailedError(message) from cause
        resent = self._audio.rewind(ready.acknowledged)
        if self._on_reconnect is not None:
            self._on_reconnect(Reconnected(attempts, clock() - began, resent, cause))
        return websocket

    async def _exchange(self, websocket: ClientConnection) -> None:
        """Send and receive until the session has ended.

        Raises:
            ConnectionClosed, TimeoutError: the connection broke.
            ServerError: the server ended the session.
        """
        transmitting = asyncio.create_task(self._transmit(websocket))
        try:
            await self._receive(websocket)
        finally:
            transmitting.cancel()
            await asyncio.wait([transmitting])

    async def _transmit(self, websocket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # _receive is told as well
            while True:
                self._work.clear()
                while (data := self._audio.take()) is not None:
                    if data == _FLUSH:
                        await websocket.send(encode(Flush()), text=True)
                    else:
                        await websocket.send(data)
                if self._stopped:
                    await websocket.send(encode(Stop()), text=True)
                    return
                await self._work.wait()

    async def _receive(self, websocket: ClientConnection) -> None:
        patience = 2 * self.ready.heartbeat
        while True:
            async with asyncio.timeout(patience):
                message = _decode(await websocket.recv())
            match message:
                case Acknowledged():
                    self._audio.acknowledge(message.bytes)
                    self._room.set()
                case Stats():
                    self._put(message)
                case Ready():
                    raise ClientError("the server sent a second Ready")
                case _ if 0 < message.seq <= self._received:
                    pass  # sent again after a resume, but it had arrived
                case Error():
                    self._received = message.seq
                    error = ServerError(message.code, message.message, message.allowed)
                    if message.code != "incomplete_sample":
                        raise error
                    self._put(error)  # done follows
                case Done():
                    self._put(message)
                    return
                case _:
                    self._received = message.seq
                    self._put(message)

    def _put(self, event: ClientEvent | ServerError) -> None:
        """Queue for the iterator; of the partials of an utterance that nobody has read only the newest counts."""
        if (
            isinstance(event, Partial)
            and self._events
            and isinstance(last := self._events[-1], Partial)
            and last.utterance == event.utterance
        ):
            self._events.pop()
        self._events.append(event)
        self._news.set()


class _UnacknowledgedAudio:
    """Audio that the server may not have yet, in the pieces in which it is sent; empty ones are flushes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._next = 0  # index of the piece to send next
        self._size = 0
        self.acknowledged = 0
        """Bytes before the first piece."""

    @property
    def full(self) -> bool:
        return self._size >= self._limit

    def append(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)

    def take(self) -> bytes | None:
        """The next piece to send, if there is one."""
        if self._next == len(self._pieces):
            return None
        self._next += 1
        return self._pieces[self._next - 1]

    def acknowledge(self, total: int) -> None:
        """Forget what the server has: its first `total` bytes of the session."""
        # A flush is only known to have arrived when audio behind it has.
        while self._pieces and self.acknowledged + max(1, len(self._pieces[0])) <= total:
            self.acknowledged += len(self._pieces[0])
            self._size -= len(self._pieces.popleft())
            self._next -= 1

    def rewind(self, total: int) -> int:
        """Begin to send again after the first `total` bytes; returns how many of the sent ones that repeats.

        Raises:
            ClientError: the server has fewer bytes than it had acknowledged.
        """
        if total < self.acknowledged:
            raise ClientError(f"the server lost audio: it has {total} of {self.acknowledged} bytes")
        sent = self.acknowledged + sum(map(len, list(self._pieces)[: self._next]))
        self.acknowledge(total)
        if total > self.acknowledged:
            self._pieces[0] = self._pieces[0][total - self.acknowledged :]
            self._size -= total - self.acknowledged
            self.acknowledged = total
        self._next = 0
        return sent - total


async def _abort(websocket: ClientConnection) -> None:
    """Close without a goodbye, which nobody would hear."""
    websocket.transport.abort()
    await websocket.wait_closed()


def _wire_bytes(audio: bytes | bytearray | memoryview | NDArray[Any], format: str, channels: int) -> bytes:
    """Audio as bytes of the session's format."""
    if not isinstance(audio, np.ndarray):
        return bytes(audio)
    if not (audio.ndim == 1 or (audio.ndim == 2 and audio.shape[1] == channels)):
        raise ValueError(f"samples of shape {audio.shape}; allowed are (n,) and (n, {channels})")
    integer, floating = audio.dtype.newbyteorder("=") == np.int16, np.issubdtype(audio.dtype, np.floating)
    if not (integer or floating) or format not in ("s16le", "f32le"):
        raise TypeError(
            f"samples of type {audio.dtype} for the format {format}; "
            "int16 and float arrays can be sent as s16le and f32le, anything else as bytes"
        )
    if format == "f32le":
        return (audio / np.float32(32768) if integer else audio).astype("<f4").tobytes()
    if integer:
        return audio.astype("<i2").tobytes()
    if not np.isfinite(audio).all():
        raise ValueError("samples that are not finite cannot be sent as s16le")
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype("<i2").tobytes()


def _decode(data: str | bytes) -> ServerMessage:
    try:
        return decode_server_message(data)
    except msgspec.DecodeError as error:
        raise ClientError(f"the server sent something else than {PROTOCOL}: {error}") from error


def _http_error(error: InvalidStatus) -> ClientError:
    """What an HTTP response other than the upgrade says."""
    with contextlib.suppress(msgspec.DecodeError):
        message = decode_server_message(bytes(error.response.body or b""))
        if isinstance(message, Error):
            return ServerError(message.code, message.message, message.allowed)
    return ConnectionFailedError(f"the server answered with HTTP status {error.response.status_code}")
