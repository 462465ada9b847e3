"""Deepgram live, by hand and with Deepgram's own client; every message is checked against Deepgram's own types."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import uuid
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model.errors import CapacityError, EngineError
from parastream.model.hotwords import Hotword
from parastream.server.app import Server
from parastream.server.protocols.deepgram.adapter import Deepgram
from parastream.server.routes import parse
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import Encoding, Engine
from parastream.streaming import events as ev
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ...conftest import SAMPLE_TEXTS
from ...waiting import until
from ..fakes import UTTERANCE, FakeEngine, FakeStream, admission, asynchronous, expected_texts, serving

with warnings.catch_warnings():  # it speaks through a part of websockets that will go
    warnings.filterwarnings("ignore", r"websockets\.", DeprecationWarning)
    from deepgram import AsyncDeepgramClient
    from deepgram.core.api_error import ApiError
    from deepgram.environment import DeepgramClientEnvironment
    from deepgram.listen.v1.client import AsyncV1Client  # noqa: F401 - the client would import it when it is used
    from deepgram.listen.v1.socket_client import AsyncV1SocketClient
    from deepgram.listen.v1.types import (
        ListenV1Configure,
        ListenV1ConfigureFailure,
        ListenV1ConfigureSuccess,
        ListenV1Error,
        ListenV1Metadata,
        ListenV1Results,
        ListenV1SpeechStarted,
        ListenV1UtteranceEnd,
    )

RAW = "encoding=linear16&sample_rate=16000"
TYPES: dict[str, Any] = {
    "Results": ListenV1Results,
    "Metadata": ListenV1Metadata,
    "SpeechStarted": ListenV1SpeechStarted,
    "UtteranceEnd": ListenV1UtteranceEnd,
    "Error": ListenV1Error,
    "ConfigureSuccess": ListenV1ConfigureSuccess,
    "ConfigureFailure": ListenV1ConfigureFailure,
}

Message = dict[str, Any]


def said(utterance: int, start: float, end: float, *words: str, reason: ev.EndReason = "silence") -> list[ev.Event]:
    """The end of an utterance, its last word a tenth of a second before it."""
    spoken = tuple(ev.Word(word, start, end - 0.1, 0.9) for word in words)
    confidence = 0.9 if words else 0.0
    final = ev.Final(utterance, start, end, " ".join(words), spoken, confidence)
    return [ev.SpeechEnded(utterance, end, reason), final]


class Talk:
    """A conversation with a scripted engine."""

    def __init__(self, query: str = RAW, **settings: Any) -> None:
        self.engine = FakeEngine()
        max_unsent = settings.pop("max_unsent", 1000)
        recognizes = admission(self.engine, **settings)
        self.adapter = Deepgram(recognizes, parse(f"/v1/listen?{query}"), name="test", max_unsent=max_unsent)
        self.adapter.start()

    @property
    def stream(self) -> FakeStream:
        return self.engine.streams[0]

    def send(self, audio: bytes) -> None:
        self.adapter.receive(audio)

    def say(self, type: str, **fields: Any) -> None:
        self.adapter.receive(json.dumps({"type": type, **fields}))

    def sent(self) -> list[Message]:
        """What was sent since the last call; each of it is a message of Deepgram's."""
        sent = []
        while (message := self.adapter.take()) is not None:
            sent.append(json.loads(message))
        for one in sent:
            TYPES[one["type"]].model_validate(one, strict=True)
        return sent


def kinds(sent: Sequence[Message]) -> list[str]:
    return [message["type"] for message in sent]


def results(sent: Sequence[Message], *, final: bool = True) -> list[Message]:
    return [message for message in sent if message["type"] == "Results" and message["is_final"] == final]


def transcripts(sent: Sequence[Message], *, final: bool = True) -> list[str]:
    return [message["channel"]["alternatives"][0]["transcript"] for message in results(sent, final=final)]


# --- the query ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "encoding", "rate", "channels"),
    [
        ("encoding=linear16&sample_rate=24000", Encoding.S16LE, 24000, 1),
        ("encoding=linear32&sample_rate=48000&channels=2", Encoding.F32LE, 48000, 2),
        ("encoding=mulaw", Encoding.MULAW, 8000, 1),
        ("encoding=alaw&sample_rate=16000&model=nova-3&language=de", Encoding.ALAW, 16000, 1),
    ],
)
def test_formats(query: str, encoding: Encoding, rate: int, channels: int) -> None:
    format = Talk(query).stream.config.format
    assert (format.encoding, format.rate, format.channels) == (encoding, rate, channels)
    assert format.channel == ("mix" if channels > 1 else 0)


def test_what_is_not_asked_for_is_off() -> None:
    config = Talk(RAW).stream.config
    assert (config.partials, config.punctuate) == (False, False)
    assert config.endpoint.min_silence == 0.6
    config = Talk(RAW + "&interim_results=true&smart_format=True").stream.config
    assert (config.partials, config.punctuate) == (True, True)
    assert Talk(RAW + "&punctuate=true").stream.config.punctuate


@pytest.mark.parametrize(("query", "itn"), [("", False), ("&numerals=true", True), ("&smart_format=true", True)])
def test_numbers_are_written_where_a_client_asks_for_it(query: str, itn: bool) -> None:
    assert Talk(RAW + query).stream.config.itn == itn


def test_swear_words_are_masked_where_a_client_asks_for_it() -> None:
    rules = [Talk(RAW + query).stream.config.replacements for query in ("", "&profanity_filter=true")]
    assert [[each.text for each in rule.apply(["shit"])[0]] for rule in rules] == [["shit"], ["s***"]]


def test_signs_of_numbers_belong_to_plain_words() -> None:
    talk = Talk(RAW + "&numerals=true")
    talk.stream.tell([ev.SpeechStarted(0, 0.5), *said(0, 0.5, 2.0, "$25,", "-5", "(35%)")])
    (result,) = results(talk.sent())
    assert [word["word"] for word in result["channel"]["alternatives"][0]["words"]] == ["$25", "-5", "35%"]


@pytest.mark.parametrize(
    ("query", "silence"),
    [
        ("endpointing=10", 0.3),
        ("endpointing=25", 0.3),  # livekit's default
        ("endpointing=300", 0.3),
        ("endpointing=60000", 10.0),
        ("endpointing=true", 0.6),
        ("endpointing=false", 0.6),
        ("endpointing=5000&interim_results=true&utterance_end_ms=1000", 1.0),
        ("endpointing=300&interim_results=true&utterance_end_ms=1000", 0.3),
        ("interim_results=true&utterance_end_ms=1000", 0.6),
    ],
)
def test_endpointing(query: str, silence: float) -> None:
    assert Talk(f"{RAW}&{query}").stream.config.endpoint.min_silence == silence


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("encoding=amr-nb&sample_rate=8000", "encoding 'amr-nb' is not supported"),
        ("encoding=linear16", "encoding=linear16 needs a sample_rate"),
        ("encoding=linear16&sample_rate=4000", "audio rate 4000 is not supported"),
        ("encoding=linear16&sample_rate=16k", "sample_rate=16k is not supported; allowed: Hz"),
        ("encoding=linear16&sample_rate=-16000", "sample_rate=-16000 is not supported"),
        ("encoding=linear16&sample_rate=16000&channels=9", "audio channels 9 is not supported"),
        ("encoding=linear16&sample_rate=16000&channels=", "channels= is not supported"),
        ("encoding=linear16&sample_rate=" + "9" * 10_000, "is not supported"),
        ("interim_results=yes", "interim_results=yes is not supported"),
        ("multichannel=2", "multichannel=2 is not supported"),
        ("endpointing=-1", "endpointing=-1 is not supported; allowed: milliseconds, true or false"),
        ("endpointing=fast", "endpointing=fast is not supported"),
        (
            "interim_results=true&utterance_end_ms=999",
            "utterance_end_ms=999 is not supported; allowed: milliseconds from",
        ),
        ("interim_results=true&utterance_end_ms=", "utterance_end_ms= is not supported"),
        ("utterance_end_ms=1000", "utterance_end_ms needs interim_results=true"),
        ("callback=https://example.org", "callback is not supported"),
        ("redact=pci", "redact is not supported"),
    ],
)
def test_what_cannot_be_asked_for(query: str, message: str) -> None:
    with pytest.raises(RefusalError, match=message) as caught:
        Deepgram.check(parse(f"/v1/listen?{query}"))
    assert caught.value.error.code == "unsupported"


@pytest.mark.parametrize(
    "query",
    ["", "model=nova-3&diarize=true&numerals=true&keyterm=a&keyterm=b&keywords=c:2&tag=x&redact=false", "whatever=1"],
)
def test_what_is_ignored(query: str) -> None:
    Deepgram.check(parse(f"/v1/listen?{query}"))


@asynchronous
async def test_a_refused_request_is_answered_as_deepgram_would() -> None:
    async with serving(FakeEngine()) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{server.port}/v1/listen?encoding=amr-nb&sample_rate=8000")
    assert refused.value.response.status_code == 400
    body = json.loads(refused.value.response.body)
    assert body["err_code"] == "Bad Request"
    assert body["err_msg"].startswith("Bad Request: encoding 'amr-nb' is not supported")
    assert body["err_msg"].endswith("allowed: linear16, linear32, mulaw, alaw, opus, ogg-opus, flac, mp3, aac")
    assert uuid.UUID(body["request_id"])
    assert (body["code"], body["allowed"]) == (
        "unsupported",
        ["linear16", "linear32", "mulaw", "alaw", "opus", "ogg-opus", "flac", "mp3", "aac"],
    )
    headers = refused.value.response.headers
    assert headers["dg-request-id"] == body["request_id"]
    assert headers["dg-error"].startswith("encoding 'amr-nb' is not supported")
    assert headers["dg-error"].endswith("allowed: linear16, linear32, mulaw, alaw, opus, ogg-opus, flac, mp3, aac")


@asynchronous
async def test_the_headers_of_every_refusal_say_why() -> None:
    async with serving(FakeEngine(), token="secret") as server:
        for query, status in (("", 401), ("&token=secret&encoding=opus%0D%0A会", 400)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{server.port}/v1/listen?x=1{query}")
            response = refused.value.response
            assert response.status_code == status
            assert response.headers["dg-error"].isascii()
            assert uuid.UUID(response.headers["dg-request-id"])


# --- results -----------------------------------------------------------------------------------------


def test_each_utterance_has_one_final_result() -> None:
    talk = Talk(RAW + "&interim_results=true&vad_events=true")
    audio = b"ab" * UTTERANCE
    talk.send(audio)
    sent = talk.sent()
    assert kinds(sent) == ["SpeechStarted", "Results", "SpeechStarted", "Results", "Results"]  # newest interim only
    assert [message["timestamp"] for message in sent if message["type"] == "SpeechStarted"] == [0.0, 0.1]
    assert transcripts(sent) == expected_texts(audio)
    final = results(sent)[1]
    assert (final["start"], final["duration"], final["channel_index"]) == (0.1, 0.1, [0, 1])
    assert (final["speech_final"], final["from_finalize"]) == (True, False)
    (alternative,) = final["channel"]["alternatives"]
    word = expected_texts(audio)[1]
    assert alternative["confidence"] == 0.5
    assert alternative["words"] == [{"word": word, "start": 0.1, "end": 0.2, "confidence": 0.5}]
    assert final["metadata"]["model_info"]["name"] == "scripted"
    talk.say("CloseStream")
    (metadata,) = talk.sent()
    assert metadata["type"] == "Metadata"
    assert metadata["request_id"] == final["metadata"]["request_id"]
    assert metadata["sha256"] == hashlib.sha256(audio).hexdigest()
    assert (metadata["duration"], metadata["channels"]) == (0.2, 1)
    assert metadata["created"].endswith("Z")
    assert talk.adapter.ending == (1000, "")


def test_an_interim_result_is_the_whole_text_so_far() -> None:
    talk = Talk(RAW + "&interim_results=true&punctuate=true")
    words = (ev.Word("one", 0.0, 0.4, 0.8), ev.Word("two", 0.4, 0.8, 0.6))
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.Partial(0, 0.0, 0.6, "one", " tw", words[:1])])
    talk.stream.tell([ev.Partial(0, 0.0, 0.9, "one", " two", words)])
    (interim,) = talk.sent()
    assert (interim["is_final"], interim["speech_final"], interim["duration"]) == (False, False, 0.9)
    (alternative,) = interim["channel"]["alternatives"]
    assert (alternative["transcript"], alternative["confidence"]) == ("one two", 0.7)
    assert alternative["words"][1]["punctuated_word"] == "two"


def test_words_are_plain_and_marked() -> None:
    talk = Talk(RAW + "&smart_format=true")
    marked = ("GMEF,", "don't.", "—", "今", "？")
    talk.stream.tell([ev.SpeechStarted(0, 0.0), *said(0, 0.0, 1.0, *marked)])
    words = talk.sent()[0]["channel"]["alternatives"][0]["words"]
    assert [word["punctuated_word"] for word in words] == list(marked)
    assert [word["word"] for word in words] == ["gmef", "don't", "—", "今", "？"]


def test_an_interim_result_waits_for_the_final_one_before() -> None:
    talk = Talk(RAW + "&interim_results=true")
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.SpeechStarted(1, 1.0), ev.Partial(1, 1.0, 2.0, "", "two", ())])
    assert talk.sent() == []
    talk.stream.tell([*said(0, 0.0, 1.0, "one"), ev.Partial(1, 1.0, 2.1, "", "two", ())])
    assert [message["is_final"] for message in talk.sent()] == [True, False]


def test_an_utterance_that_was_cut_is_not_the_end_of_speech() -> None:
    talk = Talk()
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.SpeechStarted(1, 17.5), *said(0, 0.0, 17.5, "long", reason="cut")])
    talk.stream.tell([ev.SpeechStarted(2, 18.0), *said(1, 17.5, 18.0, "short"), *said(2, 18.0, 19.0)])
    assert [message["speech_final"] for message in results(talk.sent())] == [False, True, True]


def test_an_utterance_that_was_cut_is_not_the_end_of_speech_even_while_finalize_waits() -> None:
    talk = Talk()
    talk.stream.flush = lambda: None  # type: ignore[method-assign]
    talk.say("Finalize")
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.SpeechStarted(1, 17.5), *said(0, 0.0, 17.5, "long", reason="cut")])
    talk.stream.tell([*said(1, 17.5, 18.0, "short", reason="flush"), ev.Flushed(18.0)])
    told = [(message["speech_final"], message["from_finalize"]) for message in results(talk.sent())]
    assert told == [(False, False), (True, True)]


def test_a_long_utterance_that_silence_ended_is_the_end_of_speech_even_if_the_next_follows_at_once() -> None:
    talk = Talk(RAW + "&endpointing=300")
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.SpeechStarted(1, 15.0), *said(0, 0.0, 15.0, "long")])
    assert [message["speech_final"] for message in results(talk.sent())] == [True]


def test_without_endpointing_no_result_is_the_end_of_speech() -> None:
    talk = Talk(RAW + "&endpointing=false")
    talk.send(b"x" * (UTTERANCE + 100))
    talk.say("Finalize")
    assert [(m["speech_final"], m["from_finalize"]) for m in results(talk.sent())] == [(False, False), (True, True)]


# --- Finalize ----------------------------------------------------------------------------------------


def test_finalize_ends_what_is_being_said() -> None:
    talk = Talk()
    talk.send(b"x" * 100)
    assert talk.sent() == []
    talk.say("Finalize")
    (final,) = talk.sent()
    assert (final["from_finalize"], final["speech_final"], final["is_final"]) == (True, True, True)
    assert transcripts([final]) == expected_texts(b"x" * 100)
    talk.send(b"x" * 100)
    talk.say("Finalize")
    assert len(transcripts(talk.sent())) == 1


def test_finalize_is_always_answered() -> None:
    talk = Talk()
    talk.say("Finalize")
    (empty,) = talk.sent()
    assert (empty["from_finalize"], empty["start"], empty["duration"]) == (True, 0.0, 0.0)
    talk.send(b"x" * UTTERANCE)
    talk.say("Finalize", channel=0)
    final, empty = talk.sent()
    assert (final["from_finalize"], transcripts([empty])) == (False, [""])
    assert (empty["from_finalize"], empty["start"], empty["duration"]) == (True, 0.1, 0.0)


def test_the_last_result_before_the_answer_is_the_answer() -> None:
    talk = Talk()
    talk.stream.flush = lambda: None  # type: ignore[method-assign]
    talk.say("Finalize")
    talk.stream.tell([ev.SpeechStarted(0, 0.0), *said(0, 0.0, 1.0, "one"), ev.SpeechStarted(1, 2.0)])
    talk.stream.tell(said(1, 2.0, 3.0, "two"))
    talk.stream.tell([ev.Flushed(3.0), ev.SpeechStarted(2, 4.0), *said(2, 4.0, 5.0, "three")])
    sent = talk.sent()
    assert transcripts(sent) == ["one", "two", "three"]
    assert [message["from_finalize"] for message in sent] == [False, True, False]


# --- UtteranceEnd ------------------------------------------------------------------------------------

ENDS = RAW + "&interim_results=true&utterance_end_ms=1000"


def test_an_utterance_ends_when_no_word_follows() -> None:
    talk = Talk(ENDS)
    talk.stream.tell([ev.SpeechStarted(0, 0.2), *said(0, 0.2, 1.1, "one")])
    assert kinds(talk.sent()) == ["Results"]
    told = []
    for settled in (1.5, 1.9, 2.0, 2.5):  # the last word ends at 1.0
        talk.stream.tell([ev.Progress(settled + 0.1, settled)])
        told.append(talk.sent())
    assert told == [[], [], [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.0}], []]


def test_an_utterance_does_not_end_in_what_may_turn_out_to_be_speech() -> None:
    talk = Talk(ENDS)
    talk.stream.tell([ev.SpeechStarted(0, 0.2), *said(0, 0.2, 1.1, "one"), ev.Progress(2.05, 1.95)])
    talk.stream.tell([ev.SpeechStarted(1, 1.65), ev.Progress(9.0, 9.0), *said(1, 1.65, 9.0, "two")])
    assert kinds(talk.sent()) == ["Results", "Results"]


def test_an_utterance_ends_before_the_next_begins() -> None:
    talk = Talk(ENDS)
    talk.stream.tell([ev.SpeechStarted(0, 0.0), *said(0, 0.0, 1.1, "one")])
    talk.stream.tell([ev.SpeechStarted(1, 1.6)])  # heard from 1.9 on
    assert kinds(talk.sent()) == ["Results"]
    talk.stream.tell([*said(1, 1.6, 2.1, "two"), ev.SpeechStarted(2, 2.7), *said(2, 2.7, 3.0)])
    assert kinds(talk.sent()) == ["Results", "UtteranceEnd", "Results"]


def test_an_utterance_ends_when_its_result_comes_late() -> None:
    talk = Talk(ENDS)
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.SpeechStarted(1, 3.0), *said(0, 0.0, 1.1, "one")])
    assert kinds(talk.sent()) == ["Results", "UtteranceEnd"]


def test_closing_tells_of_ends() -> None:
    talk = Talk(ENDS)
    talk.stream.tell([ev.SpeechStarted(0, 0.0), *said(0, 0.0, 1.1, "one"), ev.Progress(3.0, 3.0)])
    assert kinds(talk.sent()) == ["Results", "UtteranceEnd"]
    talk.stream.tell([ev.SpeechStarted(1, 3.0), *said(1, 3.0, 3.1, "two")])
    talk.say("CloseStream")
    talk.adapter.receive(b"ignored")
    sent = talk.sent()
    assert kinds(sent) == ["Results", "Metadata"]
    talk = Talk(ENDS)
    talk.stream.tell([ev.SpeechStarted(0, 0.0), *said(0, 0.0, 1.1, "one"), ev.SessionEnded(5.0)])
    assert kinds(talk.sent()) == ["Results", "UtteranceEnd", "Metadata"]


# --- channels ----------------------------------------------------------------------------------------


def test_each_channel_has_its_results() -> None:
    talk = Talk("encoding=linear16&sample_rate=16000&channels=2&multichannel=true&vad_events=true")
    left, right = talk.engine.streams
    assert (left.config.format.channel, right.config.format.channel) == (0, 1)
    left.tell([ev.SpeechStarted(0, 0.0)])
    right.tell([ev.SpeechStarted(0, 0.5), *said(0, 0.5, 1.0, "right")])
    left.tell(said(0, 0.0, 2.0, "left"))
    sent = talk.sent()
    assert [message.get("channel_index", message["channel"]) for message in sent] == [[0, 2], [1, 2], [1, 2], [0, 2]]
    assert transcripts(sent) == ["right", "left"]
    talk.say("Finalize")
    answers = talk.sent()
    assert [message["channel_index"] for message in answers] == [[0, 2], [1, 2]]
    assert all(message["from_finalize"] for message in answers)
    talk.say("CloseStream")
    assert talk.sent()[-1]["channels"] == 2


def test_without_multichannel_all_channels_are_mixed() -> None:
    talk = Talk("encoding=linear16&sample_rate=16000&channels=2")
    assert len(talk.engine.streams) == 1
    assert (talk.stream.config.format.channels, talk.stream.config.format.channel) == (2, "mix")


# --- WAV ---------------------------------------------------------------------------------------------


def wav(samples: NDArray[Any], rate: int, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("subtype", "encoding"),
    [
        ("PCM_16", Encoding.S16LE),
        ("FLOAT", Encoding.F32LE),
        ("ULAW", Encoding.MULAW),
        ("ALAW", Encoding.ALAW),
    ],
)
def test_a_wav_header_says_what_the_audio_is(subtype: str, encoding: Encoding) -> None:
    file = wav(np.zeros((800, 2)), 8000, subtype)
    talk = Talk("multichannel=true&sample_rate=96000")
    for byte in range(0, len(file), 7):
        talk.send(file[byte : byte + 7])
    assert len(talk.engine.streams) == 2
    format = talk.stream.config.format
    assert (format.encoding, format.rate, format.channels) == (encoding, 8000, 2)
    assert len(talk.stream.audio) == 800 * format.frame_bytes
    talk.say("CloseStream")
    assert talk.sent()[-1]["sha256"] == hashlib.sha256(file).hexdigest()


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (b"raw " + bytes(20), "the audio has no WAV header, and is no WebM"),
        (wav(np.zeros(800), 8000, "IMA_ADPCM"), "format 17 with 4 bits"),
        (wav(np.zeros(800), 96000, "PCM_16"), "a WAV header says: audio rate 96000 is not supported"),
    ],
)
def test_audio_that_cannot_be_used(audio: bytes, message: str) -> None:
    talk = Talk("")
    talk.send(audio)
    (error,) = talk.sent()
    assert error["type"] == "Error"
    assert error["code"] == "DATA-0000"
    assert message in error["description"]
    assert talk.adapter.ending is not None
    assert talk.adapter.ending[0] == 1008
    assert talk.adapter.ending[1].startswith("DATA-0000: ")


@pytest.mark.parametrize("beginning", [b"RIFF", b"\x1a\x45", b"raw"])
def test_before_it_is_known_what_audio_is_there_is_nothing_to_recognise(beginning: bytes) -> None:
    talk = Talk("")
    talk.send(beginning)
    talk.say("Finalize")
    (empty,) = talk.sent()
    assert empty["from_finalize"]
    talk.say("CloseStream")
    (metadata,) = talk.sent()
    assert (metadata["duration"], metadata["channels"]) == (0.0, 0)
    assert talk.adapter.ending == (1000, "")


# --- mistakes and ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"type":"Stop"}',
        '{"type":3}',
        '{"type":"Finalize","channel":"left"}',
        "[" * 100_000,
    ],
)
def test_a_text_message_that_cannot_be_read(text: str) -> None:
    talk = Talk()
    talk.send(b"x" * 100)
    talk.adapter.receive(text)
    error, final = talk.sent()
    assert (error["variant"], error["code"], error["message"]) == ("SchemaError", "DATA-0000", text[:80])
    assert transcripts([final]) == expected_texts(b"x" * 100)
    assert talk.adapter.ending is not None
    assert talk.adapter.ending[0] == 1008
    assert talk.adapter.ending[1].startswith("DATA-0000: ")


def test_keyterms_change_in_the_middle_of_a_session() -> None:
    talk = Talk(f"{RAW}&keyterm=New%20York&keywords=MLX:2")
    talk.send(b"x" * 100)
    talk.say("Configure", keyterms=["Nguyễn", "x" * 200])
    talk.say("Configure", features={"numerals": False, "diarize": False})
    talk.say("Configure", keyterms=[])
    answers = [message for message in talk.sent() if message["type"] == "ConfigureSuccess"]
    assert [answer.get("keyterms") for answer in answers] == [["Nguyễn"], None, []]
    keyword = Hotword("MLX", 2.0)
    assert talk.stream.expected == [(Hotword("New York"), keyword), (Hotword("Nguyễn"), keyword), (keyword,)]


def test_keyterms_change_before_it_is_known_what_the_audio_is() -> None:
    talk = Talk("keyterm=one")
    talk.say("Configure", keyterms=["two"])
    talk.send(wav(np.zeros(100, np.int16), 16000, "PCM_16"))
    assert talk.stream.expected == [(Hotword("two"),)]


@pytest.mark.parametrize(
    ("fields", "code", "description"),
    [
        ({"features": {"numerals": True}}, "CONFIGURE_INTERNAL_ERROR", "numerals: features cannot be changed"),
        ({"keyterms": ["a"], "features": {"any": True}}, "CONFIGURE_INTERNAL_ERROR", "any: features cannot"),
        ({"keyterms": ["a"] * 1001}, "CONFIGURE_KEYTERM_LIMIT_EXCEEDED", "1001 keyterms; allowed are 1000"),
    ],
)
def test_what_cannot_be_configured_changes_nothing(fields: Message, code: str, description: str) -> None:
    talk = Talk()
    talk.say("Configure", **fields)
    (failure,) = talk.sent()
    assert (failure["type"], failure["code"]) == ("ConfigureFailure", code)
    assert failure["description"].startswith(description)
    assert talk.stream.expected == [()]
    assert talk.adapter.listening


def test_an_empty_message_ends_the_stream() -> None:
    talk = Talk()
    talk.send(b"x" * 100)
    talk.adapter.receive(b"")
    assert not talk.adapter.listening
    assert kinds(talk.sent()) == ["Results", "Metadata"]


def test_bad_float_samples() -> None:
    talk = Talk("encoding=linear32&sample_rate=16000")
    talk.send(b"x" * 100)
    talk.stream.tell([ev.InputRejected("invalid_audio", "audio sample 3 is nan")])
    final, error = talk.sent()
    assert final["is_final"]
    assert (error["code"], error["description"]) == ("DATA-0000", "audio sample 3 is nan")


def test_no_room_for_another_session() -> None:
    engine = FakeEngine()
    engine.refusal = CapacityError("the machine is full")
    conversation = Deepgram(admission(engine), parse(f"/v1/listen?{RAW}"))
    conversation.start()
    assert json.loads(conversation.take() or b"")["description"] == "the machine is full"
    assert conversation.ending == (1013, "capacity: the machine is full")


@pytest.mark.parametrize("query", ["", RAW])
def test_a_model_that_is_still_being_loaded(query: str) -> None:
    engine = FakeEngine()
    engine.ready = False
    conversation = Deepgram(admission(engine), parse(f"/v1/listen?{query}"))
    conversation.start()
    conversation.receive(wav(np.zeros(800), 8000, "PCM_16"))
    assert json.loads(conversation.take() or b"")["code"] == "not_ready"
    assert conversation.ending is not None


def test_a_failing_engine() -> None:
    talk = Talk()
    talk.stream.failure = EngineError("the engine has stopped")
    talk.send(b"x")
    (error,) = talk.sent()
    assert (error["code"], error["description"]) == ("NET-0000", "the engine has stopped")
    assert talk.adapter.ending == (1011, "NET-0000: the engine has stopped")


def test_a_stopping_server_says_what_it_has_heard() -> None:
    talk = Talk()
    talk.stream.flush = lambda: None  # type: ignore[method-assign]
    talk.send(b"x" * 100)
    talk.say("Finalize")
    talk.adapter.admission.drain()  # type: ignore[attr-defined]
    final, error = talk.sent()
    assert transcripts([final]) == expected_texts(b"x" * 100)
    assert error["code"] == "shutting_down"
    assert talk.adapter.ending is not None
    assert talk.adapter.ending[0] == 1001


def test_a_client_that_never_reads_is_cut_off() -> None:
    talk = Talk(max_unsent=5)
    talk.send(b"x" * (10 * UTTERANCE))
    (error,) = talk.sent()
    assert error["code"] == "slow_client"
    assert talk.adapter.ending is not None
    assert talk.adapter.ending[0] == 1008


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 3 * UTTERANCE), max_size=12))
def test_how_audio_is_cut_does_not_matter(cuts: list[int]) -> None:
    audio = bytes(range(256)) * (3 * UTTERANCE // 256)
    bounds = sorted({0, *(min(cut, len(audio)) for cut in cuts), len(audio)})
    told = []
    for pieces in ([0, len(audio)], bounds):
        talk = Talk(RAW + "&interim_results=true&utterance_end_ms=1000")
        for first, last in pairwise(pieces):
            talk.send(audio[first:last])
        talk.say("CloseStream")
        told.append([result["channel"] for result in results(talk.sent())])
    assert told[0] == told[1]


# --- with Deepgram's client --------------------------------------------------------------------------


@asynccontextmanager
async def listening(server: Server, *, key: str = "any", **options: Any) -> AsyncIterator[AsyncV1SocketClient]:
    """A connection of Deepgram's client, for 16 kHz audio unless said otherwise."""
    url = f"127.0.0.1:{server.port}"
    environment = DeepgramClientEnvironment(
        base=f"http://{url}", production=f"ws://{url}", agent=f"ws://{url}", agent_rest=f"http://{url}"
    )
    options = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16000, **options}
    client = AsyncDeepgramClient(api_key=key, environment=environment)
    async with client.listen.v1.connect(**options) as connection:
        yield connection


async def send(connection: AsyncV1SocketClient, audio: bytes, size: int = 3200) -> None:
    for first in range(0, len(audio), size):
        await connection.send_media(audio[first : first + size])


async def rest(connection: AsyncV1SocketClient) -> list[Any]:
    """All messages until the server closes."""
    return [message async for message in connection]


async def until_result(connection: AsyncV1SocketClient, **attributes: Any) -> list[Any]:
    """Messages up to a result with some attributes."""
    heard: list[Any] = []
    while True:
        message = await connection.recv()
        heard.append(message)
        if message.type == "Results" and all(getattr(message, name) == value for name, value in attributes.items()):
            return heard


SAMPLE_WRITTEN = ["Enter 176.", SAMPLE_TEXTS[1], "10, 27 62."]
"""With numbers as people write them."""


def texts(messages: Sequence[Any], channel: int = 0) -> list[str]:
    return [
        message.channel.alternatives[0].transcript
        for message in messages
        if message.type == "Results" and message.is_final and message.channel_index[0] == channel
    ]


def test_deepgrams_client(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        options: Message = {"interim_results": True, "vad_events": True, "smart_format": True, "utterance_end_ms": 1000}
        async with serving(engine) as server, listening(server, **options) as connection:
            await send(connection, sample.tobytes() + bytes(2 * 32000))
            await connection.send_close_stream()
            heard = await rest(connection)
        assert texts(heard) == SAMPLE_WRITTEN
        kinds = [message.type for message in heard]
        assert (kinds.count("SpeechStarted"), kinds[-1]) == (3, "Metadata")
        assert any(message.type == "Results" and not message.is_final for message in heard)
        assert heard[-1].duration == len(sample) / 16000 + 2
        finals = [message for message in heard if message.type == "Results" and message.is_final]
        assert all(message.speech_final for message in finals)
        for final, text in zip(finals, SAMPLE_WRITTEN, strict=True):
            words = final.channel.alternatives[0].words
            assert " ".join(word.punctuated_word for word in words) == text
            assert all(0 < word.confidence <= 1 and word.word == word.word.lower().strip(".,") for word in words)
            assert final.start <= words[0].start < words[-1].end <= final.start + final.duration
        ends = [message.last_word_end for message in heard if message.type == "UtteranceEnd"]
        spoken = [final.channel.alternatives[0].words for final in finals]
        assert ends[-1] == spoken[-1][-1].end
        gaps = [(words[-1].end, following.start) for words, following in pairwise_finals(spoken, finals)]
        # Speech begins a pre-roll after the start of its utterance, if there was room for that.
        assert [end for end, start in gaps if start + 0.3 - end >= 1] == ends[:-1]

    def pairwise_finals(spoken: list[Any], finals: list[Any]) -> list[tuple[Any, Any]]:
        return list(zip(spoken[:-1], finals[1:], strict=True))

    talk()


def test_deepgrams_client_changes_its_keyterms(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        first = 4 * 16000  # where there is silence
        async with serving(engine) as server, listening(server, keyterm="SevenTy", punctuate=True) as connection:
            await send(connection, sample[:first].tobytes())
            heard = await until_result(connection, is_final=True)
            await connection.send_configure(ListenV1Configure(keyterms=["RubOut"]))
            await send(connection, sample[first : 8 * 16000].tobytes())
            await connection.send_close_stream()
            heard += await rest(connection)
        assert [message.keyterms for message in heard if message.type == "ConfigureSuccess"] == [["RubOut"]]
        assert texts(heard) == ["Enter one SevenTy six.", "RubOut GMEF three nine."]

    talk()


def test_what_is_told_does_not_depend_on_how_audio_is_cut(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        options: Message = {"interim_results": True, "vad_events": True, "endpointing": 300, "utterance_end_ms": 1000}
        told = []
        async with serving(engine) as server:
            for size in (777, 100_000):
                async with listening(server, **options) as connection:
                    await send(connection, sample.tobytes(), size)
                    await connection.send_close_stream()
                    heard = [message for message in await rest(connection) if message.type != "Metadata"]
                starts = [message.timestamp for message in heard if message.type == "SpeechStarted"]
                final = [m for m in heard if m.type == "UtteranceEnd" or (m.type == "Results" and m.is_final)]
                told.append((starts, [message.model_dump(exclude={"metadata"}) for message in final]))
        assert [message["type"] for message in told[0][1]].count("UtteranceEnd") >= 2
        assert told[0] == told[1]

    talk()


def test_deepgrams_client_finalizes(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        async with serving(engine) as server, listening(server, endpointing=300) as connection:
            await connection.send_finalize()
            (empty,) = await until_result(connection, from_finalize=True)
            assert texts([empty]) == [""]
            audio = sample.tobytes()
            await send(connection, audio[: 5 * 16000])  # in the middle of the first sentence
            await connection.send_finalize()
            heard = await until_result(connection, from_finalize=True)
            assert texts(heard)[-1].startswith("enter one")
            await send(connection, audio[5 * 16000 :])
            await connection.send_close_stream()
            heard += await rest(connection)
        assert "twenty seven sixty two" in " ".join(texts(heard))
        assert sum(bool(message.from_finalize) for message in heard if message.type == "Results") == 1
        assert all("." not in text for text in texts(heard))

    talk()


def test_deepgrams_client_has_two_channels(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        second = 16000
        half = [sample[: 4 * second], sample[8 * second :]]
        both = np.stack([piece[: 4 * second] for piece in half], axis=1)
        options: Message = {"channels": 2, "multichannel": True, "punctuate": True}
        async with serving(engine) as server, listening(server, **options) as connection:
            await send(connection, both.tobytes() + bytes(4 * second), 6400)
            await connection.send_close_stream()
            heard = await rest(connection)
        assert texts(heard, 0)[0] == SAMPLE_TEXTS[0]
        assert texts(heard, 1)[-1].endswith("sixty two.")
        assert {tuple(message.channel_index) for message in heard if message.type == "Results"} == {(0, 2), (1, 2)}
        assert heard[-1].channels == 2

    talk()


def test_deepgrams_client_sends_a_file(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        options: Message = {"encoding": None, "sample_rate": None, "punctuate": True}
        async with serving(engine) as server, listening(server, **options) as connection:
            await send(connection, wav(sample, 16000, "PCM_16"), 5000)
            await connection.send_close_stream()
            assert texts(await rest(connection)) == SAMPLE_TEXTS

    talk()


@asynchronous
async def test_tokens_of_deepgrams_client() -> None:
    async with serving(FakeEngine(), token="secret") as server:
        async with listening(server, key="secret") as connection:
            await connection.send_close_stream()
            assert [message.type for message in await rest(connection)] == ["Metadata"]
        with pytest.raises(ApiError) as refused:
            async with listening(server, key="wrong"):
                pass
        assert refused.value.status_code == 401
        offered = [Subprotocol("token"), Subprotocol("secret")]
        async with connect(f"ws://127.0.0.1:{server.port}/v1/listen?{RAW}", subprotocols=offered) as browser:
            assert browser.subprotocol == "token"


def test_a_session_without_messages_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynchronous
    async def talk() -> None:
        async with serving(FakeEngine()) as server, listening(server) as connection:
            await send(connection, b"x" * 100)
            await connection.send_keep_alive()
            heard: list[Any] = [await connection.recv(), await connection.recv()]
            with pytest.raises(ConnectionClosed, match="NET-0001") as closed:
                await connection.recv()
        assert texts(heard) == expected_texts(b"x" * 100)
        assert (heard[-1].type, heard[-1].code) == ("Error", "NET-0001")
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            1011,
            "NET-0001: no audio and no KeepAlive for 0.6 s",
        )

    assert Deepgram.idle_timeout == 10
    monkeypatch.setattr(Deepgram, "idle_timeout", 0.6)
    talk()


@asynchronous
async def test_a_server_that_stops_tells_deepgrams_client_the_rest() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, listening(server) as connection:
        await send(connection, b"x" * 100)
        await until(lambda: len(engine.streams[0].audio) == 100)
        closing = asyncio.create_task(server.close())
        assert texts([await connection.recv()]) == expected_texts(b"x" * 100)
        error: Any = await connection.recv()
        assert (error.type, error.code) == ("Error", "shutting_down")
        await closing
