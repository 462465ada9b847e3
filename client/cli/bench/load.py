"""Run many clients that speak at real-time pace, from one event loop.

The load generator shares the machine with the server that it measures, so it does as little as possible. It frames
messages once and writes them past the WebSocket library, sends them by timers without any task, and decodes the answers
afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parastream.client.cli.bench.latency import BLOCK, ENDPOINT, RATE, SessionTrace
from parastream.client.cli.bench.processes import Usage
from parastream.client.connection import open_connection
from parastream.client.errors import ClientError
from parastream.server.wire.messages import (
    Start,
    Stop,
    decode_server_message,
    encode,
)
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

PATIENCE = 30.0
"""Seconds after its audio that a session may take to end."""
_PERIOD = BLOCK / RATE
_SPREAD = 1.0  # seconds over which the clients begin
_CONNECTING = 16  # at a time


@dataclass(slots=True)
class LoadResult:
    """The outcome of a run."""

    traces: list[SessionTrace]
    cpu_cores: float | None
    """CPU seconds of the server for each second in which all clients spoke."""
    usage: Usage | None
    """What the server had used at the end of that time."""
    generator_cpu_cores: float
    """The same of this process."""
    largest_send_delay: float
    """Seconds by which the latest block was sent too late: how far the load generator itself fell behind."""


@dataclass(slots=True)
class _PacedClient:
    """One connection."""

    websocket: ClientConnection
    frames: Sequence[bytes]
    """The audio, a block each, again and again."""
    first: int
    """The block that it begins with."""
    blocks: int
    """How many it sends."""
    trace: SessionTrace = field(default_factory=SessionTrace)
    received: list[tuple[float, bytes]] = field(default_factory=list)
    late: float = 0.0
    began: float = 0.0

    def begin(self, at: float) -> None:
        """Send the first block at loop time `at`, and the others after it at real-time pace."""
        self.began = at
        asyncio.get_running_loop().call_at(at, self._send)

    def _send(self) -> None:
        loop, sent = asyncio.get_running_loop(), self.trace.sent
        transport = self.websocket.transport
        if transport.is_closing():
            return
        now = loop.time()
        self.late = max(self.late, now - self.began - len(sent) * _PERIOD)
        transport.write(self.frames[(self.first + len(sent)) % len(self.frames)])
        sent.append(now)
        if len(sent) < self.blocks:
            loop.call_at(self.began + len(sent) * _PERIOD, self._send)
        else:
            transport.write(_frame(Opcode.TEXT, encode(Stop())))

    async def listen(self) -> None:
        """Note what comes, and when, until the connection is closed."""
        clock, receive = asyncio.get_running_loop().time, self.websocket.recv
        try:
            while True:
                data = await receive(decode=False)
                self.received.append((clock(), data))
        except ConnectionClosed as closed:
            self.trace.failure = str(closed)

    def finish(self) -> SessionTrace:
        """Return the trace, decoded."""
        self.trace.received = [(at, decode_server_message(data)) for at, data in self.received]
        return self.trace


async def run_load(
    urls: Sequence[str],
    token: str | None,
    audio: bytes,
    *,
    clients: int,
    seconds: float,
    usage: Callable[[], Usage] | None,
    room: str = "",
) -> LoadResult:
    """Let many clients speak at once, from different places of the audio on; they begin within a second.

    A client that the server refuses, or whose connection breaks, is one of the traces, too.

    Args:
        urls: Addresses of the server, or of several that share the clients evenly.
        token: Token to present.
        audio: 16-bit samples at 16 kHz, a whole number of blocks; repeated as often as necessary.
        clients: How many clients.
        seconds: How long each one speaks.
        usage: Returns what the server has used; None if that cannot be known.
        room: The caption room in which they all speak.
    """
    blocks = max(1, round(seconds * RATE / BLOCK))
    frames = [_frame(Opcode.BINARY, audio[i : i + 2 * BLOCK]) for i in range(0, len(audio), 2 * BLOCK)]
    start = Start(endpoint=ENDPOINT, room=room)
    turns = asyncio.Semaphore(_CONNECTING)

    async def open_client(number: int) -> _PacedClient | SessionTrace:
        async with turns:
            try:
                websocket, _ = await open_connection(urls[number % len(urls)], start, token=token, timeout=PATIENCE)
            except ClientError as error:
                return SessionTrace(failure=f"no session: {error}")
        return _PacedClient(websocket, frames, number * len(frames) // clients, blocks)

    opened = await asyncio.gather(*(open_client(number) for number in range(clients)))
    speaking = [client for client in opened if isinstance(client, _PacedClient)]
    refused = [client for client in opened if isinstance(client, SessionTrace)]
    if not speaking:
        return LoadResult(refused, None, None, 0.0, 0.0)
    listening = [asyncio.create_task(client.listen()) for client in speaking]
    try:
        began = asyncio.get_running_loop().time() + 0.1
        for number, client in enumerate(speaking):
            client.begin(began + number * _SPREAD / len(speaking))
        readings = await _read(began + _SPREAD, began + blocks * _PERIOD, usage)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPREAD + PATIENCE):
                await asyncio.gather(*listening)
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for client in speaking:
            client.websocket.transport.abort()
    first, last = readings
    duration = last.time - first.time
    cpu_cores = None
    if first.server is not None and last.server is not None:
        cpu_cores = (last.server.cpu_seconds - first.server.cpu_seconds) / duration
    return LoadResult(
        [client.finish() for client in speaking] + refused,
        cpu_cores,
        last.server,
        (last.own - first.own) / duration,
        max(client.late for client in speaking),
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    time: float
    server: Usage | None
    own: float
    """CPU seconds of this process."""


async def _read(start: float, stop: float, usage: Callable[[], Usage] | None) -> tuple[_Reading, _Reading]:
    """Read what has been used at loop times `start`, when all clients have begun, and `stop`, when the first ends."""
    loop = asyncio.get_running_loop()

    async def read(at: float) -> _Reading:
        await asyncio.sleep(at - loop.time())
        return _Reading(loop.time(), usage() if usage else None, time.process_time())

    return await read(start), await read(max(stop, start + _PERIOD))


def _frame(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=True)
