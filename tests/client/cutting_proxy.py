"""A TCP proxy that breaks connections, in the middle of frames and handshakes too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class CuttingProxy:
    """Forwards to a port of this machine; each connection for as many bytes (both ways) as `allowance` says."""

    def __init__(self, port: int, allowance: Callable[[], float]) -> None:
        self.connections = 0
        self.target = port
        """Where new connections lead."""
        self.allowance = allowance
        self._passing = asyncio.Event()
        self._passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Gives the URL of the proxy."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def freeze(self) -> None:
        """Keep connections open but let nothing pass, as when a cable is pulled."""
        self._passing.clear()

    def thaw(self) -> None:
        """Let pass what has been held up, and what follows."""
        self._passing.set()

    def cut(self) -> None:
        """Break every connection now."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        left = self.allowance()
        ends = {writer, target_writer}
        self._writers |= ends

        async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            nonlocal left
            try:
                while data := await source.read(4096):
                    await self._passing.wait()
                    sink.write(data[: int(min(left, len(data)))])
                    left -= len(data)
                    if left <= 0:
                        break
                    await sink.drain()
            except OSError:
                pass
            for end in ends:
                if left <= 0:
                    # What is in the buffers arrives, and then the connection is gone without a goodbye.
                    end.close()
                else:
                    end.transport.abort()

        for source, sink in ((reader, target_writer), (target_reader, writer)):
            task = asyncio.create_task(forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
