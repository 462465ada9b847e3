"""Encoded audio on sockets: what browsers record and what lies in files, in pieces, by the protocols that take it."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.server.app import Server
from parastream.server.wire.messages import Done, Error, Final, Flushed
from parastream.streaming import Engine
from websockets.asyncio.client import connect

from tests.client.recordings import encode

from ...conftest import SAMPLE, SAMPLE_TEXTS
from ...waiting import until
from ..fakes import FakeEngine, asynchronous, error_in, receive, receive_all, receive_ready, serving
from ..fakes import connected as natively
from .talking import all_of, connected, speak

Audio = NDArray[np.int16]
START = '{"type":"start","format":"encoded"%s}'
STOP = '{"type":"stop"}'
TEXT = " ".join(SAMPLE_TEXTS)
MANY = 10_000
"""Events that may wait: the scripted engine has four for each 50 ms."""


@pytest.fixture(scope="module")
def webm(tmp_path_factory: pytest.TempPathFactory, sample: Audio) -> bytes:
    """What `MediaRecorder` makes of the sample: clusters of unknown size."""
    return encode(tmp_path_factory.mktemp("a") / "a.webm", sample, "libopus", options={"live": "1"}).read_bytes()


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory, sample: Audio) -> bytes:
    """What that of Safari makes: fragments with AAC."""
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}
    return encode(tmp_path_factory.mktemp("a") / "a.mp4", sample, "aac", options=options).read_bytes()


@pytest.fixture(scope="module")
def mp3(tmp_path_factory: pytest.TempPathFactory, sample: Audio) -> bytes:
    return encode(tmp_path_factory.mktemp("a") / "a.mp3", sample, "libmp3lame").read_bytes()


async def transcribed(server: Server, audio: bytes, options: str = "", *, size: int = 1000) -> tuple[list[Any], int]:
    """Send encoded audio by the native protocol; what comes back, and the close code."""
    async with natively(server, START % options) as websocket:
        await receive_ready(websocket)
        for first in range(0, len(audio), size):
            await websocket.send(audio[first : first + size])
        await websocket.send(STOP)
        messages, code, _ = await receive_all(websocket)
    return messages, code


def texts(messages: list[Any]) -> list[str]:
    return [message.text for message in messages if isinstance(message, Final)]


@asynchronous
async def test_encoded_audio_of_several_kinds_by_the_native_protocol(
    engine: Engine, webm: bytes, mp3: bytes, mp4: bytes
) -> None:
    async with serving(engine) as server:
        for audio in (webm, mp3, mp4, SAMPLE.read_bytes()):
            messages, code = await transcribed(server, audio)
            assert (texts(messages), code) == (SAMPLE_TEXTS, 1000)
            assert messages[-1].duration == pytest.approx(12, abs=0.2)


@asynchronous
async def test_deepgrams_clients_in_browsers_send_what_they_record(engine: Engine, webm: bytes, mp4: bytes) -> None:
    """The first message of Chromium's recorder is a single byte where it begins late."""
    async with serving(engine) as server:
        for query, audio in itertools.product(
            ("punctuate=true", "punctuate=true&encoding=opus&sample_rate=48000"), (webm, mp4)
        ):
            async with connected(server, f"/v1/listen?{query}") as websocket:
                for byte in audio[:12]:
                    await websocket.send(bytes((byte,)))
                await speak(websocket, audio[12:], {"type": "CloseStream"}, size=500)
                messages, code = await all_of(websocket)
            results = [json.loads(message) for message in messages]
            said = [each["channel"]["alternatives"][0]["transcript"] for each in results if each["type"] == "Results"]
            assert (" ".join(said), code) == (TEXT, 1000)


@asynchronous
async def test_funasrs_clients_send_files_of_any_kind(engine: Engine, mp3: bytes, webm: bytes) -> None:
    async with serving(engine) as server:
        for kind, audio in (("others", mp3), ("mp3", mp3), ("webm", webm)):
            begin = {
                "mode": "offline",
                "wav_name": "a",
                "wav_format": kind,
                "is_speaking": True,
                "chunk_size": [5, 10, 5],
            }
            async with connected(server, "/") as websocket:
                await speak(websocket, begin, audio, {"is_speaking": False}, size=20_000)
                answer = json.loads(await websocket.recv())
            assert (answer["text"], answer["is_final"]) == (TEXT, True)


# --- what holds in all of them, with a scripted engine


@pytest.mark.parametrize("kind", ["webm", "mp4"])
@asynchronous
async def test_finals_come_while_audio_is_still_sent(kind: str, webm: bytes, mp4: bytes) -> None:
    engine, audio = FakeEngine(), webm if kind == "webm" else mp4
    async with serving(engine, max_unsent=MANY) as server, natively(server, START % "") as websocket:
        await receive_ready(websocket)
        for first in range(0, len(audio) // 2, 500):
            await websocket.send(audio[first : first + 500])
        while not isinstance(await receive(websocket), Final):
            pass
        await until(lambda: len(engine.streams[0].audio) > 4 * 64_000)
        await websocket.send('{"type":"flush"}')
        heard = len(engine.streams[0].audio)
        while not isinstance(message := await receive(websocket), Flushed):
            pass
        assert message.time * 32_000 >= heard  # the fake counts bytes, and what came before the flush was decoded
        config = engine.streams[0].config
        assert (config.format.encoding, config.format.rate, config.entitled) == ("f32le", 16000, True)


@asynchronous
async def test_nothing_but_a_flush_and_a_stop() -> None:
    async with (
        serving(FakeEngine(), max_unsent=MANY) as server,
        natively(server, START % "", '{"type":"flush"}', STOP) as websocket,
    ):
        await receive_ready(websocket)
        messages, code, _ = await receive_all(websocket)
    assert [type(message) for message in messages] == [Flushed, Done]
    assert code == 1000


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (lambda webm, mp4: webm[:50_000] + bytes(400), "damaged audio at"),
        (lambda webm, mp4: mp4[: mp4.index(b"moof", 50_000)] + bytes(400), "damaged audio at"),
        (lambda webm, mp4: b"rubbish" * 100, "not a recording that can be read"),
    ],
)
@asynchronous
async def test_damage_ends_the_session_after_the_text_of_what_came_before(
    webm: bytes, mp4: bytes, damaged: Any, message: str
) -> None:
    async with serving(FakeEngine(), max_unsent=MANY) as server:
        messages, code = await transcribed(server, damaged(webm, mp4))
    error = messages[-1]
    assert isinstance(error, Error)
    assert (error.code, code) == ("invalid_audio", 1007)
    assert message in error.message
    assert bool(texts(messages)) == (message == "damaged audio at")


@asynchronous
async def test_a_client_that_comes_back_goes_on_where_its_bytes_ended(webm: bytes) -> None:
    engine = FakeEngine()
    async with serving(engine, max_unsent=MANY) as server:
        async with natively(server, START % "") as websocket:
            session = (await receive_ready(websocket)).session
            await websocket.send(webm[:20_001])
            await until(lambda: engine.streams[0].audio)
            websocket.transport.abort()
        async with natively(server, json.dumps({"type": "resume", "session": session})) as websocket:
            ready = await receive_ready(websocket)
            assert ready.acknowledged == 20_001
            await websocket.send(webm[20_001:])
            await websocket.send(STOP)
            _, code, _ = await receive_all(websocket)
    assert code == 1000
    assert len(engine.streams[0].audio) / 64_000 == pytest.approx(12, abs=0.1)


@asynchronous
async def test_a_server_that_stops_recognises_what_it_was_sent(webm: bytes) -> None:
    engine = FakeEngine()
    async with serving(engine, max_unsent=MANY, drain_timeout=30) as server, natively(server, START % "") as websocket:
        await receive_ready(websocket)
        await websocket.send(webm)
        await until(lambda: server._admission.open[0].accepted)
        closing = asyncio.create_task(server.close())
        messages, code, _ = await receive_all(websocket)
        await closing
    assert (error_in(messages).code, code) == ("shutting_down", 1001)
    assert len(engine.streams[0].audio) / 64_000 == pytest.approx(12, abs=0.1)


@asynchronous
async def test_channels_of_encoded_audio(tmp_path: Path, sample: Audio) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([sample, sample // 2], axis=1), 16000)
    audio = path.read_bytes()
    for options, streams, code in (
        ("", 1, 1000),
        (',"channels":2,"channel":1', 1, 1000),
        (',"channels":2,"channel":"all"', 2, 1000),
        (',"channels":3,"channel":"all"', 3, 1007),
    ):
        engine = FakeEngine()
        async with serving(engine, max_unsent=MANY) as server:
            messages, closed = await transcribed(server, audio, options)
        assert (len(engine.streams), closed) == (streams, code)
        if code == 1007:
            assert "the audio has 2 channels, not 3; allowed: 2, or 1" in messages[-1].message


@asynchronous
async def test_deepgrams_multichannel_of_encoded_audio(tmp_path: Path, sample: Audio) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([sample, sample], axis=1)[:16000], 16000)
    async with serving(FakeEngine(), max_unsent=MANY) as server:
        for query, code in (("multichannel=true&channels=2", 1000), ("multichannel=true", 1008)):
            async with connected(server, f"/v1/listen?{query}") as websocket:
                await speak(websocket, path.read_bytes(), {"type": "CloseStream"})
                messages, closed = await all_of(websocket)
            assert closed == code
            if code == 1000:
                assert json.loads(messages[-1])["channels"] == 2


@asynchronous
async def test_too_many_bytes_and_too_many_at_once(webm: bytes) -> None:
    async with serving(FakeEngine(), max_unsent=MANY, max_upload=1000, max_sessions=1) as server:
        messages, code = await transcribed(server, webm)
        assert (messages[-1].code, messages[-1].message, code) == (
            "too_large",
            "the audio is larger than 1000 bytes",
            1009,
        )
        async with natively(server, START % "") as websocket:
            await receive_ready(websocket)
            async with connect(f"ws://127.0.0.1:{server.port}/v1/listen?on=a") as other:
                await other.send(webm[:1000])
                assert "all 1 sessions are in use" in str(await other.recv())
