"""Clients of sherpa-onnx: messages by hand, then real speech over sockets."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.errors import CapacityError
from parastream.server.protocols.base import OneByOne
from parastream.server.protocols.sherpa import Sherpa
from parastream.server.wire.messages import Final, Partial
from parastream.streaming import AudioFormat, Encoding, Engine
from parastream.streaming import events as ev

from ...conftest import SAMPLE_TEXTS
from ...waiting import until
from ..fakes import FakeEngine, asynchronous, expected_texts, serving
from .talking import Message, Talk, all_of, connected, hears, said, speak

DONE = "Done"
AUDIO = b"ab" * 700


def short(message: Message) -> tuple[int, str, bool]:
    return message["segment"], message["text"], message["is_final"]


# --- by hand --------------------------------------------------------------------------------------


def test_segments() -> None:
    talk = Talk(Sherpa)
    talk.say(AUDIO)
    talk.stream.hold_end = True
    assert talk.stream.config.format == AudioFormat(Encoding.F32LE, 16000)
    word = ev.Word("one", 1.1, 1.5, 0.25)
    talk.tell([ev.Partial(0, 1.0, 2.0, "", "one", (word,))])
    assert talk.heard() == [
        {
            "text": "one",
            "tokens": ["one"],
            "timestamps": [0.1],
            "ys_probs": [-1.3863],
            "lm_probs": [],
            "context_scores": [],
            "segment": 0,
            "words": [],
            "start_time": 1.0,
            "is_final": False,
        }
    ]
    talk.tell([hears(0, "one", " two"), said(0, "One, two.")])
    (final,) = talk.heard()  # the partial gave way
    assert short(final) == (0, "One, two.", True)
    assert (final["tokens"], final["timestamps"]) == (["One,", " two."], [0.0, 0.25])
    talk.tell([hears(1, "three"), said(1, ""), hears(2, "four")])
    assert [short(each) for each in talk.heard()] == [(1, "", True), (2, "four", False)]
    talk.say(DONE)
    talk.tell([said(2, "Four."), ev.SessionEnded(9.0)])
    last, done = talk.raw()
    assert short(json.loads(last)) == (2, "Four.", True)
    assert (done, talk.close_code) == ("Done!", 1000)


def test_tokens_make_up_the_text() -> None:
    talk = Talk(Sherpa)
    talk.say(AUDIO)
    words = tuple(ev.Word(text, 1.0, 2.0, 1.0) for text in ("你", "好，", "hello", "世", "界"))
    talk.tell([ev.Final(0, 1.5, 2.0, "你好， hello 世界", words, 1.0)])
    (final,) = talk.heard()
    assert final["tokens"] == ["你", "好，", " hello", " 世", "界"]
    assert final["timestamps"] == [0.0] * 5


def test_a_segment_is_told_of_after_the_one_before_it() -> None:
    talk = Talk(Sherpa)
    talk.say(AUDIO)
    talk.tell([hears(0, "one"), hears(1, "two"), hears(1, "two", " three"), said(0, "One.")])
    assert [short(each) for each in talk.heard()] == [(0, "One.", True), (1, "two three", False)]


@pytest.mark.parametrize("audio", [b"", AUDIO])
def test_nothing_said(audio: bytes) -> None:
    talk = Talk(Sherpa)
    if audio:
        talk.say(audio)
        talk.stream.hold_end = True
    talk.say(DONE, DONE)
    if audio:
        talk.tell([ev.SessionEnded(1.0)])
    empty, done = talk.raw()
    assert short(json.loads(empty)) == (0, "", True)
    assert (done, talk.close_code) == ("Done!", 1000)


@pytest.mark.parametrize("text", ["done", "", "{}", "x" * 1000])
def test_other_texts_lose_no_audio(text: str) -> None:
    talk = Talk(Sherpa)
    talk.say(AUDIO, text, AUDIO, DONE)
    *_, final, error = talk.heard()
    assert short(final) == (0, expected_texts(AUDIO)[0], True)
    assert error == {
        "text": "",
        "segment": 1,
        "is_final": True,
        "code": "unexpected_message",
        "error": f"text {text!r}" if len(text) < 80 else f"text '{'x' * 80}…'",
        "allowed": ["Done"],
    }
    assert talk.close_code == 1002


def test_audio_after_the_end() -> None:
    talk = Talk(Sherpa)
    talk.say(AUDIO)
    talk.stream.hold_end = True
    talk.say(DONE, AUDIO)
    talk.tell([said(0, "one"), ev.SessionEnded(1.0)])
    final, error = talk.heard()
    assert (final["text"], error["error"], talk.close_code) == ("one", "audio after `Done`", 1002)


def test_no_room_for_another() -> None:
    talk = Talk(Sherpa)
    talk.engine.refusal = CapacityError("the machine is busy")
    talk.say(AUDIO)
    (error,) = talk.heard()
    assert (error["code"], error["error"], talk.close_code) == ("capacity", "the machine is busy", 1013)


def test_one_by_one() -> None:
    """Partials of utterances that are not yet to be told of wait, the newest of each."""

    def partial(utterance: int, stable: str) -> Partial:
        return Partial(utterance, 0.0, 1.0, stable, "", ())

    def final(utterance: int) -> Final:
        return Final(utterance, 0.0, 1.0, "", (), 0.0)

    order = OneByOne()
    assert order.order(partial(0, "a")) == [partial(0, "a")]
    assert order.order(partial(1, "b")) == []
    assert order.order(partial(2, "c")) == []
    assert order.order(partial(1, "bb")) == []
    assert order.order(final(0)) == [final(0), partial(1, "bb")]
    assert order.order(final(1)) == [final(1), partial(2, "c")]
    assert order.order(final(2)) == [final(2)]
    assert order.order(final(3)) == [final(3)]


# --- over sockets ---------------------------------------------------------------------------------


def floats(samples: NDArray[np.int16]) -> bytes:
    return (samples.astype(np.float32) / 32768).tobytes()


class Page:
    """What sherpa-onnx's web page shows: the newest text of each segment, which come in order."""

    def __init__(self, sent: list[str]) -> None:
        *messages, self.last = sent
        self.messages: list[Message] = [json.loads(each) for each in messages]
        self.segments: list[str] = []
        self.finals: list[str] = []
        for message in self.messages:
            assert message["segment"] in (len(self.finals), len(self.segments) - 1)
            if message["segment"] == len(self.segments):
                self.segments.append("")
            self.segments[message["segment"]] = message["text"]
            if message["is_final"]:
                self.finals.append(message["text"])


@pytest.mark.parametrize("size", [200, 3201, 32_000, 400_000])
def test_speech_however_it_is_cut(engine: Engine, sample: NDArray[np.int16], size: int) -> None:
    @asynchronous
    async def run() -> None:
        async with serving(engine) as server, connected(server, "/sherpa") as websocket:
            listening = asyncio.create_task(all_of(websocket))
            await speak(websocket, floats(sample if size == 32_000 else sample[: 9 * 16000]), DONE, size=size)
            sent, code = await listening
        page = Page(sent)
        assert page.segments == page.finals == SAMPLE_TEXTS[: 3 if size == 32_000 else 2]
        assert (page.last, code) == ("Done!", 1000)
        assert any(not message["is_final"] for message in page.messages)
        for message in page.messages:
            assert "".join(message["tokens"]) == message["text"]
            assert message["timestamps"] == sorted(message["timestamps"])

    run()


@asynchronous
async def test_finals_come_from_a_server_that_stops(engine: Engine, sample: NDArray[np.int16]) -> None:
    async with serving(engine, drain_timeout=20, close_timeout=5) as server, connected(server, "/sherpa") as websocket:
        await speak(websocket, floats(sample[: 3 * 16000]))
        await until(lambda: bool(server._admission.open) and server._admission.open[0].seconds == 3)
        closing = asyncio.create_task(server.close())
        sent, code = await all_of(websocket)
        await closing
    page = Page(sent)
    assert page.finals[0].startswith("Enter one")
    assert (json.loads(page.last)["code"], code) == ("shutting_down", 1001)


@asynchronous
async def test_sixteen_bit_samples_by_mistake_are_an_error(engine: Engine, sample: NDArray[np.int16]) -> None:
    async with serving(engine) as server, connected(server, "/sherpa") as websocket:
        listening = asyncio.create_task(all_of(websocket))
        await speak(websocket, sample[16000:18000].tobytes(), DONE)
        sent, code = await listening
    error = json.loads(sent[-1])
    assert (error["code"], code) == ("invalid_audio", 1007)
    assert "float samples must be finite" in error["error"]


@asynchronous
async def test_a_silent_client_gets_its_words_and_an_error() -> None:
    async with serving(FakeEngine(), idle_timeout=0.2) as server, connected(server, "/sherpa") as websocket:
        await websocket.send(AUDIO)
        sent, code = await all_of(websocket)
    page = Page(sent)
    assert page.finals == expected_texts(AUDIO)
    assert (json.loads(page.last)["code"], code) == ("idle_timeout", 1008)


@asynchronous
async def test_a_port_of_its_own() -> None:
    async with serving(FakeEngine(), listen=("sherpa=0",)) as server:
        server.port = server.ports["sherpa"]
        async with connected(server, "/") as websocket:
            await speak(websocket, AUDIO, DONE)
            sent, code = await all_of(websocket)
    assert Page(sent).finals == expected_texts(AUDIO)
    assert (sent[-1], code) == ("Done!", 1000)
