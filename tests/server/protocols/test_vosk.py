"""Clients of vosk-server: messages by hand, then real speech over sockets, in lock-step."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.errors import CapacityError
from parastream.server.app import Server
from parastream.server.protocols.vosk import Vosk
from parastream.streaming import AudioFormat, Encoding, Engine
from parastream.streaming import events as ev

from ...conftest import SAMPLE_TEXTS
from ...waiting import until
from ..fakes import FakeEngine, asynchronous, expected_texts, serving
from .talking import Message, Talk, all_of, connected, hears, pieces, said, speak

EOF = '{"eof" : 1}'
RESET = '{"reset" : 1}'
AUDIO = b"ab" * 300
PLAIN = [text.lower().replace(".", "").replace(",", "") for text in SAMPLE_TEXTS]


def word(text: str, start: float, *, conf: float | None = 0.5) -> Message:
    return {"word": text, "start": start, "end": start + 0.25} | ({} if conf is None else {"conf": conf})


# --- replies --------------------------------------------------------------------------------------


def test_each_message_of_audio_gets_one_reply() -> None:
    talk = Talk(Vosk)
    talk.say(AUDIO)
    talk.stream.hold_end = True
    assert talk.heard() == [{"partial": ""}]
    talk.tell([hears(0, "Enter", " O")])
    assert talk.heard() == []
    talk.say(AUDIO)
    talk.say(AUDIO)
    assert talk.heard() == [{"partial": "enter o"}, {"partial": "enter o"}]
    talk.tell([hears(0, "enter", " one"), hears(1, "three"), said(0, "enter one")])
    assert talk.heard() == []
    talk.say(AUDIO)
    assert talk.heard() == [{"result": [word("enter", 1.0), word("one", 1.25)], "text": "enter one"}]
    talk.say(b"")
    assert talk.heard() == [{"partial": "three"}]
    talk.say(EOF)
    assert talk.heard() == []
    talk.tell([said(1, "three GMEF", start=3), ev.SessionEnded(4.0)])
    assert talk.heard() == [{"result": [word("three", 3.0), word("gmef", 3.25)], "text": "three gmef"}]
    assert talk.close_code == 1000


def test_a_reply_has_everything_that_has_ended() -> None:
    """As the one reply to the end of the audio is all that clients read after it."""
    talk = Talk(Vosk)
    talk.say(AUDIO)
    talk.stream.hold_end = True
    talk.heard()
    talk.tell([said(0, "one"), said(1, ""), said(2, "two", start=4)])
    talk.say(AUDIO)
    assert talk.heard() == [{"result": [word("one", 1.0), word("two", 4.0)], "text": "one two"}]
    talk.say(EOF)
    talk.tell([said(3, "three", start=5), said(4, "four", start=6), ev.SessionEnded(7.0)])
    assert talk.heard() == [{"result": [word("three", 5.0), word("four", 6.0)], "text": "three four"}]


@pytest.mark.parametrize("first", [(), ('{"config":{}}',)])
def test_the_end_without_audio(first: tuple[str, ...]) -> None:
    talk = Talk(Vosk)
    talk.say(*first, EOF, EOF)
    assert talk.heard() == [{"text": ""}]
    assert talk.close_code == 1000
    assert talk.engine.streams == []


def test_a_reset_gets_one_reply_and_the_clock_goes_on() -> None:
    talk = Talk(Vosk)
    talk.say(RESET)
    assert talk.heard() == [{"text": ""}]
    talk.say(AUDIO, RESET)
    partial, result = talk.heard()
    assert partial == {"partial": ""}
    assert result["text"] == expected_texts(AUDIO)[0]
    talk.stream.hold_end = True
    talk.say(AUDIO, EOF)
    talk.stream.tell([ev.SpeechStarted(1, 2.0), said(1, "two", start=2.0), ev.SessionEnded(3.0)])
    assert talk.heard() == [{"partial": ""}, {"result": [word("two", 2.0)], "text": "two"}]
    assert len(talk.engine.streams) == 1


def test_replies_come_in_order_when_a_client_does_not_wait_for_a_reset() -> None:
    talk = Talk(Vosk)
    talk.say(AUDIO)
    talk.heard()
    talk.stream.flush = lambda: None  # type: ignore[method-assign]  # it takes a while
    talk.say(RESET, AUDIO, RESET)
    assert talk.heard() == []
    talk.tell([said(0, "one"), ev.Flushed(1.0)])
    assert [each.get("text", each) for each in talk.heard()] == ["one", {"partial": ""}]
    talk.tell([ev.Flushed(1.0)])
    assert talk.heard() == [{"text": ""}]


# --- settings -------------------------------------------------------------------------------------


def test_defaults() -> None:
    talk = Talk(Vosk)
    talk.say(AUDIO)
    config = talk.stream.config
    assert config.format == AudioFormat(Encoding.S16LE, 8000)
    assert (config.punctuate, config.partials, config.final_pass) == (False, True, True)


@pytest.mark.parametrize("rate", ["16000", "16000.0", '"16000"'])
def test_a_configuration(rate: str) -> None:
    talk = Talk(Vosk)
    more = '"phrase_list":["one two"], "model":"/etc/passwd", "unheard":"of"'
    talk.say(f'{{"config" : {{ "sample_rate" : {rate}, {more} }} }}')
    assert talk.heard() == []
    talk.say(AUDIO)
    assert talk.stream.config.format.rate == 16000
    talk.say('{"config":{"sample_rate":16000}}')
    assert talk.adapter.listening


@pytest.mark.parametrize(("words", "listed"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_words(words: str, listed: bool) -> None:
    talk = Talk(Vosk)
    talk.say(f'{{"config":{{"words":{words}}}}}', AUDIO, EOF)
    *_, result = talk.heard()
    assert ("result" in result) is listed
    assert result["text"] == expected_texts(AUDIO)[0]


def test_alternatives() -> None:
    talk = Talk(Vosk)
    talk.say('{"config":{"max_alternatives":3}}', AUDIO)
    assert talk.heard() == [{"partial": ""}]
    talk.tell([said(0, "one two", confidence=0.75)])
    talk.say(AUDIO, RESET)
    words = [word("one", 1.0, conf=None), word("two", 1.25, conf=None)]
    first, second = talk.heard()
    assert first == {"alternatives": [{"text": "one two", "confidence": 0.75, "result": words}]}
    assert second["alternatives"][0]["confidence"] == 0.5
    talk.say('{"config":{"max_alternatives":1, "words":0}}', EOF)
    assert talk.heard() == [{"alternatives": [{"text": "", "confidence": 1.0}]}]


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "close_code", "error"),
    [
        ("hello", "invalid_json", 1007, "text messages carry one JSON object each"),
        ("[" * 100_000, "invalid_message", 1007, "Expected `object`, got `array`"),
        ("[]", "invalid_message", 1007, "Expected `object`, got `array`"),
        ('{"audio":1}', "invalid_message", 1007, "a message has none of the known fields"),
        ('{"config":[]}', "invalid_message", 1007, "Expected `object`, got `array` - at `$.config`"),
        ('{"config":{"sample_rate":"fast"}}', "invalid_message", 1007, "`config.sample_rate` is 'fast'"),
        ('{"config":{"sample_rate":"nan"}}', "invalid_message", 1007, "`config.sample_rate` is 'nan'"),
        ('{"config":{"sample_rate":"inf"}}', "invalid_message", 1007, "`config.sample_rate` is 'inf'"),
        ('{"config":{"max_alternatives":[]}}', "invalid_message", 1007, "`config.max_alternatives` is []"),
        ('{"config":{"sample_rate":16000}}', "unsupported", 1003, "the rate is 8000 and cannot change after the first"),
        ('{"eof":0}', "invalid_message", 1007, "`eof` is 0"),
        ('{"reset":false}', "invalid_message", 1007, "`reset` is False"),
    ],
)
def test_wrong_messages_lose_no_audio(text: str, code: str, close_code: int, error: str) -> None:
    talk = Talk(Vosk)
    talk.say(AUDIO)
    assert talk.heard() == [{"partial": ""}]
    talk.say(text, AUDIO, EOF)
    result, last = talk.heard()
    assert result["text"] == expected_texts(AUDIO)[0]
    assert (last["code"], talk.close_code) == (code, close_code)
    assert last["error"].startswith(error)


def test_audio_after_the_end() -> None:
    talk = Talk(Vosk)
    talk.say(AUDIO)
    talk.stream.hold_end = True
    talk.heard()
    talk.say(EOF, AUDIO)
    talk.tell([said(0, "one"), ev.SessionEnded(1.0)])
    result, last = talk.heard()
    assert (result["text"], last["error"], talk.close_code) == ("one", "audio after `eof`", 1002)


def test_a_rate_that_cannot_be_had() -> None:
    talk = Talk(Vosk)
    talk.say('{"config":{"sample_rate":4000}}', AUDIO)
    (last,) = talk.heard()
    assert (last["code"], talk.close_code) == ("unsupported", 1003)
    assert "allowed: whole numbers 8000 to 48000" in last["error"]


def test_no_room_for_another() -> None:
    talk = Talk(Vosk)
    talk.engine.refusal = CapacityError("the machine is busy")
    talk.say(AUDIO)
    assert talk.heard() == [{"error": "the machine is busy", "code": "capacity"}]
    assert talk.close_code == 1013


# --- over sockets ---------------------------------------------------------------------------------


async def transcribe(server: Server, audio: bytes, *, size: int, config: Message, path: str = "/vosk") -> list[Message]:
    """As test.py of vosk-server does: one reply is read for each message of audio, and one for the end."""
    async with connected(server, path) as websocket:
        await websocket.send(f'{{ "config" : {json.dumps(config)} }}')
        replies = []
        for piece in pieces(audio, size):
            await websocket.send(piece)
            replies.append(json.loads(await websocket.recv()))
        await websocket.send(EOF)
        replies.append(json.loads(await websocket.recv()))
        assert await all_of(websocket) == ([], 1000)
        return replies


def texts(replies: list[Message]) -> list[str]:
    return [reply["text"] for reply in replies if reply.get("text")]


@asynchronous
async def test_speech(engine: Engine, sample: NDArray[np.int16]) -> None:
    async with serving(engine) as server:
        replies = await transcribe(server, sample.tobytes(), size=6400, config={"sample_rate": 16000})
    assert texts(replies) == PLAIN
    assert any(reply.get("partial", "").startswith("enter one") for reply in replies)
    for reply in replies:
        if reply.get("result"):
            assert " ".join(word["word"] for word in reply["result"]) == reply["text"]
            assert all(word["start"] < word["end"] and 0 < word["conf"] <= 1 for word in reply["result"])


@asynchronous
async def test_any_cut_gives_the_same_words(engine: Engine, sample: NDArray[np.int16]) -> None:
    results = []
    async with serving(engine) as server:
        for size in (3001, 6400, 200_000):
            replies = await transcribe(server, sample[: 4 * 16000].tobytes(), size=size, config={"sample_rate": 16000})
            results.append([word for reply in replies for word in reply.get("result", ())])
    assert " ".join(word["word"] for word in results[0]) == PLAIN[0]
    assert results[1:] == results[:1] * 2


@asynchronous
async def test_a_client_that_does_not_wait_for_replies_gets_as_many(engine: Engine, sample: NDArray[np.int16]) -> None:
    audio = sample[: 4 * 16000].tobytes()
    async with serving(engine) as server, connected(server, "/vosk") as websocket:
        listening = asyncio.create_task(all_of(websocket))
        await speak(websocket, {"config": {"sample_rate": 16000, "words": False}}, audio, RESET, audio, EOF, size=6400)
        sent, code = await listening
    replies = [json.loads(each) for each in sent]
    assert len(replies) == 2 * len(list(pieces(audio, 6400))) + 2
    assert texts(replies) == [PLAIN[0]] * 2
    assert code == 1000


@asynchronous
async def test_finals_come_from_a_server_that_stops(engine: Engine, sample: NDArray[np.int16]) -> None:
    async with serving(engine, drain_timeout=20, close_timeout=5) as server, connected(server, "/vosk") as websocket:
        await speak(websocket, {"config": {"sample_rate": 16000}}, sample[: 3 * 16000].tobytes())
        await until(lambda: bool(server._admission.open) and server._admission.open[0].seconds == 3)
        closing = asyncio.create_task(server.close())
        sent, code = await all_of(websocket)
        await closing
    *_, result, last = [json.loads(each) for each in sent]
    assert result["text"].startswith("enter one")
    assert (last["code"], code) == ("shutting_down", 1001)


@asynchronous
async def test_a_silent_client_gets_its_words_and_an_error() -> None:
    async with serving(FakeEngine(), idle_timeout=0.2) as server, connected(server, "/vosk") as websocket:
        await websocket.send(AUDIO)
        sent, code = await all_of(websocket)
    partial, result, last = [json.loads(each) for each in sent]
    assert (partial, result["text"]) == ({"partial": ""}, expected_texts(AUDIO)[0])
    assert (last["code"], code) == ("idle_timeout", 1008)


@asynchronous
async def test_a_port_of_its_own() -> None:
    settings: dict[str, Any] = {"listen": ("vosk=0",)}
    async with serving(FakeEngine(), **settings) as server:
        server.port = server.ports["vosk"]
        replies = await transcribe(server, AUDIO, size=len(AUDIO), config={}, path="/")
    assert texts(replies) == expected_texts(AUDIO)
