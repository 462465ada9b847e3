"""How recordings are shared between workers, some of which get lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from parastream.client.cli.backends import Outcome
from parastream.client.cli.workers import Silent, WorkerLostError, share
from parastream.model.errors import EngineError, ParastreamError

from tests.server.fakes import asynchronous

FILES = [Path("a"), Path("b"), Path("c")]


class Scripted:
    """A worker that is lost with certain recordings, and perhaps never ready again."""

    def __init__(self, *fatal: str, starts: int = 100, failure: Exception | None = None) -> None:
        self.fatal = fatal
        self.starts = starts
        self.failure = failure
        self.begun: list[str] = []

    def start(self) -> None:
        self.starts -= 1

    async def ready(self) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.starts:
            await asyncio.Event().wait()
        if self.starts < 0:
            raise WorkerLostError("the machine is gone")

    async def transcribe(self, file: Path) -> Outcome:
        self.begun.append(file.name)
        await asyncio.sleep(0)
        if file.name in self.fatal:
            raise WorkerLostError("the machine is gone")
        return Outcome(0, [], seconds=1.0)


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


async def outcomes(*workers: Scripted, watcher: Silent | None = None) -> dict[str, str]:
    """What went wrong with each recording."""
    shared = share(FILES, watcher or Silent(), workers)
    found = {FILES[each.index].name: str(each.error or "") async for each in shared}
    assert len(found) == len(FILES)
    return found


@asynchronous
async def test_who_is_free_does_the_recording_of_a_worker_that_is_lost_and_does_not_come_back() -> None:
    lost, other = Scripted("a", starts=1), Scripted()
    assert await outcomes(lost, other) == {"a": "", "b": "", "c": ""}
    assert (lost.begun, sorted(other.begun)) == (["a"], ["a", "b", "c"])


@asynchronous
async def test_a_recording_that_ends_two_workers_is_not_tried_again() -> None:
    one, other = Scripted("b"), Scripted("b")
    assert await outcomes(one, other) == {"a": "", "b": "b: the machine is gone, twice", "c": ""}
    assert [*one.begun, *other.begun].count("b") == 2


@asynchronous
async def test_workers_that_cannot_begin_are_left_out() -> None:
    notes = Notes()
    failing = Scripted(failure=ParastreamError("no such model"))
    assert await outcomes(failing, Scripted(), watcher=notes) == {"a": "", "b": "", "c": ""}
    assert notes.notes == ["transcribing with 1 of 2 workers: no such model"]


@asynchronous
async def test_without_any_worker_the_work_ends() -> None:
    with pytest.raises(ParastreamError, match="no such model"):
        await outcomes(Scripted(failure=ParastreamError("no such model")))
    with pytest.raises(EngineError, match="the machine is gone, 3 times before it had its models"):
        await outcomes(Scripted(starts=-1))
