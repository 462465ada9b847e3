"""Real speech through real sockets and the real model; and the process that serves it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.client import Final, Reconnected, connect
from parastream.server.app import Server
from parastream.server.wire.messages import Done, Error, ServerMessage, SpeechEnded, SpeechStarted
from parastream.streaming import Engine, Stream
from websockets.asyncio.client import connect as connect_websocket

from ..client.cutting_proxy import CuttingProxy
from ..conftest import SAMPLE_TEXTS
from ..waiting import until
from .fakes import asynchronous, connected, error_in, receive, receive_all, receive_ready, serving

Audio = NDArray[np.int16]
START = '{"type":"start"}'
STOP = '{"type":"stop"}'
MESSAGE = 3200
"""Bytes of 100 ms."""


async def converse(
    server: Server, audio: bytes, *, start: str = START, size: int = MESSAGE
) -> tuple[list[ServerMessage], int]:
    """Send audio in messages of `size` bytes; what comes back, and the close code."""
    async with connected(server, start) as websocket:
        listening = asyncio.create_task(receive_all(websocket))
        for first in range(0, len(audio), size):
            await websocket.send(audio[first : first + size])
        await websocket.send(STOP)
        messages, code, _ = await listening
        return messages, code


def finals(messages: list[ServerMessage]) -> list[Final]:
    return [message for message in messages if isinstance(message, Final)]


def texts(messages: list[ServerMessage]) -> list[str]:
    return [final.text for final in finals(messages)]


def without_numbers(all_finals: list[Final]) -> list[tuple[object, ...]]:
    """Finals but for their place in the stream of events, which depends on the partials between."""
    return [(final.utterance, final.start, final.end, final.text, final.words) for final in all_finals]


@asynchronous
async def test_speech(engine: Engine, sample: Audio) -> None:
    async with serving(engine) as server:
        messages, code = await converse(server, sample.tobytes())
    assert texts(messages) == SAMPLE_TEXTS
    assert code == 1000
    assert isinstance(done := messages[-1], Done)
    assert done.duration == pytest.approx(len(sample) / 16000, abs=0.001)
    for final in finals(messages):
        assert final.start < final.words[0].start < final.words[-1].end <= final.end
        assert " ".join(word.text for word in final.words) == final.text
        borders = [
            message.time
            for message in messages
            if isinstance(message, SpeechStarted | SpeechEnded) and message.utterance == final.utterance
        ]
        assert borders == [final.start, final.end]


@asynchronous
async def test_any_framing_gives_the_same_finals(engine: Engine, sample: Audio) -> None:
    audio = sample[: 4 * 16000].tobytes()
    async with serving(engine) as server:
        reference, _ = await converse(server, audio)
        assert texts(reference) == SAMPLE_TEXTS[:1]
        for size in (101, 4096, 200_000):
            messages, _ = await converse(server, audio, size=size)
            assert without_numbers(finals(messages)) == without_numbers(finals(reference))


@asynchronous
async def test_twenty_sessions_at_once_each_get_their_own_text(engine: Engine, sample: Audio) -> None:
    pieces = [sample[: 4 * 16000], sample[4 * 16000 : 9 * 16000 - 8000], sample[9 * 16000 - 8000 :]]
    async with serving(engine) as server:
        alone = [finals((await converse(server, piece.tobytes()))[0]) for piece in pieces]
        assert [[final.text for final in piece] for piece in alone] == [[text] for text in SAMPLE_TEXTS]
        together = await asyncio.gather(*(converse(server, pieces[index % 3].tobytes()) for index in range(20)))
    for index, (messages, code) in enumerate(together):
        assert texts(messages) == [final.text for final in alone[index % 3]]
        assert code == 1000


@asynchronous
async def test_the_streaming_pass_alone(engine: Engine, sample: Audio) -> None:
    start = '{"type":"start","final_pass":false,"punctuation":false}'
    async with serving(engine) as server:
        messages, _ = await converse(server, sample.tobytes(), start=start)
    assert [text.lower() for text in texts(messages)] == [
        re.sub("[.,]", "", text).replace("GMEF", "gmef").lower() for text in SAMPLE_TEXTS
    ]


@asynchronous
async def test_a_recording_sent_at_once_is_slowed_down_and_costs_no_memory(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 32000  # bytes of a second
    waiting: list[float] = []
    send = Stream.send

    def watched(stream: Stream, data: bytes) -> None:
        send(stream, data)
        waiting.append(stream.backlog)

    monkeypatch.setattr(Stream, "send", watched)
    async with serving(engine, backlog_high=4.0, backlog_low=2.0) as server:
        messages, code = await converse(server, np.tile(sample, 2).tobytes(), size=size)
    assert (texts(messages), code) == (2 * SAMPLE_TEXTS, 1000)
    # What is let in, one message more, and what looking at it may add: a window and an utterance that has to wait.
    assert max(waiting) < 4.0 + 1.0 + 1.0


# --- broken connections ----------------------------------------------------------------------


@asynchronous
async def test_a_connection_cut_at_random_places_changes_nothing(engine: Engine, sample: Audio) -> None:
    chance = random.Random(1)
    audio = sample.tobytes()
    reconnections: list[Reconnected] = []
    lengths = iter([50_000, *(chance.randrange(60_000) for _ in range(1000))])
    async with serving(engine) as server:
        reference, _ = await converse(server, audio)
        proxy = CuttingProxy(server.port, lambda: next(lengths))
        async with proxy.running() as url, connect(url, on_reconnect=reconnections.append) as client:

            async def speak() -> None:
                for first in range(0, len(audio), MESSAGE):
                    await client.send(audio[first : first + MESSAGE])
                    await asyncio.sleep(0.005)
                await client.stop()

            speaking = asyncio.create_task(speak())
            heard = [event async for event in client if isinstance(event, Final)]
            await speaking
    assert without_numbers(heard) == without_numbers(finals(reference))
    assert len(reconnections) > 3


@asynchronous
async def test_a_client_that_vanishes_in_mid_word_disturbs_nobody(engine: Engine, sample: Audio) -> None:
    async with serving(engine, resume_window=0.1) as server:
        async with connected(server, START, sample[: 2 * 16000].tobytes()) as websocket:
            await receive_ready(websocket)
            talking = asyncio.create_task(converse(server, sample.tobytes()))
            await receive(websocket)
            websocket.transport.abort()
        messages, code = await talking
        assert (texts(messages), code) == (SAMPLE_TEXTS, 1000)
        await until(lambda: not engine.stats().sessions)  # the one that vanished as well


# --- bad input -------------------------------------------------------------------------------


@asynchronous
async def test_half_a_sample_at_the_end(engine: Engine, sample: Audio) -> None:
    async with serving(engine) as server:
        messages, code = await converse(server, sample[: 4 * 16000].tobytes() + b"\1")
    assert [type(message) for message in messages[-3:]] == [Final, Error, Done]
    assert texts(messages) == SAMPLE_TEXTS[:1]
    assert isinstance(error := messages[-2], Error)
    assert error.code == "incomplete_sample"
    assert "1 of the 2 bytes" in error.message
    assert code == 1000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@asynchronous
async def test_samples_that_are_no_numbers(engine: Engine, sample: Audio, value: float) -> None:
    audio = (sample[: 5 * 16000] / np.float32(32768)).astype("<f4")
    audio[4 * 16000 + 7] = value
    async with (
        serving(engine) as server,
        connected(server, '{"type":"start","format":"f32le"}', audio.tobytes()) as websocket,
    ):
        messages, code, _ = await receive_all(websocket)
    assert texts(messages) == SAMPLE_TEXTS[:1]
    error = error_in(messages)
    assert (error.code, code) == ("invalid_audio", 1007)
    assert "64007" in error.message


@asynchronous
async def test_five_minutes_of_silence(engine: Engine) -> None:
    async with serving(engine) as server:
        messages, code = await converse(server, bytes(300 * 32000), size=64000)
    assert [type(message).__name__ for message in messages if isinstance(message, Done | Error | Final)] == ["Done"]
    assert messages[-1] == Done(300.0, seq=1)
    assert code == 1000


@asynchronous
async def test_no_samples(engine: Engine) -> None:
    async with serving(engine) as server:
        messages, code = await converse(server, b"")
    assert (messages[-1], code) == (Done(0.0, seq=1), 1000)


@asynchronous
async def test_a_wrong_message_costs_no_speech(engine: Engine, sample: Audio) -> None:
    async with (
        serving(engine) as server,
        connected(server, START, sample[: 4 * 16000].tobytes(), "{oops") as websocket,
    ):
        messages, code, _ = await receive_all(websocket)
    assert texts(messages) == SAMPLE_TEXTS[:1]
    assert (error_in(messages).code, code) == ("invalid_json", 1007)


@asynchronous
async def test_silence_on_the_line_ends_with_a_final(engine: Engine, sample: Audio) -> None:
    async with (
        serving(engine, idle_timeout=1.0) as server,
        connected(server, START, sample[: 3 * 16000].tobytes()) as websocket,
    ):
        messages, code, _ = await receive_all(websocket)
    assert texts(messages) == SAMPLE_TEXTS[:1]
    assert (error_in(messages).code, code) == ("idle_timeout", 1008)


# --- the process -----------------------------------------------------------------------------


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "parastream.client.cli",
        "serve",
        "--final-model",
        "asr-small-en",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_until(process: asyncio.subprocess.Process, wanted: Callable[[str], bool]) -> list[str]:
    """Lines on stderr up to the first one that is wanted."""
    assert process.stderr is not None
    lines: list[str] = []
    while not (lines and wanted(lines[-1])):
        line = (await process.stderr.readline()).decode()
        assert line, f"the process ended after {lines}"
        lines.append(line.rstrip())
    return lines


@pytest.mark.process
@asynchronous
async def test_a_terminated_server_sends_its_finals(sample: Audio) -> None:
    async with process("--port", "0") as server:
        lines = await read_until(server, lambda line: line.startswith("ready"))
        found = re.search(r"address +(ws://127\.0\.0\.1:(\d+)/v1/stream)", "\n".join(lines))
        assert found is not None, lines
        assert any(re.match(" +hears +asr-small-en: ", line) for line in lines)
        assert any(re.match(" +BLAS +", line) for line in lines)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[2]))
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 200")
        assert json.loads(answer.splitlines()[-1])["model"] == "asr-small-en"
        async with connect_websocket(found[1], ping_interval=None) as websocket:
            await websocket.send(START)
            await receive_ready(websocket)
            await websocket.send(sample[: 3 * 16000].tobytes())
            await receive(websocket)  # speech has started
            server.send_signal(signal.SIGTERM)
            messages, code, _ = await receive_all(websocket)
        assert texts(messages) == SAMPLE_TEXTS[:1]
        assert (error_in(messages).code, code) == ("shutting_down", 1001)
        assert await server.wait() == 0


@pytest.mark.process
@asynchronous
async def test_a_second_signal_ends_the_process_at_once(sample: Audio) -> None:
    async with process("--port", "0") as server:
        lines = await read_until(server, lambda line: line.startswith("ready"))
        found = re.search(r"ws://127\.0\.0\.1:\d+/v1/stream", "\n".join(lines))
        assert found is not None
        async with connect_websocket(found[0], ping_interval=None) as websocket:
            await websocket.send(START)
            await receive_ready(websocket)
            websocket.transport.pause_reading()  # the closing handshake will not come to an end
            server.send_signal(signal.SIGINT)
            await read_until(server, lambda line: line == "stopping")
            server.send_signal(signal.SIGINT)
            assert await server.wait() == 128 + signal.SIGINT
            websocket.transport.abort()


@pytest.mark.process
@asynchronous
async def test_an_address_in_use_and_a_model_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with process("--port", str(taken.getsockname()[1])) as server:
            _, stderr = await server.communicate()
        assert server.returncode == 1
        assert re.search(r"cannot listen: .*127.0.0.1.*in use", stderr.decode())
    async with process("--port", "0", "--model", "/nowhere", "--offline") as server:
        _, stderr = await server.communicate()
    assert server.returncode == 1
    assert "/nowhere" in stderr.decode()
    assert "Traceback" not in stderr.decode()


@pytest.mark.process
@asynchronous
async def test_wrong_settings() -> None:
    async with process("--host", "0.0.0.0") as server:
        _, stderr = await server.communicate()
    assert server.returncode == 1
    assert "set a token" in stderr.decode()
