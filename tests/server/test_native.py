"""The native protocol as a mapping, without sockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from parastream.model.errors import EngineError
from parastream.server.protocols.native.handler import NativeSession, decode, opening
from parastream.server.sessions.transcription import State, session_configs
from parastream.server.wire import messages
from parastream.server.wire.messages import EndpointOptions, Event, Resume, Start, Stop
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import AudioFormat, Encoding, EndpointConfig, SessionConfig
from parastream.streaming import events as ev

from .fakes import UTTERANCE, FakeEngine, admission, heard


def refusal(text: str | bytes) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        opening(text)
    return caught.value


@pytest.mark.parametrize(
    "text", ["", "hello", "{", '{"type":"start"', '{"type":"start"} x', '{"type":"start","rate":NaN}']
)
def test_text_that_is_not_json(text: str) -> None:
    error = refusal(text)
    assert (error.code, error.close_code) == ("invalid_json", 1007)
    assert "JSON" in error.message


@pytest.mark.parametrize("room", ["a/b", "talk\\n", "é", "x" * 65])
def test_names_that_no_room_can_have(room: str) -> None:
    assert refusal(f'{{"type":"start","room":"{room}"}}').code == "invalid_message"


START_FIELDS = Start.__struct_fields__


@pytest.mark.parametrize(
    ("text", "message", "allowed"),
    [
        ("[]", "Expected `object`, got `array`", ("start", "flush", "stop", "resume")),
        ("{}", "Object missing required field `type`", ("start", "flush", "stop", "resume")),
        ('{"type":"go"}', "Invalid value 'go' - at `$.type`", ("start", "flush", "stop", "resume")),
        ('{"type":3}', "Expected `str` - at `$.type`", ("start", "flush", "stop", "resume")),
        ('{"type":"start","sample_rate":8000}', "Object contains unknown field `sample_rate`", START_FIELDS),
        ('{"type":"stop","now":1}', "Object contains unknown field `now`", ()),
        ('{"type":"start","rate":"16000"}', "Expected `int`, got `str` - at `$.rate`", ()),
        (
            '{"type":"start","format":"mp3"}',
            "Invalid enum value 'mp3' - at `$.format`",
            ("alaw", "f32le", "mulaw", "s16le"),
        ),
        (
            '{"type":"start","endpoint":{"silence":1}}',
            "Object contains unknown field `silence` - at `$.endpoint`",
            EndpointOptions.__struct_fields__,
        ),
        (
            '{"type":"start","endpoint":{"release":"low"}}',
            "Expected `float`, got `str` - at `$.endpoint.release`",
            (),
        ),
        ('{"type":"start","hotwords":[1]}', "Expected `str`, got `int` - at `$.hotwords[0]`", ()),
        ('{"type":"start","stats":-1}', "Expected `float` >= 0.0 - at `$.stats`", ()),
        ('{"type":"resume"}', "Object missing required field `session`", ()),
        ('{"type":"resume","session":"x","received":-1}', "Expected `int` >= 0 - at `$.received`", ()),
        ("[" * 100_000, "Expected `object`, got `array`", ("start", "flush", "stop", "resume")),
        ('{"type":"start","x":' + "[" * 100_000, "Object contains unknown field `x`", None),
    ],
)
def test_json_that_is_not_a_message(text: str, message: str, allowed: tuple[str, ...] | None) -> None:
    error = refusal(text)
    assert (error.code, error.close_code, error.message) == ("invalid_message", 1007, message)
    if allowed is not None:
        assert error.allowed == allowed


def test_opening_messages() -> None:
    assert opening('{"type":"start","rate":8000}') == Start(rate=8000)
    assert opening('{"type":"resume","session":"x","received":3}') == Resume("x", 3)
    for early in (b"\0\0", '{"type":"stop"}', '{"type":"flush"}'):
        error = refusal(early)
        assert (error.code, error.close_code) == ("unexpected_message", 1002)
        assert error.allowed == ("start", "resume")


def test_start_becomes_a_session_config() -> None:
    start = Start(
        format="mulaw",
        rate=8000,
        channels=2,
        channel=1,
        partials=False,
        punctuation=False,
        final_pass=False,
        endpoint=EndpointOptions(min_silence=0.4),
    )
    assert session_configs(start, "model", "alias") == [
        SessionConfig(
            format=AudioFormat(Encoding.MULAW, 8000, 2, 1),
            partials=False,
            punctuate=False,
            final_pass=False,
            endpoint=EndpointConfig(min_silence=0.4),
        )
    ]


def test_each_channel_of_a_start_for_all_is_recognised() -> None:
    start = Start(channels=2, channel="all", labels=("Ann", "Ben"))
    formats = [config.format for config in session_configs(start, "model", "alias")]
    assert formats == [AudioFormat(channels=2, channel=0), AudioFormat(channels=2, channel=1)]


@pytest.mark.parametrize("name", ["", "model", "alias"])
def test_names_of_the_model(name: str) -> None:
    assert session_configs(Start(model=name), "model", "alias") == [SessionConfig()]


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"rate": 7999}, "unsupported", "audio rate 7999 is not supported; allowed: whole numbers 8000 to 48000"),
        ({"rate": 10**30}, "unsupported", "8000 to 48000"),
        ({"channels": 0}, "unsupported", "1 to 8"),
        ({"channels": 2, "channel": 2}, "unsupported", "0 to 1"),
        ({"hotwords": ("parastream",)}, "unsupported", "takes no hotwords"),
        ({"channels": 2, "labels": ("Ann", "Ben")}, "unsupported", "2 labels for 1 recognised channels"),
        ({"model": "other"}, "unknown_model", "there is no model 'other'"),
        ({"endpoint": EndpointOptions(min_silence=99)}, "unsupported", "min_silence 99 is out of range; allowed: 0.1"),
    ],
)
def test_what_a_start_cannot_ask_for(fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(RefusalError, match=message) as caught:
        session_configs(Start(**fields), "model", "alias")
    assert (caught.value.code, caught.value.close_code) == (code, 1003)


class Adapter:
    """A session with scripted streams, one for each channel that is recognised."""

    def __init__(self, start: Start = Start(), *, max_unsent: int = 100) -> None:
        engine = FakeEngine()
        self.session = NativeSession("name", start, admission(engine).begin, max_unsent=max_unsent)
        self.streams = engine.streams
        self.stream = engine.streams[0]

    def sent(self) -> list[Event]:
        events = []
        while (event := self.session.outbox.take()) is not None:
            events.append(event)
        return events


def kinds(sent: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in sent]


def test_a_conversation() -> None:
    conversation = Adapter()
    session = conversation.session
    session.receive(b"ab" * UTTERANCE)
    session.receive('{"type":"stop"}')
    sent = conversation.sent()
    assert kinds(sent) == 2 * ["SpeechStarted", "SpeechEnded", "Final"] + ["Done"]
    expected = cast(ev.Final, heard(0, b"ab" * (UTTERANCE // 2))[-1])
    assert sent[2] == messages.Final(
        0, 0.0, 0.1, expected.text, (messages.Word(expected.text, 0.0, 0.1, 0.5),), 0.5, seq=4
    )
    assert sent[-1] == messages.Done(0.2, seq=9)
    assert session.ending == (1000, "")
    transcription = session.transcription
    assert (transcription.accepted, transcription.seconds, transcription.finals) == (2 * UTTERANCE, 0.2, 2)


def test_every_event_is_mapped() -> None:
    conversation = Adapter()
    word = ev.Word("word", 1.00049, 2.0, 0.123456)
    conversation.stream.tell(
        [
            ev.SpeechStarted(3, 1 / 3),
            ev.Partial(3, 1 / 3, 2.0, "st", " dr", (word,)),
        ]
    )
    wire = messages.Word("word", 1.0, 2.0, 0.1235)
    assert conversation.sent() == [
        messages.SpeechStarted(0, 0.333, seq=1),
        messages.Partial(0, 0.333, 2.0, "st", " dr", (wire,), seq=2),
    ]


def test_an_incomplete_sample_is_told_between_finals_and_done() -> None:
    conversation = Adapter()
    conversation.stream.hold_end = True
    conversation.session.receive('{"type":"stop"}')
    conversation.stream.tell([*heard(0, b"x"), ev.InputRejected("incomplete_sample", "odd"), ev.SessionEnded(1.0)])
    sent = conversation.sent()
    assert kinds(sent)[-3:] == ["Final", "Error", "Done"]
    assert isinstance(error := sent[-2], messages.Error)
    assert (error.code, error.message) == ("incomplete_sample", "odd")
    assert conversation.session.ending == (1000, "")


@pytest.mark.parametrize(
    ("told", "code", "close_code"), [("invalid_audio", "invalid_audio", 1007), ("internal_error", "internal", 1011)]
)
def test_rejected_audio_ends_the_session_after_its_finals(told: str, code: str, close_code: int) -> None:
    conversation = Adapter()
    conversation.session.receive(b"x" * 10)
    conversation.stream.tell([ev.InputRejected(told, "why")])
    sent = conversation.sent()
    assert kinds(sent)[-2:] == ["Final", "Error"]
    assert isinstance(error := sent[-1], messages.Error)
    assert error.code == code
    assert conversation.session.ending == (close_code, f"{code}: why")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ('{"type":"start"}', "unexpected_message"),
        ('{"type":"resume","session":"name"}', "unexpected_message"),
        ("nonsense", "invalid_json"),
        ('{"type":"pause"}', "invalid_message"),
    ],
)
def test_a_wrong_message_in_a_session_loses_no_audio(data: str, code: str) -> None:
    conversation = Adapter()
    conversation.session.receive(b"x" * 10)
    conversation.session.receive(data)
    conversation.session.receive(b"ignored")
    sent = conversation.sent()
    assert kinds(sent)[-2:] == ["Final", "Error"]
    assert isinstance(error := sent[-1], messages.Error)
    assert error.code == code
    assert conversation.session.ending is not None
    assert conversation.session.ending[0] == messages.CLOSE_CODES[code]
    assert conversation.stream.audio == b"x" * 10


def test_audio_after_stop() -> None:
    conversation = Adapter()
    conversation.stream.hold_end = True
    conversation.session.receive('{"type":"stop"}')
    conversation.session.receive('{"type":"stop"}')  # a client that resumed may repeat it
    assert conversation.session.transcription.state is State.ENDING
    conversation.session.receive(b"late")
    conversation.stream.tell([ev.SessionEnded(0.0)])
    assert isinstance(error := conversation.sent()[-1], messages.Error)
    assert (error.code, error.message) == ("unexpected_message", "audio after `stop`")


def test_a_failing_engine_ends_the_session_at_once() -> None:
    conversation = Adapter()
    conversation.stream.failure = EngineError("the engine has stopped")
    conversation.session.receive(b"x")
    assert kinds(conversation.sent()) == ["Error"]
    assert conversation.session.ending == (1011, "internal: the engine has stopped")
    assert conversation.stream.cancelled
    assert conversation.session.transcription.accepted == 0


def test_a_client_that_never_reads_is_cut_off() -> None:
    conversation = Adapter(max_unsent=9)
    conversation.session.receive(b"x" * (10 * UTTERANCE))
    assert kinds(conversation.sent()) == ["Error"]
    assert conversation.session.ending is not None
    assert conversation.session.ending[0] == 1008
    assert conversation.session.aborted
    assert conversation.stream.cancelled


def test_long_close_reasons_fit_a_close_frame() -> None:
    error = RefusalError("internal", "é" * 200)
    assert len(error.close_reason.encode()) <= 123


def test_a_flush_ends_the_utterance_and_the_session_goes_on() -> None:
    conversation = Adapter()
    conversation.session.receive(b"x" * 100)
    conversation.session.receive('{"type":"flush"}')
    assert kinds(conversation.sent()) == ["SpeechStarted", "SpeechEnded", "Final", "Flushed"]
    conversation.session.receive(b"x" * 100)
    conversation.session.receive('{"type":"stop"}')
    conversation.session.receive('{"type":"flush"}')
    assert conversation.session.ending == (1000, "")


def test_channels_become_one_session() -> None:
    conversation = Adapter(Start(channels=2, channel="all"))
    left, right = conversation.streams
    assert (left.config.format.channel, right.config.format.channel) == (0, 1)
    word = ev.Word("word", 1.0, 2.0, 0.5)
    left.tell([ev.SpeechStarted(0, 1.0)])
    right.tell(
        [ev.SpeechStarted(0, 1.1), ev.SpeechEnded(0, 2.0, "silence"), ev.Final(0, 1.1, 2.0, "right", (word,), 0.5)]
    )
    left.tell([ev.SpeechEnded(0, 3.0, "silence"), ev.Final(0, 1.0, 3.0, "left", (word,), 0.5), ev.Flushed(3.0)])
    wire = messages.Word("word", 1.0, 2.0, 0.5)
    assert conversation.sent() == [
        messages.SpeechStarted(0, 1.0, 0, seq=1),
        messages.SpeechStarted(1, 1.1, 1, seq=2),
        messages.SpeechEnded(1, 2.0, 1, seq=3),
        messages.Final(1, 1.1, 2.0, "right", (wire,), 0.5, 1, seq=4),
        messages.SpeechEnded(0, 3.0, 0, seq=5),
        messages.Final(0, 1.0, 3.0, "left", (wire,), 0.5, 0, seq=6),
    ]
    right.tell([ev.Flushed(3.0), ev.SessionEnded(3.0)])
    assert conversation.session.ending is None
    left.tell([ev.SessionEnded(3.0)])
    assert conversation.sent() == [messages.Flushed(3.0, seq=7), messages.Done(3.0, seq=8)]


def test_decode_of_stop() -> None:
    assert decode('{"type":"stop"}') == Stop()
