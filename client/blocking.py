"""The client for scripts without asyncio: the asynchronous one, on a loop in a thread of its own.

```python
from parastream.client import BlockingClient, Final
from parastream.client.sources import read

samples, rate = read("speech.wav")
with BlockingClient("ws://127.0.0.1:8765", rate=rate) as client:
    client.send(samples)
    client.stop()
    for event in client:
        if isinstance(event, Final):
            print(event.text)
```

Sending and iterating may also happen in two threads, for live audio.

Ctrl-C ends any call with `KeyboardInterrupt`, and the client can be used on afterwards:

- Entering: nothing is left open, and the server drops a session that may have begun.
- `send`: has taken all of its audio or none of it; `accepted` says which.
- Iterating: no event is lost; the next call gives the one that would have come.
- Leaving the block, or `close`: the connection is closed at once, without the closing handshake.

However the block is left, no thread and no connection remains.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from parastream.client.audio import Audio
from parastream.client.client import connect
from parastream.client.session import ClientEvent
from parastream.server.wire.messages import Hotword, Ready

_T = TypeVar("_T")


class BlockingClient:
    """A session with a server; a context manager and an iterator of events. Takes the arguments of `connect`.

    Errors are those of `AsyncClient`. `on_reconnect` is called on the client's own thread. The module's docstring says
    what an interrupted call does.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = connect(url, **options)
        self._taken: deque[ClientEvent] = deque()
        """Events on their way to a thread that iterates: they stay here if it is interrupted."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._switch = threading.Lock()  # held while `_running` changes, or something is handed to the loop
        self._thread = threading.Thread(target=self._run, name="parastream client", daemon=True)

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("the client has been entered already; make another one")
        self._loop = asyncio.new_event_loop()
        self._running = True
        self._thread.start()
        try:
            self._call(self._client.__aenter__())
        except BaseException:
            self._shut()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The server drops a session whose `Done` has not come.

        Events that came before can still be read. Closing again does nothing.
        """
        if not self._running:
            return
        try:
            self._call(self._client.close())
        finally:
            self._shut()

    @property
    def ready(self) -> Ready:
        """What the server said when the session was opened."""
        return self._client.ready

    @property
    def accepted(self) -> int:
        """Bytes of audio that `send` has taken."""
        return self._client.accepted

    @property
    def acknowledged(self) -> int:
        """Bytes of audio that the server has for certain."""
        return self._client.acknowledged

    def send(self, audio: Audio) -> None:
        """Send audio; see `AsyncClient.send`."""
        self._call(self._client.send(audio))

    def flush(self) -> None:
        """End the open utterance with the audio sent so far; see `AsyncClient.flush`."""
        self._call(self._client.flush())

    def set_hotwords(self, hotwords: Sequence[str | Hotword]) -> None:
        """Listen for other hotwords from here on; see `AsyncClient.set_hotwords`."""
        self._call(self._client.set_hotwords(hotwords))

    def stop(self) -> None:
        """End the audio; go on iterating for the finals and `Done`."""
        self._call(self._client.stop())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ClientEvent:
        """Wait for the next event and return it; see `AsyncClient.__anext__`."""
        while True:
            try:
                return self._taken.popleft()
            except IndexError:
                if not self._call(self._take()):
                    raise StopIteration from None

    async def _take(self) -> bool:
        """Wait for an event and put it where an interrupted thread leaves it. Return whether there was one."""
        event = await anext(self._client, None)
        if event is None:
            return False
        self._taken.append(event)
        return True

    # the thread

    def _run(self) -> None:
        assert self._loop is not None
        loop = self._loop
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # it also cancels what is left
            runner.get_loop().run_forever()

    def _shut(self) -> None:
        assert self._loop is not None
        with self._switch:
            if self._running:
                self._running = False
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _post(self, call: Callable[[], object]) -> bool:
        """Let the loop make a call; return False if it does not run."""
        with self._switch:
            if self._running:
                assert self._loop is not None
                self._loop.call_soon_threadsafe(call)
            return self._running

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop and return its result; when this thread is interrupted, cancel it."""
        outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
        tasks: list[asyncio.Task[_T]] = []

        def begin() -> None:
            tasks.append(asyncio.get_running_loop().create_task(work))
            tasks[0].add_done_callback(lambda task: _copy(task, outcome))

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # interrupted before `begin` was handed over
                work.close()
                outcome.cancel()

        try:
            if not self._post(begin):
                return _run_here(work)
            concurrent.futures.wait([outcome])
        except BaseException:
            if not outcome.done() and self._post(cancel):
                concurrent.futures.wait([outcome])
            raise
        return outcome.result()


def _copy(task: asyncio.Task[_T], outcome: concurrent.futures.Future[_T]) -> None:
    if task.cancelled():
        outcome.set_exception(RuntimeError("the client was closed meanwhile"))
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


def _run_here(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine of a client that is not open, which has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as returned:
        result: _T = returned.value
        return result
    finally:
        work.close()
    raise AssertionError("a client that is not open waits for something")
