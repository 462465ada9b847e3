"""The server on real sockets, with a scripted engine behind it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path
from typing import Any, cast

import pytest
from parastream.model.errors import CapacityError, EngineError, ModelConfigError
from parastream.server.app import Server
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.wire.messages import (
    Acknowledged,
    Done,
    Error,
    Final,
    Flushed,
    Partial,
    Ready,
    ServerMessage,
    SpeechEnded,
    SpeechStarted,
    Stats,
    decode_server_message,
)
from parastream.streaming import Engine
from parastream.streaming.events import Event, InputRejected, SessionEnded
from parastream.streaming.events import Final as FinalEvent
from parastream.streaming.events import Partial as PartialEvent
from parastream.streaming.events import SpeechStarted as SpeechStartedEvent
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ..waiting import settle, until
from .fakes import (
    UTTERANCE,
    FakeEngine,
    asynchronous,
    connected,
    error_in,
    expected_texts,
    get,
    heard,
    metrics,
    receive,
    receive_all,
    receive_ready,
    serving,
)

START = '{"type":"start"}'
STOP = '{"type":"stop"}'
FLUSH = '{"type":"flush"}'


def kinds(messages: list[ServerMessage]) -> list[str]:
    return [type(message).__name__ for message in messages if not isinstance(message, Acknowledged)]


def texts(messages: list[ServerMessage]) -> list[str]:
    return [message.text for message in messages if isinstance(message, Final)]


AUDIO = bytes(range(256)) * 40
UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# --- a session -------------------------------------------------------------------------------


@asynchronous
async def test_a_whole_session() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connected(server, START, AUDIO, STOP) as websocket:
        messages, code, reason = await receive_all(websocket)
    ready = messages[0]
    assert isinstance(ready, Ready)
    assert (ready.model, ready.format, ready.rate, ready.acknowledged) == ("scripted", "s16le", 16000, 0)
    assert [(ear.name, ear.computed) for ear in ready.ears] == [("scripted", "graphs in int8")]
    assert len(ready.session) >= 32
    assert texts(messages) == expected_texts(AUDIO)
    assert messages[-1] == Done(0.32, seq=17)
    assert (code, reason) == (1000, "")


@asynchronous
async def test_a_session_without_samples() -> None:
    async with serving(FakeEngine()) as server, connected(server, START, b"", STOP) as websocket:
        messages, code, _ = await receive_all(websocket)
    assert kinds(messages) == ["Ready", "Done"]
    assert (messages[-1], code) == (Done(0.0, seq=1), 1000)


@asynchronous
async def test_audio_is_acknowledged_and_the_server_is_never_silent() -> None:
    async with (
        serving(FakeEngine(), acknowledge_interval=0.05, ping_interval=0.2) as server,
        connected(server, START) as websocket,
    ):
        ready = await receive_ready(websocket)
        assert ready.heartbeat == 0.2
        await websocket.send(b"x" * 100)
        while (told := await receive(websocket)) == Acknowledged(0):
            pass  # heartbeats on a machine that stood still
        assert told == Acknowledged(100)
        assert await receive(websocket) == Acknowledged(100)  # a heartbeat


@asynchronous
async def test_much_audio_is_acknowledged_at_once() -> None:
    async with serving(FakeEngine(), acknowledge_interval=60.0) as server, connected(server, START) as websocket:
        await receive(websocket)
        await websocket.send(b"x" * (1 << 16))
        while not isinstance(message := await receive(websocket), Acknowledged):
            pass
        assert message.bytes == 1 << 16


@asynchronous
async def test_stats_when_asked_for() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connected(server, '{"type":"start","stats":0.05}') as websocket:
        await receive(websocket)
        engine.streams[0].behind = 0.03
        await websocket.send(b"x" * 1600)
        while not isinstance(message := await receive(websocket), Stats) or not message.received:
            pass
        assert message == Stats(0.05, 0.03)


@asynchronous
async def test_the_subprotocol_is_selected_when_offered() -> None:
    async with serving(FakeEngine(), token="s3cret") as server:
        offered: Any = ["parastream.token.s3cret", "parastream.v1"]
        async with connected(server, START, subprotocols=offered) as websocket:
            assert websocket.subprotocol == "parastream.v1"
            assert isinstance(await receive(websocket), Ready)
        async with connected(server, START, subprotocols=offered[:1]) as websocket:
            assert websocket.subprotocol is None


@asynchronous
async def test_one_line_in_the_log_when_a_session_opens_and_one_when_it_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "parastream.server")
    async with (
        serving(FakeEngine(), drain_timeout=1000.0, close_timeout=1000.0) as server,
        connected(server, '{"type":"start","room":"blue"}') as websocket,
    ):
        ready = await receive_ready(websocket)
        await websocket.send(AUDIO)
        await websocket.send(STOP)
        await receive_all(websocket)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith(f"session {ready.session[:8]}: opened by 127.0.0.1:")
    assert lines[0].endswith(", room blue")
    assert lines[1] == f"session {ready.session[:8]}: closed after 0.3 s of audio, 4 finals"


# --- HTTP ------------------------------------------------------------------------------------


@asynchronous
async def test_a_port_of_one_protocol_has_no_pages() -> None:
    async with serving(FakeEngine(), listen=("funasr=0",)) as server:
        server.port, port = server.ports["funasr"], server.port
        assert (await get(server, "/"))[0] == 426
        assert (await get(server, "/healthz"))[0] == 200
        server.port = port
        assert server.page_url == f"http://127.0.0.1:{port}/"


@asynchronous
async def test_http() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        status, text = await get(server, "/")
        assert (status, text.splitlines()[0]) == (200, "<!doctype html>")
        status, text = await get(server, "/healthz")
        assert (status, json.loads(text)) == (200, {"status": "ok"})
        status, text = await get(server, "/readyz")
        known = {"status": "ready", "model": "scripted", "computed": {"scripted": "graphs in int8"}, "places": 500}
        assert (status, json.loads(text)) == (200, known)
        status, text = await get(server, "/v2/stream?x=1")
        error = decode_server_message(text)
        assert isinstance(error, Error)
        assert (status, error.code) == (404, "unknown_path")
        assert "/v1/stream" in error.allowed
        assert (await get(server, "/v1/stream"))[0] == 426


@asynchronous
async def test_readyz_says_why_not() -> None:
    engine = FakeEngine()
    engine.ready = False
    async with serving(engine) as server:
        status, text = await get(server, "/readyz")
        assert (status, json.loads(text)["reason"]) == (503, "loading the model")
        engine.failure = EngineError("no memory")
        status, text = await get(server, "/readyz")
        assert (status, json.loads(text)["reason"]) == (503, "the engine failed: no memory")
        assert (await get(server, "/healthz"))[0] == 200


@asynchronous
async def test_metrics() -> None:
    async with serving(FakeEngine()) as server, connected(server, START, AUDIO, STOP) as websocket:
        await receive_all(websocket)
        found = await metrics(server)
    assert found["parastream_sessions_opened_total"] == 1
    assert found["parastream_finals_total"] == 4
    assert found["parastream_sessions"] == 0
    assert found["parastream_engine_windows_total"] == 7
    assert found["parastream_engine_capacity"] == 3
    assert found["parastream_engine_utilisation"] == 0.5


@asynchronous
async def test_the_token_is_asked_for() -> None:
    async with serving(FakeEngine(), token="s3cret") as server:
        with pytest.raises(InvalidStatus) as caught:
            async with connected(server):
                pass
        assert caught.value.response.status_code == 401
        assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"
        assert json.loads(caught.value.response.body or b"")["code"] == "unauthorized"
        async with connected(server, START, additional_headers={"Authorization": "Bearer s3cret"}) as websocket:
            assert isinstance(await receive(websocket), Ready)
        assert (await get(server, "/readyz"))[0] == 200
        assert (await get(server, "/metrics"))[0] == 401


@asynchronous
async def test_foreign_pages_are_refused() -> None:
    async with serving(FakeEngine()) as server:
        with pytest.raises(InvalidStatus) as caught:
            async with connected(server, origin="https://evil.example"):
                pass
        assert caught.value.response.status_code == 403
        async with connected(server, START, origin=f"http://127.0.0.1:{server.port}") as websocket:
            assert isinstance(await receive(websocket), Ready)


# --- what a client can do wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "code", "close_code", "message"),
    [
        ("start", "invalid_json", 1007, "text messages carry one JSON object each"),
        ('{"type":"start"', "invalid_json", 1007, "truncated"),
        ('{"type":"start","speed":2}', "invalid_message", 1007, "unknown field `speed`"),
        ('{"type":"start","format":"mp3"}', "invalid_message", 1007, "Invalid enum value 'mp3' - at `$.format`"),
        (b"\0\0", "unexpected_message", 1002, "audio before `start`"),
        (STOP, "unexpected_message", 1002, "`stop` before `start`"),
        ('{"type":"start","rate":4000}', "unsupported", 1003, "allowed: whole numbers 8000 to 48000"),
        ('{"type":"start","hotwords":[{"term":"x","weight":9}]}', "unsupported", 1003, "allowed are 0.1 to 5"),
        ('{"type":"start","model":"whisper"}', "unknown_model", 1003, "no model 'whisper'"),
        ('{"type":"resume","session":"guess"}', "unknown_session", 1008, "no such session"),
    ],
)
@asynchronous
async def test_wrong_openings(first: str | bytes, code: str, close_code: int, message: str) -> None:
    async with serving(FakeEngine()) as server, connected(server, START) as neighbour:
        async with connected(server, first) as websocket:
            messages, closed, reason = await receive_all(websocket)
        error = error_in(messages)
        assert (error.code, closed, len(messages)) == (code, close_code, 1)
        assert message in error.message
        assert reason.startswith(code)
        await neighbour.send(AUDIO)
        await neighbour.send(STOP)
        messages, closed, _ = await receive_all(neighbour)
        assert (texts(messages), closed) == (expected_texts(AUDIO), 1000)


@pytest.mark.parametrize(
    ("wrong", "code", "close_code"),
    [
        (START, "unexpected_message", 1002),
        ("not json", "invalid_json", 1007),
        ('{"type":"stop","at":1}', "invalid_message", 1007),
    ],
)
@asynchronous
async def test_wrong_messages_in_a_session_cost_no_audio(wrong: str, code: str, close_code: int) -> None:
    async with serving(FakeEngine()) as server, connected(server, START, AUDIO, wrong, AUDIO) as websocket:
        messages, closed, _ = await receive_all(websocket)
    assert texts(messages) == expected_texts(AUDIO)
    error = error_in(messages)
    assert (error.code, closed) == (code, close_code)


@asynchronous
async def test_text_that_is_not_utf8() -> None:
    async with serving(FakeEngine()) as server, connected(server, START) as websocket:
        await receive(websocket)
        await websocket.send(b"\xff", text=True)
        _, code, _ = await receive_all(websocket)
    assert code == 1007


@asynchronous
async def test_rejected_audio() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connected(server, START, AUDIO) as websocket:
        await until(lambda: bool(engine.streams and engine.streams[0].audio))
        engine.streams[0].tell([InputRejected("invalid_audio", "sample 7 is NaN")])
        messages, code, reason = await receive_all(websocket)
    assert texts(messages) == expected_texts(AUDIO)
    error = error_in(messages)
    assert (error.code, code, reason) == ("invalid_audio", 1007, "invalid_audio: sample 7 is NaN")


@asynchronous
async def test_too_large_a_message() -> None:
    engine = FakeEngine()
    async with serving(engine, max_message=1000) as server:
        async with connected(server, START, AUDIO[:1000]) as websocket:
            ready = await receive_ready(websocket)
            await websocket.send(b"x" * 1001)
            _, code, reason = await receive_all(websocket)
            assert code == 1009
            assert "1001 bytes" in reason
            assert "1000 bytes" in reason
        # What was accepted before is still there for a client that comes back.
        async with connected(server, f'{{"type":"resume","session":"{ready.session}"}}', STOP) as websocket:
            messages, code, _ = await receive_all(websocket)
        assert (texts(messages), code) == (expected_texts(AUDIO[:1000]), 1000)


@asynchronous
async def test_a_client_that_says_nothing() -> None:
    # Long enough for a busy machine to connect in it.
    async with serving(FakeEngine(), start_timeout=2.0) as server, connected(server) as websocket:
        messages, code, _ = await receive_all(websocket)
    error = error_in(messages)
    assert (error.code, code) == ("start_timeout", 1008)


@asynchronous
async def test_no_audio_for_too_long() -> None:
    async with serving(FakeEngine(), idle_timeout=0.2) as server, connected(server, START, AUDIO[:100]) as websocket:
        messages, code, _ = await receive_all(websocket)
    assert texts(messages) == expected_texts(AUDIO[:100])
    error = error_in(messages)
    assert (error.code, code) == ("idle_timeout", 1008)


@asynchronous
async def test_too_long_a_session() -> None:
    async with (
        serving(FakeEngine(), max_session=0.3, idle_timeout=60.0) as server,
        connected(server, START) as websocket,
    ):

        async def speak() -> None:
            while True:
                await websocket.send(b"x" * 320)
                await settle()

        speaking = asyncio.create_task(speak())
        messages, code, _ = await receive_all(websocket)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    assert "Final" in kinds(messages)
    error = error_in(messages)
    assert (error.code, code) == ("session_too_long", 1008)


# --- admission -------------------------------------------------------------------------------


@asynchronous
async def test_too_many_sessions() -> None:
    async with (
        serving(FakeEngine(), max_sessions=2) as server,
        connected(server, START) as first,
        connected(server, START) as second,
    ):
        await receive(first)
        await receive(second)
        async with connected(server, START, path="?on=a") as third:  # without, it would be refused before the upgrade
            messages, code, _ = await receive_all(third)
        error = error_in(messages)
        assert (error.code, code) == ("capacity", 1013)
        assert error.message == "all 2 sessions are in use; try again when one has ended"
        await first.send(STOP)
        await receive_all(first)
        async with connected(server, START) as third:
            assert isinstance(await receive(third), Ready)


@pytest.mark.parametrize(
    ("failure", "code", "close_code"),
    [
        (CapacityError("cannot keep up with more"), "capacity", 1013),
        (ModelConfigError("no streaming form"), "unsupported", 1003),
        (EngineError("stopped"), "internal", 1011),
    ],
)
@asynchronous
async def test_the_engine_refuses(failure: Exception, code: str, close_code: int) -> None:
    engine = FakeEngine()
    engine.refusal = failure
    async with serving(engine) as server, connected(server, START) as websocket:
        messages, closed, _ = await receive_all(websocket)
    error = error_in(messages)
    assert (error.code, error.message, closed) == (code, str(failure), close_code)


@asynchronous
async def test_not_ready_yet() -> None:
    engine = FakeEngine()
    engine.ready = False
    async with serving(engine) as server, connected(server, START) as websocket:
        messages, code, _ = await receive_all(websocket)
    error = error_in(messages)
    assert (error.code, error.message, code) == ("not_ready", "loading the model, try again later", 1013)


# --- clients that go away, stall, or come back -----------------------------------------------


@asynchronous
async def test_a_client_that_closes_is_forgotten() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        async with connected(server, START, AUDIO) as websocket:
            ready = await receive_ready(websocket)
        await until(lambda: engine.streams[0].cancelled)
        async with connected(server, f'{{"type":"resume","session":"{ready.session}"}}') as websocket:
            messages, code, _ = await receive_all(websocket)
    error = error_in(messages)
    assert (error.code, code) == ("unknown_session", 1008)


@asynchronous
async def test_a_client_that_vanishes_is_forgotten_after_a_while() -> None:
    engine = FakeEngine()
    async with serving(engine, resume_window=0.2, max_sessions=1) as server:
        async with connected(server, START, AUDIO) as websocket:
            await receive(websocket)
            websocket.transport.abort()
        await until(lambda: engine.streams[0].cancelled)
        async with connected(server, START) as websocket:
            assert isinstance(await receive(websocket), Ready)


@asynchronous
async def test_a_client_that_answers_no_pings_is_disconnected_and_can_resume() -> None:
    engine = FakeEngine()
    async with serving(engine, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1) as server:
        # A socket of our own, as no library would leave pings unanswered.
        silent = socket.create_connection(("127.0.0.1", server.port))
        with silent:
            silent.sendall(UPGRADE)
            text = START.encode()
            silent.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text + bytes([0x82, 0x82]) + bytes(4 + 2))
            await until(lambda: bool(engine.streams and engine.streams[0].audio))
            silent.settimeout(5)
            received = b""
            while data := await asyncio.to_thread(silent.recv, 4096):
                received += data
        assert b"no answer to a ping" in received
        name = received.split(b'"session":"')[1].split(b'"')[0].decode()
        async with connected(server, f'{{"type":"resume","session":"{name}"}}', STOP) as websocket:
            messages, code, _ = await receive_all(websocket)
        assert (kinds(messages)[0], kinds(messages)[-1], code) == ("Ready", "Done", 1000)


@asynchronous
async def test_resume_goes_on_where_the_connection_broke() -> None:
    engine = FakeEngine()
    audio = AUDIO[: 3 * UTTERANCE]
    async with serving(engine) as server:
        async with connected(server, START, audio[: 2 * UTTERANCE]) as websocket:
            ready = await receive_ready(websocket)
            first = [await receive(websocket) for _ in range(3)]
            websocket.transport.abort()
        last = first[-1]
        assert isinstance(last, Final)
        resume = f'{{"type":"resume","session":"{ready.session}","received":{last.seq}}}'
        async with connected(server, resume) as websocket:
            again = await receive_ready(websocket)
            assert (again.session, again.acknowledged) == (ready.session, 2 * UTTERANCE)
            await websocket.send(audio[again.acknowledged :])
            await websocket.send(STOP)
            rest, code, _ = await receive_all(websocket)
        assert texts([*first, *rest]) == expected_texts(audio)
        assert kinds(rest) == 2 * ["SpeechStarted", "SpeechEnded", "Final"] + ["Done"]
        assert code == 1000
        assert len(engine.streams) == 1


@asynchronous
async def test_resume_says_which_flushes_have_arrived() -> None:
    async with serving(FakeEngine()) as server:
        async with connected(server, START, AUDIO[:100], FLUSH, FLUSH) as websocket:
            ready = await receive_ready(websocket)
            while not isinstance(await receive(websocket), Flushed):
                pass
            await receive(websocket)
            websocket.transport.abort()
        assert ready.flushes == 0
        async with connected(server, f'{{"type":"resume","session":"{ready.session}"}}') as websocket:
            again = await receive_ready(websocket)
            assert (again.acknowledged, again.flushes) == (100, 2)


@asynchronous
async def test_resume_takes_over_a_connection_that_looks_alive() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connected(server, START, AUDIO[:100]) as old:
        ready = await receive_ready(old)
        await until(lambda: engine.streams[0].audio == AUDIO[:100])
        async with connected(server, f'{{"type":"resume","session":"{ready.session}"}}') as new:
            again = await receive_ready(new)
            assert again.acknowledged == 100
            _, code, reason = await receive_all(old)
            assert (code, reason) == (1008, "the session went on with another connection")
            await new.send(STOP)
            messages, code, _ = await receive_all(new)
    assert (texts(messages), code) == (expected_texts(AUDIO[:100]), 1000)


@asynchronous
async def test_what_happens_while_the_client_is_away_is_told_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "parastream.server")
    engine = FakeEngine()
    async with serving(engine) as server:
        async with connected(server, START, b"\0\0") as websocket:
            ready = await receive_ready(websocket)
            engine.streams[0].hold_end = True
            await websocket.send(STOP)
            await until(lambda: engine.streams[0].ended)
            websocket.transport.abort()
        await until(lambda: "connection broke" in caplog.text)
        engine.streams[0].tell([*heard(0, AUDIO), SessionEnded(0.32)])
        async with connected(server, f'{{"type":"resume","session":"{ready.session}"}}', STOP) as websocket:
            messages, code, _ = await receive_all(websocket)
    assert kinds(messages) == ["Ready", "SpeechStarted", "SpeechEnded", "Final", "Done"]
    assert code == 1000


@pytest.mark.parametrize("received", [99, 16])
@asynchronous
async def test_resume_after_an_event_that_never_was(received: int) -> None:
    async with serving(FakeEngine()) as server:
        async with connected(server, START, b"\0\0") as websocket:
            ready = await receive_ready(websocket)
            websocket.transport.abort()
        resume = f'{{"type":"resume","session":"{ready.session}","received":{received}}}'
        async with connected(server, resume) as websocket:
            messages, code, _ = await receive_all(websocket)
        error = error_in(messages)
        assert (error.code, code) == ("unknown_session", 1008)
        # That did not cost the session.
        async with connected(server, f'{{"type":"resume","session":"{ready.session}"}}') as websocket:
            assert isinstance(await receive(websocket), Ready)


@asynchronous
async def test_a_slow_client_misses_nothing_but_partials() -> None:
    engine = FakeEngine()
    filler = "x" * 1_000_000  # more than sockets buffer
    utterances = 20
    async with (
        serving(engine, max_unsent=100) as server,
        connected(server, START, max_size=None, max_queue=1) as websocket,
    ):
        await until(lambda: bool(engine.streams))
        for utterance in range(utterances):
            told: list[Event] = [SpeechStartedEvent(utterance, 0.0)]
            told += [PartialEvent(utterance, 0.0, 1.0, f"{part}", filler, ()) for part in range(5)]
            for event in told:
                engine.streams[0].tell([event])
                await settle()
            engine.streams[0].tell([FinalEvent(utterance, 0.0, 1.0, f"{utterance} {filler}", (), 0.0)])
            await settle()
        engine.streams[0].tell([SessionEnded(1.0)])
        messages, code, _ = await receive_all(websocket)
    assert code == 1000
    finals = texts(messages)
    assert [text.split()[0] for text in finals] == [str(utterance) for utterance in range(utterances)]
    assert kinds(messages).count("SpeechStarted") == utterances
    assert kinds(messages).count("Partial") < 5 * utterances
    seqs = [
        message.seq for message in messages if isinstance(message, SpeechStarted | Partial | Final | SpeechEnded | Done)
    ]
    assert seqs == sorted(set(seqs))


@asynchronous
async def test_a_client_that_never_reads_is_cut_off_and_harms_nobody() -> None:
    engine = FakeEngine()
    filler = "x" * 1_000_000
    async with (
        serving(engine, max_unsent=20, close_timeout=1000.0) as server,
        connected(server, START, max_size=None, max_queue=1) as stuck,
        connected(server, START) as neighbour,
    ):
        await until(lambda: len(engine.streams) == 2)
        for utterance in range(60):
            engine.streams[0].tell(
                [SpeechStartedEvent(utterance, 0.0), FinalEvent(utterance, 0.0, 1.0, filler, (), 0.0)]
            )
            await settle()
        await until(lambda: engine.streams[0].cancelled)
        await neighbour.send(AUDIO)
        await neighbour.send(STOP)
        messages, code, _ = await receive_all(neighbour)
        assert (texts(messages), code) == (expected_texts(AUDIO), 1000)
        messages, code, _ = await receive_all(stuck)  # it reads at last
        assert (error_in(messages).code, code) == ("slow_client", 1008)


@asynchronous
async def test_reading_pauses_while_the_engine_is_behind() -> None:
    engine = FakeEngine()
    settings: dict[str, Any] = {"backlog_high": 2.0, "backlog_low": 1.0, "ping_interval": 0.1, "ping_timeout": 0.5}
    second = b"x" * 32000
    async with serving(engine, idle_timeout=0.5, **settings) as server, connected(server, START) as websocket:
        await receive(websocket)
        stream = engine.streams[0]
        stream.behind = 1e9  # seconds
        for _ in range(20):
            await websocket.send(second)
        await until(lambda: len(stream.audio) == len(second) * 3)
        # Longer than pings and idleness are allowed to take. Each answer shows that the server has read on, had it
        # wanted to.
        waited = asyncio.get_running_loop().time() + 0.8
        while asyncio.get_running_loop().time() < waited:
            await receive(websocket)
        assert len(stream.audio) == len(second) * 3
        stream.look(1.5)  # below the high mark, but the low one counts now
        assert len(stream.audio) == len(second) * 3
        stream.look()
        await websocket.send(STOP)
        messages, code, _ = await receive_all(websocket)
    assert (stream.audio, code) == (second * 20, 1000)
    assert texts(messages) == expected_texts(second * 20)


# --- the end of the server -------------------------------------------------------------------


@asynchronous
async def test_a_drain_sends_finals_and_lets_nobody_in() -> None:
    engine = FakeEngine()
    async with (
        serving(engine, drain_timeout=5.0) as server,
        connected(server, START, AUDIO) as speaking,
        connected(server) as opening,
    ):
        await until(lambda: bool(engine.streams and engine.streams[0].audio))
        engine.streams[0].hold_end = True
        closing = asyncio.create_task(server.close())
        await until(lambda: engine.streams[0].ended)
        await until(lambda: not any(listener.is_serving() for listener in server._listeners._websocket))
        with pytest.raises(OSError, match="Connect call failed"):
            await connect(server.url)
        engine.streams[0].tell([*heard(4, b"the rest"), SessionEnded(0.4)])
        messages, code, _ = await receive_all(speaking)
        assert len(texts(messages)) == 4
        error = error_in(messages)
        assert (error.code, code) == ("shutting_down", 1001)
        assert (await receive_all(opening))[1] == 1001
        await closing


@asynchronous
async def test_a_drain_does_not_wait_for_ever() -> None:
    engine = FakeEngine()
    async with serving(engine, drain_timeout=0.1) as server, connected(server, START) as websocket:
        await receive(websocket)
        engine.streams[0].hold_end = True
        closing = asyncio.create_task(server.close())
        messages, code, _ = await receive_all(websocket)
        await closing
    assert kinds(messages) == ["Error"]
    assert code == 1001
    assert engine.streams[0].cancelled


@asynchronous
async def test_a_drain_drops_sessions_that_wait_for_their_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parastream.server")
    engine = FakeEngine()
    async with serving(engine) as server:
        async with connected(server, START, b"\0\0") as websocket:
            await receive(websocket)
            websocket.transport.abort()
        await until(lambda: "connection broke" in caplog.text)
        await server.close()
        assert engine.streams[0].cancelled


def test_the_servers_rules_hold_for_all_its_sessions(tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("new york => NYC\n", "utf-8")

    @asynchronous
    async def talk() -> None:
        engine = FakeEngine()
        settings = {"replace": str(tmp_path / "rules.txt"), "profanity": "mask"}
        async with serving(engine, **settings) as server, connect(server.url, compression=None) as websocket:
            await websocket.send('{"type":"start"}')
            await websocket.recv()
        rules = engine.streams[0].config.replacements
        assert [each.text for each in rules.apply(["new", "york", "shit"])[0]] == ["NYC", "s***"]

    talk()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"wrong\n", "rules.txt, line 1: 'wrong' is no rule"), (b"\xff", "invalid start byte"), (None, "No such file")],
)
def test_rules_that_cannot_be_used_keep_a_server_from_starting(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "rules.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"cannot use the rules for replacing words: .*{message}"):
        Server(cast(Engine, FakeEngine()), ServerConfig(replace=str(file)))
