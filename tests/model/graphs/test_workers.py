"""Work on several threads."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial

import pytest
from parastream.model import blas
from parastream.model.graphs.workers import Workers


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    monkeypatch.setattr(blas, "cpu_count", lambda: 3)
    return Workers()


def test_works_run_side_by_side_and_the_first_on_the_calling_thread(workers: Workers) -> None:
    together = threading.Barrier(len(workers), timeout=60)

    def work() -> int:
        together.wait()
        return threading.get_ident()

    threads = workers.run([work] * 3)
    assert threads[0] == threading.get_ident()
    assert len(set(threads)) == len(workers) == 3


def test_results_come_in_order_however_many_works_there_are(workers: Workers) -> None:
    assert workers.run([partial(abs, -number) for number in range(20)]) == list(range(20))
    assert workers.run([]) == []


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_comes_out_when_all_works_have_ended(workers: Workers, failing: int) -> None:
    ended, released = list[int](), threading.Event()

    def fail() -> None:
        released.set()
        raise ValueError("no")

    def last() -> None:
        assert released.wait(60)
        ended.append(1)

    works = [last, last, last]
    works[failing] = fail
    if failing == 1:
        works[0] = lambda: ended.append(1)
    with pytest.raises(ValueError, match="no"):
        workers.run(works)
    assert len(ended) == 2


def test_works_are_done_step_by_step_until_the_longest_has_ended(workers: Workers) -> None:
    done: list[list[int]] = [[], [], []]

    def work(place: int, count: int) -> Generator[object, None, int]:
        for number in range(count):
            done[place].append(number)
            yield number
        return place

    seen: list[list[int]] = []
    results: list[int] = []

    def driven() -> Generator[None, None, None]:
        works = [work(place, count) for place, count in enumerate((5, 0, 3))]
        results.extend((yield from workers.in_slices(works, steps=2)))

    for _ in driven():
        seen.append([len(numbers) for numbers in done])
    assert results == [0, 1, 2]
    assert seen == [[2, 0, 2], [4, 0, 3]]
    assert [len(numbers) for numbers in done] == [5, 0, 3]
    with pytest.raises(StopIteration) as nothing:
        next(workers.in_slices([], steps=2))
    assert nothing.value.value == []
