"""OpenAI Realtime, by hand and with OpenAI's own client; every event is checked against OpenAI's own types."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pydantic
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from parastream.model.errors import CapacityError, EngineError
from parastream.server.app import Server
from parastream.server.protocols.base import Request
from parastream.server.protocols.openai.adapter import OpenAIRealtime, logprobs, rest
from parastream.server.protocols.openai.messages import LOGPROBS
from parastream.server.protocols.openai.session import LARGEST_APPEND, LARGEST_OTHER
from parastream.server.routes import parse
from parastream.server.wire.messages import Final, Word
from parastream.streaming import AudioFormat, Encoding, Engine
from parastream.streaming import events as ev
from parastream.streaming.audio import AudioInput
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ...conftest import SAMPLE_TEXTS
from ...waiting import until
from ..fakes import UTTERANCE, FakeEngine, FakeStream, admission, asynchronous, expected_texts, serving

TYPES: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RealtimeServerEvent)
BUFFER = "input_audio_buffer."
TRANSCRIPTION = "conversation.item.input_audio_transcription."

MANUAL = {"audio": {"input": {"turn_detection": None}}}


class Talk:
    """A conversation with a scripted engine."""

    def __init__(self, *updates: dict[str, Any], **settings: Any) -> None:
        self.engine = FakeEngine()
        max_unsent = settings.pop("max_unsent", 1000)
        recognizes = admission(self.engine, **settings)
        self.adapter = OpenAIRealtime(recognizes, Request("/v1/realtime"), name="test", max_unsent=max_unsent)
        self.adapter.start()
        self.created = self.sent()
        for update in updates:
            self.say("session.update", session={"type": "transcription", **update})
            assert kinds(self.sent()) == ["session.updated"]

    @property
    def stream(self) -> FakeStream:
        return self.engine.streams[0]

    def say(self, type: str, **fields: Any) -> None:
        self.adapter.receive(json.dumps({"type": type, **fields}))

    def append(self, audio: bytes) -> None:
        self.say("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    def sent(self) -> list[dict[str, Any]]:
        """What was sent since the last call; each of it is an event of OpenAI's."""
        events = []
        while (message := self.adapter.take()) is not None:
            events.append(json.loads(message))
        for event in events:
            if "beta" not in event["type"] and not event["type"].startswith("transcription_session"):
                TYPES.validate_python(event)
        identifiers = [event["event_id"] for event in events]
        assert len(set(identifiers)) == len(identifiers)
        return events

    def error(self) -> dict[str, Any]:
        """The one event since the last call."""
        (event,) = self.sent()
        assert event["type"] == "error"
        error: dict[str, Any] = event["error"]
        return error


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("conversation.item.") for event in events]


def of(kind: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def transcripts(events: list[dict[str, Any]]) -> list[str]:
    return [event["transcript"] for event in of(TRANSCRIPTION + "completed", events)]


def input_of(event: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = event["session"]["audio"]["input"]
    return result


# --- sessions ----------------------------------------------------------------------------------------


def test_a_session_is_created_with_the_defaults() -> None:
    (created,) = Talk().created
    assert created["type"] == "session.created"
    assert created["session"]["type"] == "transcription"
    assert created["session"]["object"] == "realtime.transcription_session"
    assert created["session"]["id"].startswith("sess_")
    assert input_of(created)["format"] == {"type": "audio/pcm", "rate": 24000}
    assert input_of(created)["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "create_response": None,
        "interrupt_response": None,
        "idle_timeout_ms": None,
    }


@pytest.mark.parametrize(
    ("format", "encoding", "rate"),
    [
        ({"type": "audio/pcm", "rate": 24000}, Encoding.S16LE, 24000),
        ({"type": "audio/pcm"}, Encoding.S16LE, 24000),
        ({"type": "audio/pcmu"}, Encoding.MULAW, 8000),
        ({"type": "audio/pcma"}, Encoding.ALAW, 8000),
    ],
)
def test_formats(format: dict[str, Any], encoding: Encoding, rate: int) -> None:
    talk = Talk({"audio": {"input": {"format": format}}})
    talk.append(b"\0\0")
    config = talk.stream.config
    assert (config.format.encoding, config.format.rate, config.format.channels) == (encoding, rate, 1)
    assert config.partials
    assert config.punctuate
    assert config.final_pass


def test_turn_detection_becomes_an_endpoint() -> None:
    turn = {"type": "server_vad", "threshold": 0.7, "prefix_padding_ms": 200, "silence_duration_ms": 900}
    talk = Talk({"audio": {"input": {"turn_detection": turn}}})
    talk.append(b"\0\0")
    endpoint = talk.stream.config.endpoint
    assert (endpoint.threshold, endpoint.pre_roll, endpoint.min_silence) == (0.7, 0.2, 0.9)


def test_an_update_changes_what_it_says_and_shows_all() -> None:
    talk = Talk()
    talk.say(
        "session.update",
        session={
            "type": "transcription",
            "include": [LOGPROBS],
            "audio": {
                "input": {
                    "transcription": {"model": "gpt-4o-transcribe", "language": "en", "prompt": "numbers"},
                    "noise_reduction": {"type": "near_field"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
                }
            },
        },
    )
    talk.say(
        "session.update",
        session={
            "audio": {
                "input": {
                    "transcription": {"language": "de"},
                    "noise_reduction": None,
                    "turn_detection": {"type": "server_vad", "threshold": 0.6},
                }
            }
        },
    )
    first, second = talk.sent()
    assert kinds([first, second]) == ["session.updated", "session.updated"]
    assert first["session"]["include"] == second["session"]["include"] == [LOGPROBS]
    assert input_of(first)["noise_reduction"]["type"] == "near_field"
    assert input_of(second)["noise_reduction"] is None
    assert input_of(second)["transcription"]["model"] == "gpt-4o-transcribe"
    assert input_of(second)["transcription"]["language"] == "de"
    turn = input_of(second)["turn_detection"]
    assert (turn["threshold"], turn["silence_duration_ms"]) == (0.6, 700)
    assert first["session"]["id"] == second["session"]["id"] == talk.created[0]["session"]["id"]


@pytest.mark.parametrize(
    ("turn", "prefix", "silence"),
    [
        ({"type": "server_vad", "prefix_padding_ms": 2000, "silence_duration_ms": 20_000}, 1000, 10_000),
        ({"type": "server_vad", "prefix_padding_ms": 0, "silence_duration_ms": 0, "threshold": 0}, 0, 100),
        ({"type": "server_vad", "threshold": 1}, 300, 500),
        ({"type": "semantic_vad"}, 300, 600),
        ({"type": "semantic_vad", "eagerness": "low"}, 300, 1200),
        ({"type": "semantic_vad", "eagerness": "high", "create_response": True}, 300, 300),
    ],
)
def test_a_turn_detection_that_cannot_be_had_is_shown_as_what_it_is(
    turn: dict[str, Any], prefix: int, silence: int
) -> None:
    talk = Talk()
    talk.say("session.update", session={"type": "transcription", "audio": {"input": {"turn_detection": turn}}})
    (updated,) = talk.sent()
    shown = input_of(updated)["turn_detection"]
    assert (shown["type"], shown["prefix_padding_ms"], shown["silence_duration_ms"]) == ("server_vad", prefix, silence)
    talk.append(b"\0\0")
    assert talk.sent() == []
    assert talk.stream.config.endpoint.min_silence == silence / 1000


@pytest.mark.parametrize(
    ("session", "code", "param", "words"),
    [
        ({"type": "speech"}, "invalid_value", "session.type", "allowed: realtime, transcription"),
        ({"type": 3}, "invalid_type", "session.type", "Expected `str`"),
        ({"voices": "alloy"}, "unknown_parameter", "session.voices", "allowed: type, audio, include"),
        ({"audio": []}, "invalid_type", "session.audio", "Expected `object`, got `array`"),
        ({"audio": {"outputs": {}}}, "unknown_parameter", "session.audio.outputs", "allowed: input"),
        (
            {"audio": {"input": {"format": {"type": "audio/opus"}}}},
            "invalid_value",
            "session.audio.input.format.type",
            "allowed: audio/pcm, audio/pcmu, audio/pcma",
        ),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "invalid_value",
            "session.audio.input.format.rate",
            "allowed: 24000",
        ),
        ({"audio": {"input": {"format": "pcm16"}}}, "invalid_type", "session.audio.input.format", "object"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}},
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
            "<= 1.0",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": "500"}}}},
            "invalid_type",
            "session.audio.input.turn_detection.silence_duration_ms",
            "Expected `int`, got `str`",
        ),
        (
            {"audio": {"input": {"turn_detection": {"silence": 1}}}},
            "unknown_parameter",
            "session.audio.input.turn_detection.silence",
            "silence_duration_ms",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "very"}}}},
            "invalid_value",
            "session.audio.input.turn_detection.eagerness",
            "allowed: auto, high, low, medium",
        ),
        (
            {"audio": {"input": {"noise_reduction": {"type": "on"}}}},
            "invalid_value",
            "session.audio.input.noise_reduction.type",
            "allowed: far_field, near_field",
        ),
        ({"audio": {"input": {"transcription": "whisper-1"}}}, "invalid_type", "session.audio.input.transcription", ""),
        ({"include": ["words"]}, "invalid_value", "session.include.0", f"allowed: {LOGPROBS}"),
        ({"include": LOGPROBS}, "invalid_type", "session.include", "array"),
    ],
)
def test_an_update_that_is_refused_changes_nothing(session: dict[str, Any], code: str, param: str, words: str) -> None:
    talk = Talk()
    talk.say("session.update", event_id="mine", session=session)
    error = talk.error()
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert words in error["message"]
    assert error["event_id"] == "mine"
    talk.say("session.update", session={})
    (updated,) = talk.sent()
    assert updated["session"] == talk.created[0]["session"]


def test_format_and_turn_detection_are_fixed_by_the_first_audio() -> None:
    talk = Talk()
    talk.append(b"\0\0")
    for name, value in {"format": {"type": "audio/pcmu"}, "turn_detection": None}.items():
        talk.say("session.update", session={"audio": {"input": {name: value}}})
        error = talk.error()
        assert (error["code"], error["param"]) == ("invalid_session_update", f"session.audio.input.{name}")
    same = {"format": {"type": "audio/pcm"}, "turn_detection": {"type": "server_vad"}, "transcription": {}}
    talk.say("session.update", session={"type": "transcription", "include": [LOGPROBS], "audio": {"input": same}})
    assert kinds(talk.sent()) == ["session.updated"]


CONVERSATION = {
    "type": "realtime",
    "instructions": "Be brief.",
    "model": "gpt-realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "noise_reduction": None,
            "transcription": {"model": "gpt-4o-mini-transcribe"},
            "turn_detection": {"type": "semantic_vad"},
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash", "speed": 1},
    },
    "tool_choice": "auto",
    "tools": [{"type": "function", "name": "look_up"}],
    "tracing": "auto",
}
"""What `@openai/agents-realtime` and the console ask for."""


def test_a_conversation_is_served_as_a_transcription() -> None:
    talk = Talk()
    talk.say("session.update", session=CONVERSATION)
    (updated,) = talk.sent()
    session = updated["session"]
    assert (session["type"], session["object"]) == ("realtime", "realtime.session")
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 600
    assert "output" not in session["audio"]
    talk.say("session.update", session={"type": "realtime", "tracing": None})
    assert talk.sent()[0]["session"] == session
    talk.append(b"x" * UTTERANCE)
    assert transcripts(talk.sent()) == expected_texts(b"x" * UTTERANCE)


def test_the_last_items_can_be_asked_for() -> None:
    talk = Talk()
    talk.append(b"".join(bytes([number]) * UTTERANCE for number in range(101)))
    completed = of(TRANSCRIPTION + "completed", talk.sent())
    talk.say("conversation.item.retrieve", item_id=completed[-1]["item_id"])
    (retrieved,) = talk.sent()
    assert retrieved["item"]["id"] == completed[-1]["item_id"]
    assert retrieved["item"]["content"] == [{"type": "input_audio", "transcript": completed[-1]["transcript"]}]
    talk.say("conversation.item.retrieve", item_id=completed[0]["item_id"], event_id="mine")
    error = talk.error()
    assert (error["code"], error["param"], error["event_id"]) == ("item_not_found", "item_id", "mine")


# --- what is no event --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "param", "event_id"),
    [
        ("", "invalid_json", None, None),
        ("nonsense", "invalid_json", None, None),
        ("[]", "invalid_type", None, None),
        ("{}", "missing_required_parameter", "type", None),
        ('{"type":3,"event_id":"x"}', "invalid_type", "type", "x"),
        ('{"type":"response.create","event_id":"x"}', "invalid_value", "type", "x"),
        ('{"type":"input_audio_buffer.commit","event_id":3}', "invalid_type", "event_id", None),
        ('{"type":"input_audio_buffer.commit","now":3}', "unknown_parameter", "now", None),
        ('{"type":"input_audio_buffer.append"}', "missing_required_parameter", "audio", None),
        ('{"type":"input_audio_buffer.append","audio":3,"event_id":"x"}', "invalid_type", "audio", "x"),
        ('{"type":"input_audio_buffer.append","audio":"%%%"}', "invalid_value", "audio", None),
        ('{"type":"input_audio_buffer.append","audio":"QQ"}', "invalid_value", "audio", None),
        ('{"type":"session.update"}', "missing_required_parameter", "session", None),
        ('{"type":"session.update","session":[]}', "invalid_type", "session", None),
        ("[" * 100_000, "invalid_type", None, None),
        ('{"type":"session.update","session":' + '{"audio":' * 100_000, "invalid_json", None, None),
    ],
)
def test_a_mistake_is_answered_and_the_session_goes_on(
    text: str, code: str, param: str | None, event_id: str | None
) -> None:
    talk = Talk()
    talk.adapter.receive(text)
    error = talk.error()
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["event_id"] == event_id
    assert error["message"]
    talk.append(b"x" * UTTERANCE)
    assert len(transcripts(talk.sent())) == 1
    assert talk.adapter.listening


def test_what_an_unknown_event_could_have_been() -> None:
    talk = Talk()
    talk.say("response.create")
    assert talk.error()["message"].startswith("Invalid value 'response.create'; allowed: session.update, ")
    talk.adapter.receive(b"audio")
    error = talk.error()
    assert error["code"] == "invalid_event"
    assert "base64" in error["message"]


def test_the_largest_append() -> None:
    talk = Talk(MANUAL)
    audio = base64.b64encode(bytes(LARGEST_APPEND))
    assert OpenAIRealtime.max_message is not None
    assert len(audio) + 200 < OpenAIRealtime.max_message
    talk.adapter.receive('{"type":"input_audio_buffer.append","audio":"AAAA' + audio.decode() + '"}')
    error = talk.error()
    assert (error["code"], error["param"]) == ("invalid_value", "audio")
    assert str(LARGEST_APPEND) in error["message"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{{"type":"session.update","session":{{"include":"{}"}}}}', "allowed: at most 1048576"),
        ('{{"session":{{"include":"{}"}},"type":"session.update"}}', "allowed: at most 1048576"),
        ('{{"type":"input_audio_buffer.clear","x":"{}"}}', "allowed: at most 1048576"),
        ('{{"type":"input_audio_buffer.append","audio":"{}!"}}', "Invalid base64"),
    ],
)
def test_only_audio_may_be_large(message: str, words: str) -> None:
    talk = Talk()
    talk.adapter.receive(message.format("x" * LARGEST_OTHER))
    error = talk.error()
    assert error["code"] == "invalid_value"
    assert words in error["message"]
    assert talk.adapter.ending is None


# --- with turn detection -----------------------------------------------------------------------------


def test_each_utterance_is_an_item() -> None:
    talk = Talk()
    talk.append(b"ab" * UTTERANCE)
    events = talk.sent()
    assert kinds(events) == 2 * [
        "input_audio_buffer.speech_started",
        "input_audio_transcription.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "added",
        "done",
        "input_audio_transcription.delta",
        "input_audio_transcription.completed",
    ]
    first, second = events[:8], events[8:]
    assert {event.get("item_id") or event["item"]["id"] for event in first} == {first[0]["item_id"]}
    assert first[0]["audio_start_ms"] == 0
    assert (second[0]["audio_start_ms"], second[2]["audio_end_ms"]) == (100, 200)
    assert first[3]["previous_item_id"] is None
    assert second[3]["previous_item_id"] == first[0]["item_id"] == second[4]["previous_item_id"]
    assert second[4]["item"] == {
        "id": second[0]["item_id"],
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    expected = expected_texts(b"ab" * UTTERANCE)
    assert transcripts(events) == expected
    assert [first[1]["delta"], first[6]["delta"]] == [expected[0][:8], expected[0][8:]]
    assert first[7]["usage"] == {"type": "duration", "seconds": 0.1}
    assert "logprobs" not in first[7]


def test_a_commit_ends_what_is_being_said() -> None:
    talk = Talk()
    talk.append(b"x" * 100)
    assert talk.sent() == []
    talk.say("input_audio_buffer.commit")
    assert transcripts(talk.sent()) == expected_texts(b"x" * 100)
    talk.say("input_audio_buffer.commit", event_id="again")
    error = talk.error()
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "again")


def test_a_commit_of_silence_makes_an_empty_item() -> None:
    talk = Talk()
    talk.append(b"x" * UTTERANCE)
    (item,) = {event["item_id"] for event in of(TRANSCRIPTION + "completed", talk.sent())}
    talk.say("input_audio_buffer.commit")
    events = talk.sent()
    assert kinds(events) == ["input_audio_buffer.committed", "added", "done", "input_audio_transcription.completed"]
    assert events[0]["previous_item_id"] == item
    assert events[-1]["transcript"] == ""


def test_clearing_forgets_what_is_being_said() -> None:
    talk = Talk()
    talk.append(b"x" * 100)
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.Partial(0, 0.0, 0.1, "wrong", "", ())])
    talk.sent()
    flush, talk.stream.flush = talk.stream.flush, lambda: None  # type: ignore[method-assign]
    talk.say("input_audio_buffer.clear")
    assert kinds(talk.sent()) == ["input_audio_buffer.cleared"]
    # The next utterance begins before the flush has been told.
    talk.stream.tell(
        [ev.SpeechStarted(1, 0.2), ev.SpeechEnded(0, 0.1, "silence"), ev.Final(0, 0.0, 0.1, "wrong words", (), 0.0)]
    )
    talk.stream.tell([ev.Flushed(0.1)])
    assert talk.sent() == []
    talk.stream.flush = flush  # type: ignore[method-assign]
    talk.stream.tell([ev.Partial(1, 0.2, 0.3, "right", "", ())])
    talk.stream.tell([ev.SpeechEnded(1, 0.3, "silence"), ev.Final(1, 0.2, 0.3, "Right.", (), 0.0)])
    events = talk.sent()
    assert kinds(events)[:2] == ["input_audio_buffer.speech_started", "input_audio_transcription.delta"]
    assert events[0]["audio_start_ms"] == 200
    assert transcripts(events) == ["Right."]
    talk.say("input_audio_buffer.clear")
    talk.say("input_audio_buffer.clear")
    assert kinds(talk.sent()) == 2 * ["input_audio_buffer.cleared"]


# --- without turn detection --------------------------------------------------------------------------


def test_an_item_is_the_audio_since_the_last_commit() -> None:
    talk = Talk(MANUAL)
    audio = b"ab" * UTTERANCE
    talk.append(audio + b"c" * 100)
    assert set(kinds(talk.sent())) == {"input_audio_transcription.delta"}
    talk.say("input_audio_buffer.commit")
    events = talk.sent()
    assert kinds(events) == [
        "input_audio_buffer.committed",
        "added",
        "done",
        "input_audio_transcription.delta",
        "input_audio_transcription.delta",
        "input_audio_transcription.completed",
    ]
    expected = " ".join(expected_texts(audio + b"c" * 100))
    assert transcripts(events) == [expected]
    seconds = (len(audio) + 100) / 48000
    assert events[-1]["usage"]["seconds"] == round(seconds, 3)
    talk.append(b"d" * 100)
    talk.say("input_audio_buffer.commit")
    second = talk.sent()
    assert second[0]["previous_item_id"] == events[0]["item_id"]
    assert len(transcripts(second)) == 1


def test_deltas_spell_the_transcript() -> None:
    talk = Talk(MANUAL)
    talk.append(b"ab" * UTTERANCE)
    talk.say("input_audio_buffer.commit")
    events = talk.sent()
    deltas = "".join(event["delta"] for event in of(TRANSCRIPTION + "delta", events))
    assert [deltas] == transcripts(events)


def test_text_is_told_in_its_order() -> None:
    """The next utterance is heard before the final pass of the one before is done."""
    talk = Talk(MANUAL)
    talk.append(b"x" * 100)
    stream = talk.stream
    word = ev.Word("A", 0.0, 1.0, 0.5)
    stream.tell([ev.SpeechStarted(0, 0.0), ev.Partial(0, 0.0, 1.0, "one", " t", ()), ev.SpeechStarted(1, 2.0)])
    stream.tell([ev.Partial(1, 2.0, 3.0, "four", "", ())])
    stream.tell([ev.SpeechEnded(0, 1.0, "silence"), ev.Final(0, 0.0, 1.0, "One, two.", (word,), 0.5)])
    stream.tell([ev.Partial(1, 2.0, 3.0, "four five", "", ())])
    deltas = [event["delta"] for event in talk.sent()]
    assert deltas == ["one", ", two.", " four five"]


def test_an_empty_commit_is_an_error() -> None:
    talk = Talk(MANUAL)
    talk.say("input_audio_buffer.commit", event_id="early")
    error = talk.error()
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "early")
    talk.append(b"")
    talk.say("input_audio_buffer.commit")
    assert talk.error()["code"] == "input_audio_buffer_commit_empty"
    talk.append(b"x")  # half a sample
    talk.say("input_audio_buffer.commit")
    assert talk.error()["code"] == "input_audio_buffer_commit_empty"
    talk.append(b"y")
    talk.say("input_audio_buffer.commit")
    assert transcripts(talk.sent()) == expected_texts(b"xy")


def test_clearing_forgets_the_audio_since_the_last_commit() -> None:
    talk = Talk(MANUAL)
    talk.append(b"x" * 100)
    talk.say("input_audio_buffer.clear")
    assert kinds(talk.sent()) == ["input_audio_buffer.cleared"]
    talk.say("input_audio_buffer.commit")
    assert talk.error()["code"] == "input_audio_buffer_commit_empty"
    talk.append(b"y" * 100)
    talk.say("input_audio_buffer.commit")
    events = talk.sent()
    assert len(transcripts(events)) == 1
    assert events[0]["previous_item_id"] is None


def test_commits_and_clears_that_wait_for_the_recogniser_keep_their_order() -> None:
    talk = Talk(MANUAL)
    talk.append(b"x" * 100)
    talk.stream.flush = lambda: None  # type: ignore[method-assign]
    talk.say("input_audio_buffer.commit")
    talk.append(b"x" * 100)
    talk.say("input_audio_buffer.clear")
    talk.append(b"x" * 100)
    talk.say("input_audio_buffer.commit")
    events = talk.sent()
    assert kinds(events) == [
        *("input_audio_buffer.committed", "added", "done"),
        "input_audio_buffer.cleared",
        *("input_audio_buffer.committed", "added", "done"),
    ]
    for number, text in enumerate(("first", "second", "third")):
        talk.stream.tell([ev.SpeechStarted(number, 0.0), ev.SpeechEnded(number, 0.1, "silence")])
        talk.stream.tell([ev.Final(number, 0.0, 0.1, text, (), 0.0), ev.Flushed(0.1)])
    completed = of(TRANSCRIPTION + "completed", talk.sent())
    assert [event["transcript"] for event in completed] == ["first", "third"]
    assert [event["item_id"] for event in completed] == [events[0]["item_id"], events[4]["item_id"]]


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 3 * UTTERANCE), max_size=12))
def test_how_audio_is_cut_does_not_matter(cuts: list[int]) -> None:
    audio = bytes(range(256)) * (3 * UTTERANCE // 256)
    bounds = [0, *sorted(min(cut, len(audio)) for cut in cuts), len(audio)]
    told = []
    for pieces in ([0, len(audio)], bounds):
        talk = Talk(MANUAL)
        for first, last in pairwise(pieces):
            talk.append(audio[first:last])
        talk.say("input_audio_buffer.commit")
        events = talk.sent()
        deltas = [event["delta"] for event in of(TRANSCRIPTION + "delta", events)]
        told.append((transcripts(events), deltas, events[-1]["usage"]))
    assert told[0] == told[1]


# --- texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "text", "following"),
    [
        ("", "One.", "One."),
        ("one", "One, two.", ", two."),
        ("enter one", "Enter one seventy six.", " seventy six."),
        ("don t", "Don't go.", " go."),
        ("one two", "One too.", ""),
        ("one two three", "One two.", ""),
        ("今天", "今天，天气。", "，天气。"),
        ("one two", "One, two.", "."),
    ],
)
def test_the_rest_of_a_final_text(told: str, text: str, following: str) -> None:
    assert rest(told, text) == following


def test_logprobs_spell_the_transcript() -> None:
    words = (Word("One,", 0.0, 1.0, 0.5), Word("deux.", 1.0, 2.0, 0.0), Word("é", 2.0, 3.0, 1.0))
    tokens = logprobs([Final(0, 0.0, 3.0, "One, deux. é", words, 0.5)], "One, deux. é")
    assert [token.token for token in tokens] == ["One,", " deux.", " é"]
    assert [token.logprob for token in tokens] == [round(math.log(0.5), 4), round(math.log(1e-4), 4), 0.0]
    assert tokens[2].bytes == (32, 195, 169)


def test_logprobs_when_asked_for() -> None:
    talk = Talk({"include": [LOGPROBS]})
    talk.append(b"x" * UTTERANCE)
    (completed,) = of(TRANSCRIPTION + "completed", talk.sent())
    (token,) = completed["logprobs"]
    assert (token["token"], token["logprob"]) == (completed["transcript"], round(math.log(0.5), 4))


# --- the beta ----------------------------------------------------------------------------------------


def test_the_form_of_the_beta() -> None:
    talk = Talk()
    talk.say(
        "transcription_session.update",
        session={
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "en"},
            "input_audio_noise_reduction": {"type": "far_field"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 200},
            "include": [LOGPROBS],
        },
    )
    (updated,) = talk.sent()
    assert updated["type"] == "transcription_session.updated"
    session = updated["session"]
    assert (session["input_audio_format"], session["include"]) == ("g711_ulaw", [LOGPROBS])
    assert session["input_audio_transcription"]["model"] == "whisper-1"
    assert session["turn_detection"]["silence_duration_ms"] == 200
    talk.append(b"x" * UTTERANCE)
    assert kinds(talk.sent()) == [
        "input_audio_buffer.speech_started",
        "input_audio_transcription.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "created",
        "input_audio_transcription.delta",
        "input_audio_transcription.completed",
    ]
    assert talk.stream.config.format.encoding is Encoding.MULAW


OF_BETA = {"openai-beta": "realtime=v1"}


def beta(query: str, headers: dict[str, str]) -> OpenAIRealtime:
    """A connection of a client of the beta, which has been greeted."""
    request = replace(parse(f"/v1/realtime?{query}"), headers=headers)
    adapter = OpenAIRealtime(admission(FakeEngine()), request)
    adapter.start()
    return adapter


def next_event(adapter: OpenAIRealtime) -> dict[str, Any]:
    message = adapter.take()
    assert message is not None
    event: dict[str, Any] = json.loads(message)
    return event


@pytest.mark.parametrize(
    ("query", "headers", "kind", "flat"),
    [
        ("intent=transcription", OF_BETA, "transcription_session.created", True),
        (
            "intent=transcription",
            {"sec-websocket-protocol": "realtime, openai-insecure-api-key.x, openai-beta.realtime-v1"},
            "transcription_session.created",
            True,
        ),
        ("model=gpt-4o-realtime-preview", OF_BETA, "session.created", True),
        ("intent=transcription", {}, "session.created", False),
        ("intent=transcription", {"openai-beta": "assistants=v2"}, "session.created", False),
    ],
)
def test_a_client_of_the_beta_is_greeted_in_its_form(
    query: str, headers: dict[str, str], kind: str, flat: bool
) -> None:
    created = next_event(beta(query, headers))
    assert created["type"] == kind
    assert ("input_audio_format" in created["session"]) is flat
    assert created["session"]["id"].startswith("sess_")


def test_a_conversation_of_the_beta_is_served_as_a_transcription() -> None:
    adapter = beta("model=gpt-4o-realtime-preview", OF_BETA)
    next_event(adapter)
    session = {
        "modalities": ["text"], "instructions": "Be brief.", "voice": "ash", "temperature": 0.8, "tools": [],
        "input_audio_format": "g711_alaw", "output_audio_format": "g711_alaw", "turn_detection": None,
    }  # fmt: skip
    adapter.receive(json.dumps({"type": "session.update", "session": session}))
    updated = next_event(adapter)
    assert updated["type"] == "session.updated"
    assert updated["session"]["input_audio_format"] == "g711_alaw"
    assert updated["session"]["turn_detection"] is None


def test_the_secret_of_a_client_does_not_void_its_update() -> None:
    talk = Talk()
    secret = {"expires_at": {"anchor": "created_at", "seconds": 60}}
    talk.say(
        "transcription_session.update",
        session={"client_secret": secret, "modalities": ["text"], "input_audio_format": "g711_ulaw"},
    )
    (updated,) = talk.sent()
    assert updated["session"]["input_audio_format"] == "g711_ulaw"


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"audio": {}}, "unknown_parameter", "session.audio"),
        ({"input_audio_format": "mp3"}, "invalid_value", "session.input_audio_format"),
        ({"input_audio_format": []}, "invalid_type", "session.input_audio_format"),
        ({"turn_detection": 3}, "invalid_type", "session.audio.input.turn_detection"),
    ],
)
def test_mistakes_in_the_form_of_the_beta(session: dict[str, Any], code: str, param: str) -> None:
    talk = Talk()
    talk.say("transcription_session.update", session=session)
    error = talk.error()
    assert (error["code"], error["param"]) == (code, param)


# --- ends --------------------------------------------------------------------------------------------


def test_no_room_for_another_session() -> None:
    talk = Talk()
    talk.engine.refusal = CapacityError("the machine is full")
    talk.append(b"x")
    error = talk.error()
    assert (error["type"], error["code"], error["message"]) == ("server_error", "capacity", "the machine is full")
    assert talk.adapter.ending == (1013, "capacity: the machine is full")


def test_a_model_that_is_still_being_loaded() -> None:
    talk = Talk()
    talk.engine.ready = False
    talk.append(b"x")
    assert talk.error()["code"] == "not_ready"
    assert talk.adapter.ending is not None


@pytest.mark.parametrize("update", [{}, MANUAL])
def test_a_stopping_server_says_what_it_has_heard(update: dict[str, Any]) -> None:
    talk = Talk(update)
    talk.append(b"x" * 100)
    talk.adapter.admission.drain()  # type: ignore[attr-defined]
    events = talk.sent()
    assert transcripts(events) == expected_texts(b"x" * 100)
    assert of(BUFFER + "committed", events)
    assert events[-1]["error"]["code"] == "shutting_down"
    assert talk.adapter.ending is not None
    assert talk.adapter.ending[0] == 1001


@pytest.mark.parametrize("update", [{}, MANUAL])
def test_a_failing_engine_fails_the_items_that_were_begun(update: dict[str, Any]) -> None:
    talk = Talk(update)
    talk.append(b"x" * 100)
    talk.stream.flush = lambda: None  # type: ignore[method-assign]
    talk.stream.tell([ev.SpeechStarted(0, 0.0), ev.Partial(0, 0.0, 0.1, "word", "", ())])
    talk.say("input_audio_buffer.commit")
    identifiers = {event.get("item_id") for event in talk.sent()} - {None}
    talk.stream.failure = EngineError("the engine has stopped")
    talk.append(b"x")
    failed, error = talk.sent()
    assert failed["type"] == TRANSCRIPTION + "failed"
    assert {failed["item_id"]} == identifiers
    assert failed["error"]["message"] == error["error"]["message"] == "the engine has stopped"
    assert (error["error"]["type"], error["error"]["code"]) == ("server_error", "internal")
    assert talk.adapter.ending == (1011, "internal: the engine has stopped")


def test_a_client_that_never_reads_is_cut_off() -> None:
    talk = Talk(max_unsent=20)
    talk.append(b"x" * (20 * UTTERANCE))
    events = talk.sent()
    assert events[-1]["error"]["code"] == "slow_client"
    assert of("error", events) == events[-1:]
    assert talk.adapter.ending is not None
    assert talk.adapter.ending[0] == 1008


# --- with OpenAI's client ----------------------------------------------------------------------------


@asynccontextmanager
async def realtime(server: Server, **options: Any) -> AsyncIterator[AsyncRealtimeConnection]:
    """A connection of OpenAI's client; the session has been created."""
    base = f"http://127.0.0.1:{server.port}/v1"
    async with (
        AsyncOpenAI(api_key=options.pop("key", "any"), base_url=base) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}, **options) as connection,
    ):
        created = await connection.recv()
        assert created.type == "session.created"
        yield connection


async def update(connection: AsyncRealtimeConnection, **input: Any) -> None:
    session: Any = {"type": "transcription", "include": [LOGPROBS], "audio": {"input": input}}
    await connection.session.update(session=session)
    assert (await connection.recv()).type == "session.updated"


async def append(connection: AsyncRealtimeConnection, audio: bytes, size: int) -> None:
    for first in range(0, len(audio), size):
        await connection.input_audio_buffer.append(audio=base64.b64encode(audio[first : first + size]).decode())


async def until_completed(connection: AsyncRealtimeConnection, count: int) -> list[Any]:
    """Events up to the one that completes the last of some items."""
    events: list[Any] = []
    while sum(event.type == TRANSCRIPTION + "completed" for event in events) < count:
        event = await connection.recv()
        assert event.type != "error", event
        TYPES.validate_python(event.to_dict())
        events.append(event)
    return events


def texts(events: list[Any]) -> list[str]:
    return [event.transcript for event in events if event.type == TRANSCRIPTION + "completed"]


def companded(samples: NDArray[np.int16], encoding: str) -> bytes:
    """The samples at 8 kHz as `pcmu` or `pcma` bytes: the nearest code for each."""
    codes = AudioFormat(Encoding.MULAW if encoding == "pcmu" else Encoding.ALAW)
    table = AudioInput(codes).push(bytes(range(256)))
    order = np.argsort(table, kind="stable")
    low = np.asarray(soxr.resample(samples.astype(np.float32) / 32768, 16000, 8000))
    places = np.clip(np.searchsorted(table[order], low), 1, 255)
    nearer = np.abs(table[order][places - 1] - low) <= np.abs(table[order][places] - low)
    return bytes(order[places - nearer].astype(np.uint8))


def pcm(samples: NDArray[np.int16]) -> bytes:
    return bytes(soxr.resample(samples, 16000, 24000).astype("<i2"))


def test_openais_client_with_turn_detection(engine: Engine, sample: NDArray[np.int16]) -> None:
    @asynchronous
    async def talk() -> None:
        async with serving(engine) as server, realtime(server) as connection:
            await update(connection, turn_detection={"type": "server_vad", "silence_duration_ms": 600})
            await append(connection, pcm(sample), 4800)
            await connection.input_audio_buffer.append(audio=base64.b64encode(bytes(48000)).decode())
            events = await until_completed(connection, 3)
        assert texts(events) == SAMPLE_TEXTS
        for event in events:
            if event.type == TRANSCRIPTION + "completed":
                assert event.usage.type == "duration"
                assert 1 < event.usage.seconds < 5
                assert "".join(token.token for token in event.logprobs) == event.transcript
                assert all(-5 < token.logprob <= 0 for token in event.logprobs)
        items = [event.item_id for event in events if event.type == BUFFER + "committed"]
        for item, text in zip(items, SAMPLE_TEXTS, strict=True):
            deltas = "".join(e.delta for e in events if e.type == TRANSCRIPTION + "delta" and e.item_id == item)
            assert deltas.casefold().replace(",", "") == text.casefold().replace(",", "")
        starts = [event.audio_start_ms for event in events if event.type == BUFFER + "speech_started"]
        stops = [event.audio_end_ms for event in events if event.type == BUFFER + "speech_stopped"]
        assert starts == sorted(starts)
        assert all(start < stop for start, stop in zip(starts, stops, strict=True))
        assert stops[-1] <= 12_500

    talk()


@pytest.mark.parametrize("format", ["pcm", "pcmu", "pcma"])
def test_openais_client_commits(engine: Engine, sample: NDArray[np.int16], format: str) -> None:
    @asynchronous
    async def talk() -> None:
        audio = pcm(sample) if format == "pcm" else companded(sample, format)
        second = len(audio) // 12 // 2 * 2
        async with serving(engine) as server, realtime(server) as connection:
            await update(connection, format={"type": f"audio/{format}"}, turn_detection=None)
            await append(connection, audio[: 4 * second], second // 5)
            await connection.input_audio_buffer.commit()
            first = await until_completed(connection, 1)
            await append(connection, audio[4 * second :], second)
            await connection.input_audio_buffer.commit()
            rest = await until_completed(connection, 1)
        assert not any(event.type.startswith(BUFFER + "speech") for event in first + rest)
        heard = " ".join(texts(first) + texts(rest)).split()
        wrong = [word for word, said in zip(heard, " ".join(SAMPLE_TEXTS).split(), strict=True) if word != said]
        assert len(wrong) <= (0 if format == "pcm" else 1)
        assert round(first[-1].usage.seconds + rest[-1].usage.seconds) == 12
        spelled = "".join(event.delta for event in first if event.type == TRANSCRIPTION + "delta")
        assert spelled.casefold().startswith("enter one")

    talk()


@asynchronous
async def test_openais_client_of_the_beta() -> None:
    async with (
        serving(FakeEngine()) as server,
        AsyncOpenAI(api_key="any", websocket_base_url=f"ws://127.0.0.1:{server.port}/v1") as client,
        client.beta.realtime.connect(model="any", extra_query={"intent": "transcription"}) as connection,
    ):
        created: Any = await connection.recv()
        assert created.type == "transcription_session.created"
        secret: Any = {"expires_at": {"anchor": "created_at", "seconds": 60}}
        await connection.transcription_session.update(
            session={"client_secret": secret, "input_audio_format": "pcm16", "turn_detection": {"type": "server_vad"}}
        )
        updated: Any = await connection.recv()
        assert updated.type == "transcription_session.updated"
        await connection.input_audio_buffer.append(audio=base64.b64encode(b"x" * UTTERANCE).decode())
        heard: list[Any] = []
        while not heard or heard[-1].type != TRANSCRIPTION + "completed":
            heard.append(await connection.recv())
        assert heard[-1].transcript == expected_texts(b"x" * UTTERANCE)[0]


@asynchronous
async def test_openais_client_makes_mistakes() -> None:
    async with serving(FakeEngine()) as server, realtime(server) as connection:
        await connection.input_audio_buffer.commit(event_id="mine")
        error = await connection.recv()
        assert error.type == "error"
        assert (error.error.code, error.error.event_id) == ("input_audio_buffer_commit_empty", "mine")
        await connection.response.create()
        error = await connection.recv()
        assert error.type == "error"
        assert error.error.param == "type"
        await append(connection, b"x" * UTTERANCE, 1000)
        assert texts(await until_completed(connection, 1)) == expected_texts(b"x" * UTTERANCE)


@asynchronous
async def test_tokens_of_openais_client() -> None:
    async with serving(FakeEngine(), token="secret") as server:
        async with realtime(server, key="secret"):
            pass
        with pytest.raises(Exception, match="401"):
            async with realtime(server, key="wrong"):
                pass
        offered = ["realtime", "openai-insecure-api-key.secret"]
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        async with connect(url, subprotocols=[Subprotocol(name) for name in offered]) as browser:
            assert browser.subprotocol == "realtime"
            assert json.loads(await browser.recv())["type"] == "session.created"


async def append_text(socket: ClientConnection, audio: bytes) -> None:
    text = base64.b64encode(audio).decode()
    await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": text}))


@asynchronous
async def test_a_long_append_and_a_client_that_is_slowed_down() -> None:
    engine, size = FakeEngine(), 2 << 20
    async with (
        serving(engine, backlog_high=2.0, backlog_low=1.0, max_unsent=10_000) as server,
        connect(f"ws://127.0.0.1:{server.port}/v1/realtime", close_timeout=0.2) as socket,
    ):
        second = bytes(48_000)
        await append_text(socket, bytes(size))  # larger than messages of other protocols may be
        await until(lambda: bool(engine.streams) and len(engine.streams[0].audio) == size)
        stream = engine.streams[0]
        stream.behind = 1e9  # seconds
        for _ in range(4):
            await append_text(socket, second)
        await until(lambda: len(stream.audio) == size + 3 * len(second))  # no more is read while so much waits
        stream.look(1.5)
        assert len(stream.audio) == size + 3 * len(second)
        stream.look()
        await until(lambda: len(stream.audio) == size + 4 * len(second))


@asynchronous
async def test_a_session_without_messages_ends() -> None:
    async with serving(FakeEngine(), idle_timeout=0.5) as server, realtime(server) as connection:
        await append(connection, b"x" * 100, 100)
        events = await until_completed(connection, 1)
        assert texts(events) == expected_texts(b"x" * 100)
        error = await connection.recv()
        assert error.type == "error"
        assert error.error.code == "idle_timeout"
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


@asynchronous
async def test_a_server_that_stops_tells_openais_client_the_rest() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, realtime(server) as connection:
        await append(connection, b"x" * 100, 100)
        await until(lambda: bool(engine.streams) and len(engine.streams[0].audio) == 100)
        closing = asyncio.create_task(server.close())
        assert texts(await until_completed(connection, 1)) == expected_texts(b"x" * 100)
        error = await connection.recv()
        assert error.type == "error"
        assert error.error.code == "shutting_down"
        await closing


def test_a_client_that_has_large_sessions_shown_and_does_not_read_is_cut_off() -> None:
    talk = Talk()
    update = {"type": "session.update", "session": {"audio": {"input": {"transcription": {"prompt": "x" * 900_000}}}}}
    for _ in range(20):
        talk.adapter.receive(json.dumps(update))
    assert talk.adapter.aborted
