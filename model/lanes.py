"""Lanes: streams of MLX on which independent parts of a batch are computed side by side.

On a CPU MLX has one thread per stream, which computes one operation after another; only matrix products could use more
threads. Utterances do not depend on each other, so a batch is cut into as many parts as there are CPUs, and each part
is computed on a stream of its own. On a GPU there is one lane.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import TypeVar

import mlx.core as mx
from parastream.model import blas
from parastream.model.batches import share
from parastream.model.device import on_cpu

T = TypeVar("T")

LaneWork = Generator[object, None, T]
"""It builds a graph, yields now and then what can be evaluated (any tree of arrays), and returns a result."""

_MOST = 8
_STEPS_ON_GPU = 10
"""Steps whose graphs are submitted to a GPU together: submitting one costs as much as many of its operations."""


def finish(work: Generator[object, None, T]) -> T:
    """Run a generator to its end and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


class Lanes:
    """The streams of one model. They belong to the thread that made them."""

    def __init__(self) -> None:
        self._streams = [mx.default_stream(mx.default_device())]
        self._every = 1 if on_cpu() else _STEPS_ON_GPU
        if on_cpu():
            count = min(_MOST, blas.cpu_count() // max(1, blas.info().threads))
            self._streams += [mx.new_stream(mx.Device(mx.cpu)) for _ in range(count - 1)]

    def __len__(self) -> int:
        return len(self._streams)

    def share(self, count: int) -> list[range]:
        """Cut the items 0 … count - 1 into parts of about the same size, one for each lane that gets any."""
        return share(count, len(self))

    def run(self, works: Sequence[LaneWork[T]]) -> list[T]:
        """Do each work on a lane of its own and return the results in order; there may be no more works than lanes."""
        return finish(self.rounds(works))

    def rounds(self, works: Sequence[LaneWork[T]]) -> Generator[list[object], None, list[T]]:
        """Do the same as `run`, but yield after each step of all works what is being evaluated, or will be on a GPU."""
        results: dict[int, T] = {}
        held: list[object] = []
        for count in itertools.count(1):
            pending: list[object] = []
            for i, (work, stream) in enumerate(zip(works, self._streams, strict=False)):
                if i in results:
                    continue
                with mx.stream(stream):
                    try:
                        pending.append(next(work))
                    except StopIteration as end:
                        results[i] = end.value
            held += pending
            done = len(results) == len(works)
            if done or count % self._every == 0:
                # Together, so that MLX dispatches operations of all lanes in turn; on a CPU in small steps, since it
                # dispatches only some of them ahead.
                mx.async_eval(held)
                held = []
            if done:
                break
            yield pending
        return [results[i] for i in range(len(works))]

    def in_slices(self, works: Sequence[LaneWork[T]], *, steps: int) -> Generator[None, None, list[T]]:
        """Do the same as `run`, but yield after every `steps` steps, so that other work can go between."""
        rounds = self.rounds(works)
        while True:
            try:
                for _ in range(steps):
                    pending = next(rounds)
            except StopIteration as end:
                results: list[T] = end.value
                return results
            mx.eval(pending)
            yield
