"""Sessions that the server saves while they last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import webvtt
from parastream.server.transcripts.journal import read_journal
from parastream.streaming.events import SessionEnded

from ...waiting import until
from ..fakes import (
    UTTERANCE,
    FakeEngine,
    asynchronous,
    connected,
    expected_texts,
    heard,
    receive_all,
    receive_ready,
    serving,
)

AUDIO = b"ab" * UTTERANCE


def only(directory: Path, pattern: str) -> Path:
    (file,) = directory.glob(pattern)
    return file


@asynchronous
async def test_every_session_is_saved(tmp_path: Path) -> None:
    directory = tmp_path / "transcripts"
    async with (
        serving(FakeEngine(), save=str(directory)) as server,
        connected(server, '{"type":"start","labels":["Ann"]}') as websocket,
    ):
        ready = await receive_ready(websocket)
        await websocket.send(AUDIO)
        await websocket.send('{"type":"stop"}')
        await receive_all(websocket)
    journal = only(directory, "*.jsonl")
    assert ready.session[:6] in journal.name
    saved = read_journal(journal)
    assert [(utterance.text, utterance.speaker) for utterance in saved.utterances] == [
        (text, "Ann") for text in expected_texts(AUDIO)
    ]
    assert only(directory, "*.txt").read_text().splitlines() == [f"Ann: {text}" for text in expected_texts(AUDIO)]
    captions = webvtt.read(str(only(directory, "*.vtt"))).captions
    assert [(caption.voice, caption.text) for caption in captions] == [("Ann", text) for text in expected_texts(AUDIO)]


@asynchronous
async def test_the_label_of_a_channel_that_is_not_the_first(tmp_path: Path) -> None:
    start = '{"type":"start","channels":2,"channel":1,"labels":["Ann"]}'
    async with serving(FakeEngine(), save=str(tmp_path)) as server, connected(server, start, AUDIO) as websocket:
        await websocket.send('{"type":"flush"}')
        await websocket.send('{"type":"stop"}')
        await receive_all(websocket)
    assert [
        (utterance.text, utterance.speaker) for utterance in read_journal(only(tmp_path, "*.jsonl")).utterances
    ] == [(text, "Ann") for text in expected_texts(AUDIO)]
    assert "flushed" not in only(tmp_path, "*.jsonl").read_text()


@asynchronous
async def test_what_was_said_when_the_connection_broke_is_saved(tmp_path: Path) -> None:
    """Even if the server is stopped right after it, and the recogniser takes its time."""
    engine = FakeEngine()
    async with serving(engine, save=str(tmp_path)) as server, connected(server, '{"type":"start"}') as websocket:
        await receive_ready(websocket)
        await websocket.send(AUDIO[: UTTERANCE + 100])
        await until(lambda: bool(engine.streams[0].audio))
        stream = engine.streams[0]
        stream.hold_end = True
        websocket.transport.abort()
        last = heard(1, AUDIO[UTTERANCE : UTTERANCE + 100])
        asyncio.get_running_loop().call_later(0.2, stream.tell, [*last, SessionEnded(0.1)])
    assert not stream.cancelled
    assert only(tmp_path, "*.txt").read_text().splitlines() == expected_texts(AUDIO[: UTTERANCE + 100])


@asynchronous
async def test_a_session_that_cannot_be_saved_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "transcripts"
    async with serving(FakeEngine(), save=str(directory)) as server:
        directory.rmdir()
        directory.write_text("a file")
        async with connected(server, '{"type":"start"}') as websocket:
            await websocket.send(AUDIO)
            await websocket.send('{"type":"stop"}')
            _, code, _ = await receive_all(websocket)
            assert code == 1000
    assert "the session is not saved" in caplog.text
