"""The client for scripts without asyncio: the asynchronous one, on a loop in a thread of its own.

```python
import soundfile
from parastream.client import BlockingClient, Final

samples, rate = soundfile.read("speech.wav", dtype="int16")
with BlockingClient("ws://127.0.0.1:8765", rate=rate) as client:
    client.send(samples)
    client.stop()
    for event in client:
        if isinstance(event, Final):
            print(event.text)
```

Sending and iterating may also happen in two threads, for live audio.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import NDArray
from parastream.client.client import AsyncClient, ClientEvent, connect
from parastream.server.wire.messages import Ready

_T = TypeVar("_T")


class BlockingClient:
    """One session; a context manager and an iterator of events. Takes the arguments of `connect`.

    Errors are those of `AsyncClient`. `on_reconnect` is called on the client's own thread.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._make: Callable[[], AsyncClient] = lambda: connect(url, **options)
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="parastream client", daemon=True)
        self._client: AsyncClient | None = None

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # it also tidies the loop up
            runner.get_loop().run_forever()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def _open_client(self) -> AsyncClient:
        if self._client is None:
            raise RuntimeError("the session is not open; use `with BlockingClient(...) as client:`")
        return self._client

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        try:
            self._client = self._call(self._enter())
        except BaseException:
            self._shut()
            raise
        return self

    async def _enter(self) -> AsyncClient:
        return await self._make().__aenter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close. A session that was not stopped, or whose `Done` has not come yet, is dropped."""
        try:
            self._call(self._open_client.__aexit__(exc_type, exc_value, traceback))
        finally:
            self._shut()

    def _shut(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def ready(self) -> Ready:
        """What the server said when the session was opened."""
        return self._open_client.ready

    def send(self, audio: bytes | bytearray | memoryview | NDArray[Any]) -> None:
        """Send audio, as `AsyncClient.send`."""
        self._call(self._open_client.send(audio))

    def flush(self) -> None:
        """End the open utterance with the audio sent so far; `Flushed` follows its `Final`, and the session goes on."""
        self._call(self._open_client.flush())

    def stop(self) -> None:
        """Say that the audio has ended; go on iterating for the finals and `Done`."""
        self._call(self._open_client.stop())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ClientEvent:
        event = self._call(self._next())
        if event is None:
            raise StopIteration
        return event

    async def _next(self) -> ClientEvent | None:
        return await anext(self._open_client, None)
