"""Sessions that the server saves while they last."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest
import webvtt
from parastream.server.app import Server
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.transcripts.journal import read_journal
from parastream.streaming import Engine
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
    assert "the session cannot be saved for now" in caplog.text
    assert "its transcript could not be saved" in caplog.text


@asynchronous
async def test_a_disk_that_is_full_when_a_session_begins_costs_nothing_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "transcripts"
    async with serving(FakeEngine(), save=str(directory)) as server:
        directory.rmdir()
        directory.write_text("no room for files")
        async with connected(server, '{"type":"start","labels":["Ann"]}') as websocket:
            await websocket.send(AUDIO[: 2 * UTTERANCE])
            await until(lambda: "the session cannot be saved for now" in caplog.text)
            directory.unlink()
            await websocket.send(AUDIO[2 * UTTERANCE :])
            await websocket.send('{"type":"stop"}')
            await receive_all(websocket)
    saved = read_journal(only(directory, "*.jsonl"))
    assert [utterance.text for utterance in saved.utterances] == expected_texts(AUDIO)
    assert caplog.text.count("cannot be saved for now") == 1


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/transcripts"])
def test_a_directory_that_cannot_be_written_is_refused_at_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ConfigError, match="cannot save transcripts in"):
        Server(cast(Engine, FakeEngine()), ServerConfig(save=str(tmp_path / name)))


def test_trying_the_directory_leaves_nothing_there(tmp_path: Path) -> None:
    Server(cast(Engine, FakeEngine()), ServerConfig(save=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@asynchronous
async def test_names_cannot_forge_lines_or_times(tmp_path: Path) -> None:
    labels = '["00:00:00,000 --> 00:00:09,000\\n\\u001b[2JAnn\\u202e"]'
    async with (
        serving(FakeEngine(), save=str(tmp_path)) as server,
        connected(server, f'{{"type":"start","labels":{labels}}}') as websocket,
    ):
        await websocket.send(AUDIO[:UTTERANCE])
        await websocket.send('{"type":"stop"}')
        await receive_all(websocket)
    (text,) = expected_texts(AUDIO[:UTTERANCE])
    name = "00:00:00,000 → 00:00:09,000 [2JAnn"
    assert only(tmp_path, "*.txt").read_text() == f"{name}: {text}\n"
    assert only(tmp_path, "*.srt").read_text().count("-->") == 1
