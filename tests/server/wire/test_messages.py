"""The wire messages themselves."""

from __future__ import annotations

import dataclasses
from typing import get_args

import msgspec
import pytest
from parastream.server.wire.messages import (
    CLOSE_CODES,
    Acknowledged,
    ClientMessage,
    Done,
    Ear,
    EndpointOptions,
    Error,
    ErrorCode,
    Final,
    Flush,
    Flushed,
    Partial,
    Ready,
    Resume,
    ServerMessage,
    SpeechEnded,
    SpeechStarted,
    Start,
    Stats,
    Stop,
    Tags,
    Word,
    decode_server_message,
    encode,
)
from parastream.streaming import EndpointConfig

WORDS = (Word("hello", 0.5, 0.9, 0.75),)


@pytest.mark.parametrize(
    "message",
    [
        Ready("s", "parastream.v1", "m", "s16le", 16000, 1, 0, 320, 20.0, 30.0),
        Ready("s", "p", "m", "s16le", 8000, 1, 0, 0, 20.0, 30.0, 0, ("en",), (Ear("m", True, False, ("en",)),)),
        Acknowledged(640),
        Stats(1.5, 0.25),
        SpeechStarted(0, 0.5, seq=1),
        Partial(0, 0.5, 1.0, "hel", "lo", WORDS, seq=2),
        Tags(0, "happy", "laughter", seq=3),
        Final(0, 0.5, 1.0, "Hello.", WORDS, 0.75, ear="asr-small-en", language="en", seq=3),
        SpeechEnded(0, 1.0, seq=4),
        Flushed(1.0, seq=5),
        Error("unknown_model", "no", ("a", "b"), seq=5),
        Done(2.0, seq=6),
    ],
)
def test_server_messages_survive_the_wire(message: ServerMessage) -> None:
    assert decode_server_message(encode(message)) == message


@pytest.mark.parametrize(
    "message", [Start(rate=8000, endpoint=EndpointOptions(min_silence=0.3)), Flush(), Stop(), Resume("s")]
)
def test_client_messages_survive_the_wire(message: ClientMessage) -> None:
    assert msgspec.json.decode(encode(message), type=ClientMessage) == message


def test_final_on_the_wire() -> None:
    final = Final(0, 0.5, 1.0, "Hello.", WORDS, 0.75, ear="asr-small-en", language="en", seq=3)
    assert msgspec.json.decode(encode(final)) == {
        "type": "final",
        "utterance": 0,
        "start": 0.5,
        "end": 1.0,
        "text": "Hello.",
        "words": [{"text": "hello", "start": 0.5, "end": 0.9, "confidence": 0.75}],
        "confidence": 0.75,
        "channel": 0,
        "ear": "asr-small-en",
        "language": "en",
        "seq": 3,
    }


def test_fields_of_a_newer_server_are_ignored() -> None:
    assert decode_server_message('{"type":"done","duration":1.0,"seq":2,"new":[1]}') == Done(1.0, seq=2)


def test_every_error_that_closes_has_a_close_code() -> None:
    not_closing = {"unauthorized", "forbidden_origin", "unknown_path", "wrong_method", "incomplete_sample"}
    assert set(CLOSE_CODES) == set(get_args(ErrorCode)) - not_closing


def test_endpoint_options_are_those_of_the_endpointer() -> None:
    names = {field.name for field in dataclasses.fields(EndpointConfig)}
    assert set(EndpointOptions.__struct_fields__) == names
