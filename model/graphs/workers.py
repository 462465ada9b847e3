"""Threads that compute independent parts of a batch side by side, one on each CPU.

onnxruntime lets go of Python's lock while it computes. A run that used several threads itself would gain less: its
operations are small, and the threads would wait for each other after each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from parastream.model import blas

T = TypeVar("T")

_MOST = 8


class Workers:
    """As many workers as there are CPUs, the calling thread among them."""

    def __init__(self) -> None:
        self._count = min(_MOST, blas.cpu_count())
        self._others = ThreadPoolExecutor(max(1, self._count - 1), "parastream-worker")

    def __len__(self) -> int:
        return self._count

    def run(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Do all works, as many at a time as there are workers, and return their results in order.

        Raises:
            Exception: What the first of the works that failed raised, after all have ended.
        """
        others = [self._others.submit(work) for work in works[1:]]
        try:
            first = [work() for work in works[:1]]
        finally:
            for other in others:
                other.exception()  # waits
        return [*first, *(other.result() for other in others)]

    def in_slices(self, works: Sequence[Generator[object, None, T]], *, steps: int) -> Generator[None, None, list[T]]:
        """Do works step by step, side by side; there may be no more of them than workers.

        Yield after every `steps` steps, so that other work can go between.

        Returns:
            Their results, in order.
        """
        results: dict[int, T] = {}

        def advance(place: int) -> None:
            try:
                for _ in range(steps):
                    next(works[place])
            except StopIteration as end:
                results[place] = end.value

        while True:
            self.run([partial(advance, place) for place in range(len(works)) if place not in results])
            if len(results) == len(works):
                return [results[place] for place in range(len(works))]
            yield
