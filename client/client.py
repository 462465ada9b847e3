"""The asynchronous client: audio in, events out, over connections that may break in between.

```python
import asyncio

from parastream.client import Final, connect
from parastream.client.sources import read


async def main() -> None:
    samples, rate = read("speech.wav")
    async with connect("ws://127.0.0.1:8765", rate=rate) as client:
        await client.send(samples)
        await client.stop()
        async for event in client:
            if isinstance(event, Final):
                print(event.text)


asyncio.run(main())
```

Sending and iterating may also happen in two tasks, for live audio.

Every call may be cancelled or put under `asyncio.timeout`, and the client can be used on afterwards:

- Entering: nothing is left open, the server drops a session that may have begun, and the client may be entered again.
- `send`: takes all of its audio or, if it raises, none of it.
- `flush` and `stop` take effect at once, without waiting for anything.
- Iterating: no event is lost; the next call gives the one that would have come.
- Leaving the block, or `close`: the connection is closed at once, without the closing handshake.

However the block is left, no task and no connection remains.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from parastream.client.audio import Audio, encode_audio
from parastream.client.connection import abort, leave, open_connection, receive_message, with_query
from parastream.client.errors import ConnectionFailedError, ServerError
from parastream.client.session import ClientEvent, ResumableSession
from parastream.server.wire.messages import (
    EndpointOptions,
    Flush,
    Hotword,
    Ready,
    Resume,
    SetHotwords,
    Start,
    encode,
)
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

_RESUMABLE = (1011, 1012)  # close codes after which the session may still be there
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0  # seconds between attempts to reconnect


@dataclass(frozen=True, slots=True)
class Reconnected:
    """A new connection has replaced a broken one and the session goes on; nothing was lost."""

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
    channel: int | Literal["all", "mix"] = "mix",
    labels: Sequence[str] = (),
    model: str = "",
    hotwords: Sequence[str | Hotword] = (),
    partials: bool = True,
    punctuation: bool = True,
    itn: bool = False,
    replace: Sequence[str] = (),
    profanity: Literal["", "keep", "mask", "drop"] = "",
    final_pass: bool = True,
    language: str = "",
    tags: bool = False,
    room: str = "",
    stats: float = 0.0,
    endpoint: Mapping[str, float] | None = None,
    on_reconnect: Callable[[Reconnected], None] | None = None,
    open_timeout: float = 3.0,
    buffer_bytes: int = 8 << 20,
) -> AsyncClient:
    """Prepare a session; `async with` opens it.

    Args:
        url: `ws://` or `wss://` address of the server; without a path, the server's native endpoint.
        token: presented as a bearer token.
        format: sample format of audio that is sent as bytes, and on the wire.
        rate: sampling rate in Hz.
        channels: number of interleaved channels.
        channel: the channel that is recognised, counted from 0; `all` recognises each one separately, `mix` all of them
            together.
        labels: names of the speakers, one for each channel that is recognised.
        model: name of the model that is expected; empty for the server's.
        hotwords: terms to listen for, as they are to be written, besides those of the server.
        partials: whether to get `Partial` events while an utterance lasts.
        punctuation: whether finals are punctuated.
        itn: whether finals have numbers as people write them.
        replace: rules for replacing words, such as `wrong => right`.
        profanity: what becomes of swear words; empty for what the server does.
        final_pass: False for finals as the streaming pass recognised them.
        language: what is spoken, as an ISO 639 code; empty where the models are to find out.
        tags: whether to get `Tags` events: emotions and sounds, where a model hears them.
        room: caption room that shows the session.
        stats: seconds between `Stats` events, 0 for none.
        endpoint: fields of `EndpointOptions`, which say where utterances begin and end.
        on_reconnect: called when a broken connection has been replaced. What it raises ends the session and comes
            out of the iteration.
        open_timeout: seconds for opening a connection, the server's answer included.
        buffer_bytes: unacknowledged audio from which on `send` waits.
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
        itn=itn,
        replace=tuple(replace),
        profanity=profanity,
        final_pass=final_pass,
        language=language,
        tags=tags,
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


class AsyncClient:
    """A session with a server. Made by `connect`; an asynchronous context manager and an iterator of events.

    When the connection breaks, the session goes on over a new one for as long as the server keeps it. `ServerError`
    when the server refuses something, `ConnectionFailedError` when the session cannot go on: both come out of the
    iteration, after the events before them, and out of `send`.

    The module's docstring says what a cancelled call does.
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
        self._url = url
        self._token = token
        self._on_reconnect = on_reconnect
        self._open_timeout = open_timeout
        self._session = ResumableSession(start, buffer_bytes)
        self._opening = False
        self._ended = False  # nothing more comes in or goes out
        self._failure: Exception | None = None
        self._work = asyncio.Event()  # there may be something to send
        self._space = asyncio.Event()  # there may be space for more audio
        self._news = asyncio.Event()  # there may be something for the iterator
        self._websocket: ClientConnection
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> Ready:
        """What the server said when the session was opened."""
        self._check_open()
        assert self._session.ready is not None
        return self._session.ready

    @property
    def accepted(self) -> int:
        """Bytes of audio that `send` has taken."""
        return self._session.window.accepted

    @property
    def acknowledged(self) -> int:
        """Bytes of audio that the server has for certain."""
        return self._session.window.acknowledged

    async def __aenter__(self) -> Self:
        if self._opening or self._task is not None:
            raise RuntimeError("the client has been entered already; `connect` makes another one")
        self._opening = True
        try:
            url = with_query(self._url, room=self._session.start.room)
            self._websocket, ready = await open_connection(
                url, self._session.first_message(), token=self._token, timeout=self._open_timeout
            )
        finally:
            self._opening = False
        self._session.connected(ready)
        self._task = asyncio.create_task(self._run(), name="parastream client")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. The server drops a session whose `Done` has not come.

        Events that came before can still be read. Closing again does nothing. When this is cancelled, the connection
        is closed at once, without the closing handshake.
        """
        if self._task is None:
            return
        if not self._ended:  # otherwise the task is closing the connection itself
            self._task.cancel()
        self._end()
        try:
            await asyncio.wait([self._task])
            await leave(self._websocket)  # also if the task was cancelled before it began
        except asyncio.CancelledError:
            self._task.cancel()
            await abort(self._websocket)
            await asyncio.wait([self._task])
            raise

    async def send(self, audio: Audio) -> None:
        """Send audio; wait first while too much has not been acknowledged.

        If this raises, on cancellation too, none of the audio has been taken; otherwise the client has all of it, and
        sends it again after a broken connection if need be.

        Args:
            audio: bytes of the session's format, cut anywhere; or int16 or float samples, (n,) or (n, channels),
                which are converted to that format. Floats have full scale 1.

        Raises:
            ServerError: the server has ended the session.
            ConnectionFailedError: the connection broke, and the session could not be resumed.
            RuntimeError: the client is not open, or the audio was ended by `stop`.
            TypeError: the array's type does not fit the session's format.
            ValueError: the array's shape or values do not fit the session's format.
        """
        self._check_sending("send()")
        start = self._session.start
        data = encode_audio(audio, start.format, start.channels)
        await asyncio.sleep(0)  # lets audio out even if the caller never waits for anything else
        self._check_sending("send()")
        while self._session.window.full:
            self._space.clear()
            await self._space.wait()
            self._check_sending("send()")
        self._session.window.add_audio(data)
        self._work.set()

    async def flush(self) -> None:
        """End the open utterance with the audio sent so far; `Flushed` follows its `Final`, and the session goes on.

        Takes effect at once.

        Raises:
            ServerError: the server has ended the session.
            ConnectionFailedError: the connection broke, and the session could not be resumed.
            RuntimeError: the client is not open, or the audio was ended by `stop`.
        """
        self._check_sending("flush()")
        self._session.window.add(Flush())
        self._work.set()

    async def set_hotwords(self, hotwords: Sequence[str | Hotword]) -> None:
        """Listen for other hotwords from the end of the audio sent so far, in place of those before.

        Takes effect at once.

        Raises:
            ServerError: the server has ended the session.
            ConnectionFailedError: the connection broke, and the session could not be resumed.
            RuntimeError: the client is not open, or the audio was ended by `stop`.
        """
        self._check_sending("set_hotwords()")
        self._session.window.add(SetHotwords(tuple(hotwords)))
        self._work.set()

    async def stop(self) -> None:
        """End the audio; go on iterating for the finals and `Done`. Takes effect at once.

        Raises:
            RuntimeError: the client is not open.
        """
        self._check_open()
        self._session.stopped = True
        self._work.set()
        self._space.set()  # a `send` that waits has come too late

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientEvent:
        """Wait for the next event and return it. When this is cancelled, the next call returns that event.

        Raises:
            ServerError: the server has refused something.
            ConnectionFailedError: the connection broke, and the session could not be resumed.
            RuntimeError: the client is not open.
            StopAsyncIteration: the session has ended.
        """
        self._check_open()
        while (event := self._session.next_event()) is None:
            if self._ended:
                raise self._failure or StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return event

    def _check_open(self) -> None:
        if self._task is None:
            raise RuntimeError("the client is not open; enter it first")

    def _check_sending(self, call: str) -> None:
        self._check_open()
        if self._session.stopped:
            raise RuntimeError(f"{call} after stop()")
        if self._ended:
            raise self._failure or RuntimeError("the session has ended")

    # connections

    async def _run(self) -> None:
        """Keep the session going over as many connections as it takes."""
        try:
            while not self._session.done:
                try:
                    await self._exchange()
                except (ConnectionClosed, TimeoutError) as error:
                    await abort(self._websocket)
                    await self._reconnect(error)
        except Exception as error:  # that of `on_reconnect` too: whoever sends or iterates gets it
            self._failure = error
        finally:
            self._end()
            await leave(self._websocket)

    def _end(self) -> None:
        """Let everybody who waits know that nothing more comes."""
        self._ended = True
        self._news.set()
        self._space.set()

    async def _reconnect(self, cause: ConnectionClosed | TimeoutError) -> None:
        """Replace the connection and resume the session.

        Raises:
            ServerError: the server refuses.
            ConnectionFailedError: the server has closed the session, or could not be reached while it keeps it.
        """
        if isinstance(cause, ConnectionClosed) and cause.rcvd is not None and cause.rcvd.code not in _RESUMABLE:
            raise ConnectionFailedError(f"the server closed the connection: {cause.rcvd}") from cause
        clock = asyncio.get_running_loop().time
        patience = self.ready.resume_window
        began, delay, attempts = clock(), _FIRST_DELAY, 0
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            attempts += 1
            try:
                first = self._session.first_message()
                query = {"room": self._session.start.room}
                if isinstance(first, Resume):
                    # A session that goes on is on one server; behind a balancer there may be others.
                    query |= {"on": self.ready.instance} if self.ready.instance else {"resume": "1"}
                self._websocket, ready = await open_connection(
                    with_query(self._url, **query),
                    first,
                    token=self._token,
                    timeout=self._open_timeout,
                )
                break
            except ServerError as error:
                if error.code != "unknown_session" or not self._session.begin_again():
                    raise
            except ConnectionFailedError as error:
                delay = min(2 * delay, _LONGEST_DELAY)
                if clock() + delay > began + patience:
                    message = f"the session could not be resumed in {clock() - began:.1f} s: {error}"
                    raise ConnectionFailedError(message) from cause
        resent = self._session.connected(ready)
        if self._on_reconnect is not None:
            self._on_reconnect(Reconnected(attempts, clock() - began, resent, cause))

    async def _exchange(self) -> None:
        """Send and receive on the present connection until the session has ended.

        Raises:
            ConnectionClosed: the connection broke.
            TimeoutError: the server fell silent.
            ServerError: the server ended the session.
            ClientError: the server does not keep to the protocol.
        """
        transmitting = asyncio.create_task(self._transmit(), name="parastream client, sending")
        try:
            await self._receive()
        finally:
            transmitting.cancel()
            await asyncio.gather(transmitting, return_exceptions=True)  # `_receive` has raised the same

    async def _transmit(self) -> None:
        while True:
            self._work.clear()
            while (message := self._session.next_message()) is not None:
                if isinstance(message, memoryview):
                    await self._websocket.send(message)
                else:
                    await self._websocket.send(encode(message), text=True)
            await self._work.wait()

    async def _receive(self) -> None:
        patience = 2 * self.ready.heartbeat
        while not self._session.done:
            async with asyncio.timeout(patience):
                message = await receive_message(self._websocket)
            self._session.receive(message)
            self._space.set()
            self._news.set()
