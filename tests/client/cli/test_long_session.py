"""A session that outlives those of the server: nothing is lost, nothing is told twice, times run on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.client.cli import long_session
from parastream.client.cli.long_session import LongSession
from parastream.client.client import AsyncClient, connect
from parastream.client.errors import ConnectionFailedError, ServerError
from parastream.client.session import ClientEvent
from parastream.server.wire.messages import (
    PROTOCOL,
    Acknowledged,
    Done,
    Error,
    ErrorCode,
    Final,
    Partial,
    Ready,
    ServerMessage,
    SpeechEnded,
    SpeechStarted,
    encode,
)
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.client.cutting_proxy import CuttingProxy
from tests.server.fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving
from tests.waiting import settle, until

AUDIO = random.Random(1).randbytes(20 * UTTERANCE + 1000)
BLOCK = 1000  # bytes


class Microphone:
    """Gives the blocks that it is told to give."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[NDArray[np.int16] | None] = asyncio.Queue()

    def speak(self, audio: bytes) -> None:
        for first in range(0, len(audio), BLOCK):
            self.queue.put_nowait(np.frombuffer(audio[first : first + BLOCK], np.int16))

    def stop(self) -> None:
        self.queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[NDArray[np.int16]]:
        while (block := await self.queue.get()) is not None:
            yield block


class Told:
    """What a session has told."""

    def __init__(self) -> None:
        self.events: list[ClientEvent] = []
        self.forgotten: list[int] = []
        self.notes: list[str] = []

    @property
    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def texts(self) -> list[str]:
        return [final.text for final in self.finals]


@asynccontextmanager
async def running(
    make_client: Callable[[], AbstractAsyncContextManager[AsyncClient]], *, live: bool = True
) -> AsyncIterator[tuple[Microphone, Told, asyncio.Task[None]]]:
    microphone, told = Microphone(), Told()
    session = LongSession(
        make_client,
        rate=16_000,
        frame_bytes=2,
        on_open=lambda client: None,
        on_event=told.events.append,
        note=told.notes.append,
        on_forget=told.forgotten.append,
        live=live,
    )
    task = asyncio.create_task(session.run(microphone))
    try:
        yield microphone, told, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynchronous
async def test_it_goes_on_when_the_server_is_restarted() -> None:
    half = 10 * UTTERANCE + 500
    async with serving(FakeEngine()) as server, serving(FakeEngine()) as next_server:
        urls = iter([server.url, next_server.url])
        async with running(lambda: connect(next(urls))) as (microphone, told, task):
            microphone.speak(AUDIO[:half])
            await until(lambda: len(told.finals) == 10)
            await server.close()  # the rest of 500 bytes is recognised first
            microphone.speak(AUDIO[half:])
            microphone.stop()
            await task
    texts = expected_texts(AUDIO[:half]) + expected_texts(AUDIO[half:])
    assert told.texts == texts
    assert len({final.utterance for final in told.finals}) == len(texts)
    starts = [final.start for final in told.finals]
    assert starts == sorted(starts)
    assert starts[11] == pytest.approx(half / 32_000, abs=0.001)
    assert told.finals[11].words[0].start == starts[11]
    (done,) = [event for event in told.events if isinstance(event, Done)]
    assert done.duration == pytest.approx(len(AUDIO) / 32_000, abs=0.001)
    assert len(told.notes) == 1


@asynchronous
async def test_it_goes_on_when_the_server_has_crashed() -> None:
    """What had no final is heard again by the next one."""
    half = 10 * UTTERANCE + 500
    async with serving(FakeEngine()) as server, serving(FakeEngine()) as next_server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, running(lambda: connect(url)) as (microphone, told, task):
            microphone.speak(AUDIO[:half])
            await until(lambda: len(told.finals) == 10)
            proxy.target = next_server.port
            proxy.cut()
            microphone.speak(AUDIO[half:])
            microphone.stop()
            await task
    assert told.texts == expected_texts(AUDIO)
    assert "unknown_session" in told.notes[0]


class Scripted:
    """A server that says what it is told to say, one script for each session, and keeps the audio of each."""

    def __init__(self, *scripts: list[ServerMessage]) -> None:
        self.scripts = list(scripts)
        self.audio: list[bytes] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with serve(self._talk, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)]) as server:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _talk(self, websocket: ServerConnection) -> None:
        await websocket.recv()
        script = self.scripts.pop(0)
        if isinstance(script[0], Error):
            await websocket.send(encode(script[0]), text=True)
            return
        await websocket.send(encode(Ready("x", PROTOCOL, "model", "s16le", 16000, 1, 0, 0, 20.0, 20.0)), text=True)
        index = len(self.audio)
        self.audio.append(b"")
        async for message in websocket:
            if isinstance(message, bytes):
                self.audio[index] += message
            ended = isinstance(message, str)
            if ended or (not isinstance(script[-1], Done) and len(self.audio[index]) >= 64_000):
                for answer in script:
                    await websocket.send(encode(answer), text=True)
                return


def final(utterance: int, start: float, end: float, text: str, seq: int) -> list[ServerMessage]:
    return [
        SpeechStarted(utterance, start, seq=seq),
        SpeechEnded(utterance, end, seq=seq + 1),
        Final(utterance, start, end, text, (), 0.9, seq=seq + 2),
    ]


@pytest.mark.parametrize("code", long_session._OVER + long_session._LATER)
@asynchronous
async def test_every_end_that_is_not_for_good_is_followed_by_another_session(code: ErrorCode) -> None:
    finished = [*final(0, 0.2, 1.0, "First.", 1), SpeechStarted(1, 1.5, seq=4), Partial(1, 1.5, 1.9, "lost", "", ())]
    server = Scripted(
        [*finished, Error(code, "for now", seq=5)],
        [*final(0, 0.5, 0.9, "Second.", 1), Done(1.5, seq=4)],
    )
    async with server.running() as url, running(lambda: connect(url)) as (microphone, told, task):
        microphone.speak(AUDIO[:64_000])
        await until(lambda: len(server.audio) == 1 and len(server.audio[0]) == 64_000)
        await until(lambda: told.forgotten)
        microphone.speak(AUDIO[64_000:80_000])
        microphone.stop()
        await task
    assert server.audio == [AUDIO[:64_000], AUDIO[32_000:80_000]]  # from the end of the last final
    assert [(f.utterance, f.start, f.end, f.text) for f in told.finals] == [
        (0, 0.2, 1.0, "First."),
        (2, 1.5, 1.9, "Second."),
    ]
    assert told.forgotten == [1]


@asynchronous
async def test_a_full_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_session, "_FIRST_DELAY", 0.01)
    full: list[ServerMessage] = [Error("capacity", "no room")]
    server = Scripted(
        [*final(0, 0.0, 1.0, "First.", 1), Error("shutting_down", "restart", seq=4)],
        full,
        full,
        [*final(0, 0.0, 1.0, "Second.", 1), Done(1.0, seq=4)],
    )
    async with server.running() as url, running(lambda: connect(url)) as (microphone, told, task):
        microphone.speak(AUDIO[:64_000])
        await until(lambda: len(server.audio) == 2)
        microphone.stop()
        await task
    assert told.texts == ["First.", "Second."]
    assert len(told.notes) == 1


@asynchronous
async def test_another_channel_is_not_told_twice() -> None:
    """One was in the middle of a sentence when the server crashed; what the other had said in the meantime is known."""
    told_before: list[ServerMessage] = [
        SpeechStarted(0, 0.5, channel=1, seq=1),
        SpeechStarted(1, 0.8, channel=0, seq=2),
        Final(1, 0.8, 1.4, "Yes.", (), 0.9, channel=0, seq=3),
        Error("internal", "oh", seq=4),
    ]
    told_again: list[ServerMessage] = [
        SpeechStarted(0, 0.0, channel=1, seq=1),
        SpeechStarted(1, 0.3, channel=0, seq=2),
        Final(1, 0.3, 0.9, "Yes.", (), 0.9, channel=0, seq=3),
        Final(0, 0.0, 1.5, "A long sentence.", (), 0.9, channel=1, seq=4),
        Done(1.5, seq=5),
    ]
    server = Scripted(told_before, told_again)
    async with server.running() as url, running(lambda: connect(url)) as (microphone, told, task):
        microphone.speak(AUDIO[:64_000])
        await until(lambda: len(server.audio) == 2)
        microphone.stop()
        await task
    assert server.audio[1] == AUDIO[16_000:64_000]
    assert [(f.text, f.start, f.channel) for f in told.finals] == [("Yes.", 0.8, 0), ("A long sentence.", 0.5, 1)]


@pytest.mark.parametrize("live", [True, False])
@asynchronous
async def test_nothing_of_a_long_sentence_is_lost_though_one_session_after_the_other_fails(
    monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    """Not by what comes meanwhile, either: another channel has had finals since the sentence began."""
    monkeypatch.setattr(long_session, "_FIRST_DELAY", 0.01)
    before: list[ServerMessage] = [
        SpeechStarted(0, 0.5, channel=1, seq=1),
        SpeechStarted(1, 0.8, channel=0, seq=2),
        Final(1, 0.8, 1.4, "Yes.", (), 0.9, channel=0, seq=3),
        Error("shutting_down", "restart", seq=4),  # and there was no time for the rest
    ]
    nothing: list[ServerMessage] = [Error("internal", "oh", seq=1)]
    a_part: list[ServerMessage] = [
        SpeechStarted(0, 0.0, channel=1, seq=1),
        Final(0, 0.0, 0.6, "A long", (), 0.9, channel=1, seq=2),
        Error("shutting_down", "restart", seq=3),
    ]
    the_rest: list[ServerMessage] = [*final(0, 0.1, 0.5, "sentence.", 1), Done(1.0, seq=4)]
    silent: list[ServerMessage] = [SpeechStarted(0, 0.0, channel=1, seq=1), *nothing]
    server = Scripted(before, silent, a_part, the_rest)
    async with server.running() as url, running(lambda: connect(url), live=live) as (microphone, told, task):
        for session in range(4):
            microphone.speak(AUDIO[:64_000])
            await until(lambda: len(told.notes) > session or not server.scripts)  # noqa: B023 - is waited for here
        microphone.stop()
        await task
    sound = AUDIO[:64_000] * 4
    assert [sound.index(audio[:1000]) for audio in server.audio] == [0, 16_000, 16_000, 35_200]
    assert server.audio[3] == sound[35_200:]
    assert told.texts == ["Yes.", "A long", "sentence."]


@asynchronous
async def test_a_server_that_had_no_time_to_finish_loses_nothing() -> None:
    """Not even if nobody has been understood so far."""
    server = Scripted(
        [SpeechStarted(0, 0.5, seq=1), Acknowledged(64_000), Error("shutting_down", "restart", seq=2)],
        [*final(0, 0.5, 1.5, "Whole.", 1), Done(2.0, seq=4)],
    )
    async with server.running() as url, running(lambda: connect(url)) as (microphone, told, task):
        microphone.speak(AUDIO[:64_000])
        await until(lambda: told.notes)
        microphone.speak(AUDIO[:32_000])
        microphone.stop()
        await task
    assert server.audio[1] == AUDIO[:64_000] + AUDIO[:32_000]


@asynchronous
async def test_refusals_for_good_are_errors() -> None:
    server = Scripted([Error("unknown_model", "no such model")])
    async with server.running() as url, running(lambda: connect(url)) as (_, told, task):
        with pytest.raises(ServerError, match="no such model"):
            await task
        assert not told.events


@asynchronous
async def test_a_first_session_that_cannot_be_had_is_an_error() -> None:
    server = Scripted([Error("capacity", "no room")])
    async with server.running() as url, running(lambda: connect(url)) as (_, _, task):
        with pytest.raises(ServerError, match="no room"):
            await task
    async with running(lambda: connect("ws://127.0.0.1:9")) as (_, _, task):
        with pytest.raises(ConnectionFailedError):
            await task


@asynchronous
async def test_the_end_does_not_wait_for_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted([*final(0, 0.0, 1.0, "First.", 1), Error("shutting_down", "restart", seq=4)])
    async with server.running() as url:
        urls: Any = iter([url])
        async with running(lambda: connect(next(urls, "ws://127.0.0.1:9"))) as (microphone, told, task):
            microphone.speak(AUDIO[:64_000])
            await until(lambda: told.notes)
            microphone.stop()
            with pytest.raises(ConnectionFailedError):
                await task
    assert told.texts == ["First."]


@asynchronous
async def test_what_was_said_in_a_long_outage_is_lost_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_session, "LONGEST_OUTAGE", 2.0)
    server = Scripted(
        [*final(0, 0.0, 1.0, "First.", 1), Error("shutting_down", "restart", seq=4)],
        [*final(0, 0.1, 0.9, "Last.", 1), Done(1.0, seq=4)],
    )
    async with server.running() as url, running(lambda: connect(url)) as (microphone, told, task):
        microphone.speak(AUDIO[: BLOCK * 64])
        await until(lambda: told.notes)
        microphone.speak(AUDIO[:BLOCK] * 100)
        microphone.stop()
        await task
    assert told.notes[1].startswith("2.1 s of sound were lost")
    assert told.finals[-1].start == pytest.approx(1.0 + 2.125 + 0.1)


# --- recordings ---


@asynchronous
async def test_a_recording_is_read_no_faster_than_it_is_sent() -> None:
    """However much of it there is, and however far the server is behind."""
    released = asyncio.Event()

    async def behind(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.send(encode(Ready("x", PROTOCOL, "model", "s16le", 16000, 1, 0, 0, 20.0, 20.0)), text=True)
        await released.wait()

    async with serve(behind, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)], close_timeout=0.1) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running(lambda: connect(url, buffer_bytes=100_000), live=False) as (recording, _, _):
            recording.speak(bytes(BLOCK * 1000))
            await until(lambda: recording.queue.qsize() < 1000 - 100)
            await settle()
            read = BLOCK * (1000 - recording.queue.qsize())
            assert 100_000 <= read <= 100_000 + 32_000 + 3 * BLOCK
            released.set()


@asynchronous
async def test_a_recording_is_not_begun_before_it_can_be_sent() -> None:
    """Or the time that it waits for a place would count as time that it is late, and be made up for."""
    place = asyncio.Event()

    @asynccontextmanager
    async def in_turn() -> AsyncIterator[AsyncClient]:
        await place.wait()
        async with connect(url) as client:
            yield client

    server = Scripted([*final(0, 0.0, 1.0, "First.", 1), Done(1.0, seq=4)])
    async with server.running() as url, running(in_turn, live=False) as (recording, told, task):
        recording.speak(AUDIO[:32_000])
        recording.stop()
        await settle()
        assert recording.queue.qsize() == 33
        place.set()
        await task
    assert told.texts == ["First."]


@asynchronous
async def test_a_recording_in_which_no_session_gets_further_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_session, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(long_session, "_LONGEST_DELAY", 0.001)
    monkeypatch.setattr(long_session, "_MOST_FAILURES", 3)
    further = [*final(0, 0.0, 1.0, "First.", 1), Error("internal", "a bug", seq=4)]
    failing: list[ServerMessage] = [SpeechStarted(0, 0.5, seq=1), Error("internal", "a bug", seq=2)]
    server = Scripted(failing, failing, further, failing, failing, failing, failing)
    async with server.running() as url, running(lambda: connect(url), live=False) as (recording, told, task):
        recording.speak(AUDIO[:64_000] * 2)
        recording.stop()
        with pytest.raises(ServerError, match="a bug"):
            await task
    assert not server.scripts
    assert told.texts == ["First."]


@asynchronous
async def test_a_pipe_that_is_quiet_for_long_goes_on_when_there_is_more() -> None:
    quiet: list[ServerMessage] = [*final(0, 0.0, 1.0, "One.", 1), Error("idle_timeout", "nothing came", seq=4)]
    server = Scripted(quiet, [*final(0, 1.0, 2.0, "Two.", 1), Done(2.0, seq=4)])
    async with server.running() as url, running(lambda: connect(url), live=False) as (pipe, told, task):
        pipe.speak(AUDIO[:64_000])
        await until(lambda: told.texts == ["One."])
        await asyncio.sleep(0.1)
        assert len(server.audio) == 1, "nobody's place is taken for silence"
        pipe.speak(AUDIO[:32_000])
        pipe.stop()
        await task
    assert server.audio[1] == AUDIO[32_000:64_000] + AUDIO[:32_000]
    assert told.texts == ["One.", "Two."]
    assert told.finals[1].start == 2.0
    assert not told.notes


@asynchronous
async def test_times_that_cannot_be_are_no_reason_to_hang() -> None:
    """A final that ends behind the audio."""
    server = Scripted([*final(0, 0.0, 900.0, "One.", 1), Error("internal", "a bug", seq=4)], [Done(0.0, seq=1)])
    async with server.running() as url, running(lambda: connect(url), live=False) as (recording, told, task):
        recording.speak(AUDIO[:64_000])
        await until(lambda: told.notes)
        recording.speak(AUDIO[:32_000])
        recording.stop()
        await task
    assert server.audio[1] == AUDIO[:32_000]
