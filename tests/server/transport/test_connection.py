"""One connection over a socket in memory, with a scripted handler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from parastream.server.config import ServerConfig
from parastream.server.protocols.base import Ending, Handler
from parastream.server.transport.connection import Connection
from parastream.server.wire.refusals import RefusalError
from websockets.exceptions import ConnectionClosedError

from ...waiting import settle, until
from ..leaping import LeapingLoop, leaping


def skipped() -> float:
    """The seconds that a clock has leapt, which is what must not be too many; a busy machine only takes from them."""
    loop = asyncio.get_running_loop()
    return loop.skipped if isinstance(loop, LeapingLoop) else 0.0


class Pipe:
    """A socket whose other end is the test."""

    pings = True

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.sent: list[bytes] = []
        self.pinged = 0
        self.closed: tuple[int | None, str] = None, ""
        self.aborted = False
        self.heard = 0.0
        self.taking = asyncio.Event()
        """Whether the client reads."""
        self.taking.set()

    def say(self, data: str | bytes) -> None:
        self.heard = max(self.heard, asyncio.get_running_loop().time())
        self.incoming.put_nowait(data)

    def hang_up(self, code: int) -> None:
        self.closed = code, ""
        self.incoming.put_nowait(None)

    def close_half(self) -> None:
        self.incoming.put_nowait(None)

    async def recv(self) -> str | bytes | None:
        data = await self.incoming.get()
        if data is None and self.closed[0] is not None:
            raise ConnectionClosedError(None, None)
        return data

    async def gone(self) -> None:
        await asyncio.Event().wait()

    async def send(self, message: bytes) -> None:
        await self.taking.wait()
        self.sent.append(message)

    async def ping(self) -> None:
        self.pinged += 1

    async def close(self, code: int, reason: str) -> bool:
        self.closed = code, reason
        return self.taking.is_set()

    def abort(self) -> None:
        self.aborted = True


class Script(Handler):
    """Keeps what it is told, and says what the test wants."""

    def __init__(self) -> None:
        super().__init__("script")
        self.received: list[str | bytes] = []
        self.saying: list[bytes] = []
        self.waiting = 0.0
        self.ticks = 0
        self.failure: RefusalError | None = None
        self.lost_as: tuple[bool, str] | None = None
        self.due = float("inf")
        self.deaf = False
        self.unframed_in_each = 0
        self.bugs: set[str] = set()
        self.failed_at = self.skipped_at = 0.0

    @property
    def listening(self) -> bool:
        return self._ending is None and self.failure is None and not self.deaf

    @property
    def backlog(self) -> float:
        return self.waiting

    def receive(self, data: str | bytes) -> None:
        self.stumble("receive")
        self.received.append(data)
        self.unframed += self.unframed_in_each

    def stumble(self, where: str) -> None:
        if where in self.bugs:
            raise ValueError(f"a bug in {where}")

    def say(self, message: bytes) -> None:
        self.saying.append(message)
        self.on_change()

    def end(self, code: int, *, aborted: bool = False) -> None:
        self._ending, self._aborted = Ending(code, "the end"), aborted
        self.on_change()

    def take(self) -> bytes | None:
        self.stumble("take")
        return self.saying.pop(0) if self.saying else None

    def tick(self, now: float) -> float:
        self.stumble("tick")
        self.ticks += 1
        return self.due

    def fail(self, refusal: RefusalError) -> None:
        self.stumble("fail")
        self.failure = refusal
        self.failed_at, self.skipped_at = asyncio.get_running_loop().time(), skipped()
        self.end(refusal.close_code)

    def abort(self, refusal: RefusalError) -> None:
        self.stumble("abort")
        self.bugs.clear()
        self.fail(refusal)

    def lost(self, *, finished: bool, why: str) -> None:
        self.lost_as = finished, why


def keep_hearing(pipe: Pipe) -> None:
    """Let bytes come without end that are no messages, such as answers to pings."""
    pipe.heard = float("inf")


def stall(seconds: float) -> None:
    """Keep the loop from doing anything."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    loop.skip(seconds)


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[tuple[Pipe, Script, asyncio.Task[None]]]:
    """A connection that is being served."""
    pipe, script = Pipe(), Script()
    serving = asyncio.create_task(Connection(pipe, script, ServerConfig(**settings)).run())
    try:
        yield pipe, script, serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@leaping
async def test_messages_go_both_ways_until_the_handler_has_nothing_more_to_say() -> None:
    async with connected() as (pipe, script, serving):
        pipe.say(b"audio")
        await until(lambda: script.received == [b"audio"])
        script.say(b"one")
        script.say(b"two")
        script.end(1000)
        await serving
    assert (pipe.sent, pipe.closed) == ([b"one", b"two"], (1000, "the end"))
    assert script.lost_as == (True, "1000 the end")


@pytest.mark.parametrize(("code", "finished"), [(1000, True), (1001, True), (1006, False), (1011, False)])
@leaping
async def test_a_client_that_hangs_up_may_come_back_unless_it_closed_in_order(code: int, finished: bool) -> None:
    async with connected() as (pipe, script, serving):
        pipe.hang_up(code)
        await serving
    assert script.lost_as == (finished, str(code))


@leaping
async def test_nothing_is_read_while_too_much_waits_and_everything_once_it_has_been_looked_at() -> None:
    async with connected(backlog_high=2.0, backlog_low=1.0) as (pipe, script, _):
        script.waiting = 2.5
        pipe.say(b"1")
        pipe.say(b"2")
        await until(lambda: script.received == [b"1"])
        script.waiting = 1.5
        script.on_progress()
        await settle()
        assert script.received == [b"1"], "the low mark counts now"
        script.waiting = 1.0
        script.on_progress()
        await until(lambda: script.received == [b"1", b"2"])


@leaping
async def test_a_paused_connection_is_read_on_when_the_handler_listens_no_more() -> None:
    async with connected(backlog_high=2.0, backlog_low=1.0) as (pipe, script, serving):
        script.waiting = 9.0
        pipe.say(b"1")
        await until(lambda: script.received == [b"1"])
        script.fail(RefusalError("shutting_down", "the end"))
        await serving
    assert pipe.closed == (1001, "the end")


@leaping
async def test_a_client_that_does_not_read_is_dropped_when_the_handler_aborts() -> None:
    async with connected(close_timeout=0.01) as (pipe, script, serving):
        pipe.taking.clear()
        script.say(b"stuck")
        script.say(b"next")
        script.end(1008, aborted=True)
        await serving
    assert pipe.aborted
    assert script.lost_as == (False, "None")


@leaping
async def test_a_client_that_says_nothing_is_cut_off() -> None:
    began, skipped_before = asyncio.get_running_loop().time(), skipped()
    async with connected(idle_timeout=60.0) as (pipe, script, serving):
        keep_hearing(pipe)
        await serving
        assert script.failure is not None
        assert script.failure.code == "idle_timeout"
        assert asyncio.get_running_loop().time() - began >= 60
        assert skipped() - skipped_before < 61


@pytest.mark.parametrize(("only_audio_counts", "lasts"), [(False, 340), (True, 60)])
@leaping
async def test_text_counts_as_activity_unless_only_audio_does(only_audio_counts: bool, lasts: float) -> None:
    began, skipped_before = asyncio.get_running_loop().time(), skipped()
    async with connected(idle_timeout=60.0) as (pipe, script, serving):
        script.only_audio_counts = only_audio_counts  # type: ignore[misc]
        keep_hearing(pipe)
        for _ in range(7):
            await asyncio.sleep(40)
            pipe.say("still there")
        await serving
        assert script.failed_at - began >= lasts
        assert script.skipped_at - skipped_before < lasts + 1


@leaping
async def test_a_client_that_has_said_everything_may_wait_for_its_finals() -> None:
    async with connected(idle_timeout=60.0) as (pipe, script, serving):
        keep_hearing(pipe)
        script.deaf = True
        await asyncio.sleep(3600)
        assert script.failure is None
        assert not serving.done()


@leaping
async def test_a_session_that_began_on_another_connection_is_as_old_as_it_is() -> None:
    async with connected(max_session=60.0) as (pipe, script, serving):
        script.opened = asyncio.get_running_loop().time() - 61
        script.on_reschedule()
        await serving
        assert script.failure is not None
        assert (script.failure.code, pipe.closed[0]) == ("session_too_long", 1008)


@leaping
async def test_a_client_of_which_nothing_is_heard_after_a_ping_is_gone() -> None:
    began, skipped_before = asyncio.get_running_loop().time(), skipped()
    async with connected(ping_interval=20.0, ping_timeout=10.0) as (pipe, script, serving):
        await serving
        assert asyncio.get_running_loop().time() - began >= 30
        assert skipped() - skipped_before < 31
    assert pipe.pinged == 1
    assert pipe.closed == (1011, "no answer to a ping")
    assert script.lost_as == (False, "1011 no answer to a ping")


@leaping
async def test_any_byte_is_an_answer_to_a_ping() -> None:
    async with connected(idle_timeout=1e6) as (pipe, _, serving):
        keep_hearing(pipe)
        await asyncio.sleep(3600)
        assert pipe.pinged > 100
        assert not serving.done()


@leaping
async def test_no_answer_is_expected_of_a_client_that_is_not_read() -> None:
    async with connected(backlog_high=2.0, backlog_low=1.0) as (pipe, script, serving):
        script.waiting = 9.0
        pipe.say(b"1")
        await asyncio.sleep(3600)
        script.waiting = 0.0
        script.on_progress()
        pipe.say(b"2")
        await until(lambda: script.received == [b"1", b"2"])
        assert not serving.done()


@leaping
async def test_the_handler_is_told_the_time_when_it_wants_to_be() -> None:
    async with connected() as (_, script, _serving):
        await until(lambda: script.ticks == 1)
        script.on_reschedule()
        await until(lambda: script.ticks == 2)
        script.due = 0.0  # long ago
        script.on_reschedule()
        await until(lambda: script.ticks > 9)
        script.due = float("inf")


@pytest.mark.parametrize("where", ["receive", "take", "tick"])
@leaping
async def test_a_bug_ends_the_connection_with_an_error_and_is_logged(
    caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async with connected() as (pipe, script, serving):
        await settle()
        script.say(b"before")
        script.bugs = {where}
        if where == "take":
            script.bugs |= {"fail"}  # which cannot be told, either: what is left is dropped
        pipe.say(b"1")
        script.on_reschedule()
        await serving
    assert pipe.closed == (1011, "the end")
    assert script.failure is not None
    assert script.failure.code == "internal"
    assert f"a bug in {where}" in caplog.text


@leaping
async def test_what_a_handler_has_to_say_after_a_bug_still_goes_out() -> None:
    async with connected() as (pipe, script, serving):
        await settle()
        script.say(b"final")
        script.bugs = {"receive"}
        pipe.say(b"1")
        await serving
    assert pipe.sent == [b"final"]


@leaping
async def test_a_handler_that_cannot_even_fail_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (pipe, script, serving):
        await settle()
        script.bugs = {"receive", "fail", "abort"}
        pipe.say(b"1")
        await serving
    assert pipe.closed == (1011, "internal: internal error; the server's log says more")
    assert script.lost_as is not None


@leaping
async def test_a_client_that_sends_nothing_more_is_told_what_is_left() -> None:
    async with connected() as (pipe, script, serving):
        pipe.say(b"1")
        pipe.close_half()
        script.say(b"last")
        await serving
    assert (script.received, pipe.sent, pipe.closed[0]) == ([b"1"], [b"last"], 1000)


@leaping
async def test_a_stalled_server_reads_what_lies_in_the_socket_before_it_calls_a_client_idle() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with connected(idle_timeout=60.0) as (pipe, script, serving):
        keep_hearing(pipe)
        loop.call_at(began + 59.9, stall, 10.0)
        loop.call_at(began + 60.2, pipe.say, b"audio that came in the meantime")
        await asyncio.sleep(100)
        assert script.failure is None
        assert not serving.done()


@leaping
async def test_messages_without_frames_are_read_at_the_rate_that_is_allowed() -> None:
    async with connected(max_message_rate=10.0) as (pipe, script, _):
        began = asyncio.get_running_loop().time()
        for _ in range(4):
            pipe.say(b"ten messages in one piece")
        script.unframed_in_each = 10
        await until(lambda: len(script.received) == 4)
        assert asyncio.get_running_loop().time() - began > 1
