"""Work on several threads."""

from __future__ import annotations

import threading
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
