"""What is computed beside the inference thread while that waits for a GPU.

Voice activity and marks need no MLX, and NumPy and onnxruntime let go of Python's lock for most of their time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """A piece of work that has begun."""

    def __init__(self, future: Future[tuple[T, float]]) -> None:
        self._future = future

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._future.done()

    def wait(self) -> None:
        """Wait until it has ended, one way or the other."""
        self._future.exception()

    def result(self) -> T:
        """Wait for the result, and return it or raise what the work raised."""
        return self._future.result()[0]

    @property
    def seconds(self) -> float:
        """How long it has computed; 0 if it failed."""
        return 0.0 if self._future.exception() is not None else self._future.result()[1]


class Aside:
    """A thread of its own for such work, one piece after the other, where there is to be one."""

    def __init__(self, *, there: bool, ended: Callable[[], None] = lambda: None) -> None:
        """Make one; `ended` is called on the thread whenever a piece has ended."""
        self.there = there
        self._ended = ended
        self._thread = ThreadPoolExecutor(1, "parastream-aside")  # it begins with the first piece

    def begin(self, compute: Callable[[], T]) -> Begun[T] | None:
        """Begin a piece; None: the caller has to compute it."""
        if not self.there:
            return None

        def timed() -> tuple[T, float]:
            began = time.thread_time()  # without what it waits for Python's lock
            return compute(), time.thread_time() - began

        future = self._thread.submit(timed)
        future.add_done_callback(lambda _: self._ended())
        return Begun(future)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown()
