"""The native protocol as a mapping, without sockets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from parastream.model.errors import EngineError
from parastream.model.hotwords import Hotword
from parastream.model.replacements import Replacements
from parastream.server.protocols.native.decoding import decode, opening
from parastream.server.protocols.native.handler import NativeHandler, NativeSettings
from parastream.server.protocols.native.registry import Registry
from parastream.server.sessions.transcription import State, Transcription, session_configs
from parastream.server.sessions.wording import Wording
from parastream.server.wire import messages
from parastream.server.wire.messages import EndpointOptions, Event, Resume, ServerMessage, Start, Stop
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import AudioFormat, Encoding, EndpointConfig, SessionConfig
from parastream.streaming import events as ev

from ...fakes import UTTERANCE, FakeEngine, admission, heard


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


@pytest.mark.parametrize("room", ["a/b", "talk\\n", "x" * 201])
def test_names_that_no_room_can_have(room: str) -> None:
    assert refusal(f'{{"type":"start","room":"{room}"}}').code == "invalid_message"


START_FIELDS = Start.__struct_fields__
HOTWORD_FIELDS = messages.Hotword.__struct_fields__


@pytest.mark.parametrize(
    ("text", "message", "allowed"),
    [
        ("[]", "Expected `object`, got `array`", ("start", "flush", "hotwords", "stop", "resume")),
        ("{}", "Object missing required field `type`", ("start", "flush", "hotwords", "stop", "resume")),
        ('{"type":"go"}', "Invalid value 'go' - at `$.type`", ("start", "flush", "hotwords", "stop", "resume")),
        ('{"type":3}', "Expected `str` - at `$.type`", ("start", "flush", "hotwords", "stop", "resume")),
        ('{"type":"start","sample_rate":8000}', "Object contains unknown field `sample_rate`", START_FIELDS),
        ('{"type":"stop","now":1}', "Object contains unknown field `now`", ()),
        ('{"type":"start","rate":"16000"}', "Expected `int`, got `str` - at `$.rate`", ()),
        (
            '{"type":"start","format":"mp3"}',
            "Invalid enum value 'mp3' - at `$.format`",
            ("alaw", "encoded", "f32le", "f64le", "mulaw", "s16le", "s24le", "s32le", "u8"),
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
        ('{"type":"start","hotwords":[1]}', "Expected `str | object`, got `int` - at `$.hotwords[0]`", HOTWORD_FIELDS),
        ('{"type":"start","stats":-1}', "Expected `float` >= 0.0 - at `$.stats`", ()),
        ('{"type":"resume"}', "Object missing required field `session`", ()),
        ('{"type":"resume","session":"x","received":-1}', "Expected `int` >= 0 - at `$.received`", ()),
        ("[" * 100_000, "Expected `object`, got `array`", ("start", "flush", "hotwords", "stop", "resume")),
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
        itn=True,
        final_pass=False,
        endpoint=EndpointOptions(min_silence=0.4),
    )
    assert session_configs(start, "model", "alias") == [
        SessionConfig(
            format=AudioFormat(Encoding.MULAW, 8000, 2, 1),
            partials=False,
            punctuate=False,
            itn=True,
            final_pass=False,
            endpoint=EndpointConfig(min_silence=0.4),
        )
    ]


def shown(words: str, start: Start, wording: Wording = Wording()) -> str:
    """What becomes of words in a session."""
    (config,) = session_configs(start, "model", "alias", wording)
    return " ".join(each.text for each in config.replacements.apply(words.split())[0])


def test_rules_of_a_session_come_before_those_of_the_server() -> None:
    server = Wording(Replacements.read(["a => server's", "b => server's"]), "mask")
    assert shown("a b shit", Start(replace=("a => client's",)), server) == "client's server's s***"
    assert shown("a b shit", Start(profanity="drop"), server) == "server's server's"
    assert shown("a shit", Start(profanity="keep")) == shown("a shit", Start()) == "a shit"


def test_a_rule_that_cannot_be_read_is_refused_with_its_number() -> None:
    with pytest.raises(RefusalError) as refused:
        session_configs(Start(replace=("a => b", "/(/ => c")), "model", "alias")
    assert refused.value.code == "unsupported"
    assert refused.value.message.startswith("`replace`, line 2: /(/ is no regular expression of RE2: missing )")


def test_several_channels_are_mixed_unless_one_is_picked() -> None:
    assert [Start(channels=count).channel for count in (1, 2)] == [0, "mix"]
    assert Start(channels=2, channel=0).channel == 0


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
        ({"hotwords": ("",)}, "unsupported", "hotword '' is empty"),
        ({"hotwords": (messages.Hotword("x", 7.0),)}, "unsupported", r"the weight of the hotword 'x' is 7; .*hotwords"),
        ({"hotwords": tuple(map(str, range(1001)))}, "unsupported", "1001 hotwords; allowed are 1000"),
        ({"channels": 2, "labels": ("Ann", "Ben")}, "unsupported", "2 labels for 1 recognised channels"),
        ({"model": "other"}, "unknown_model", "there is no model 'other'"),
        ({"endpoint": EndpointOptions(min_silence=99)}, "unsupported", "min_silence 99 is out of range; allowed: 0.1"),
    ],
)
def test_what_a_start_cannot_ask_for(fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(RefusalError, match=message) as caught:
        session_configs(Start(**fields), "model", "alias")
    assert (caught.value.code, caught.value.close_code) == (code, 1003)


class Talk:
    """A session with scripted streams, one for each channel that is recognised, and the handler of its connection."""

    def __init__(self, start: Start = Start(), *, max_unsent: int = 100, **settings: Any) -> None:
        self.now = 1000.0
        self.engine = FakeEngine()
        self.registry = Registry(
            admission(self.engine, **settings), lambda: self.now, resume_window=30.0, max_unsent=max_unsent
        )
        self.handler = self.connect()
        self.handler.receive(messages.encode(start).decode())
        self.streams = self.engine.streams
        self.stream = self.streams[0]
        (self.ready,) = self.taken()

    def connect(self) -> NativeHandler:
        settings = NativeSettings(start_timeout=10.0, acknowledge_interval=1.0, heartbeat=20.0, resume_window=30.0)
        return NativeHandler(self.registry, settings, lambda: self.now, peer="test")

    def receive(self, data: str | bytes) -> None:
        self.handler.receive(data)

    @property
    def transcription(self) -> Transcription:
        (transcription,) = self.registry.admission.open
        return transcription

    def taken(self) -> list[ServerMessage]:
        """What was sent since the last time."""
        sent = []
        while (message := self.handler.take()) is not None:
            sent.append(messages.decode_server_message(message))
        return sent

    def sent(self) -> list[Event]:
        """The events in that."""
        return [message for message in self.taken() if isinstance(message, Event)]


def kinds(sent: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in sent]


def test_a_talk() -> None:
    talk = Talk()
    transcription = talk.transcription
    talk.receive(b"ab" * UTTERANCE)
    talk.receive('{"type":"stop"}')
    sent = talk.sent()
    assert kinds(sent) == 2 * ["SpeechStarted", "SpeechEnded", "Final"] + ["Done"]
    expected = cast(ev.Final, heard(0, b"ab" * (UTTERANCE // 2))[-1])
    assert sent[2] == messages.Final(
        0, 0.0, 0.1, expected.text, (messages.Word(expected.text, 0.0, 0.1, 0.5),), 0.5, seq=4
    )
    assert sent[-1] == messages.Done(0.2, seq=9)
    assert talk.handler.ending == (1000, "")
    assert (transcription.accepted, transcription.seconds, transcription.finals) == (2 * UTTERANCE, 0.2, 2)


def test_every_event_is_mapped() -> None:
    talk = Talk()
    word = ev.Word("word", 1.0, 2.0, 0.1235)
    talk.stream.tell(
        [
            ev.SpeechStarted(3, 0.333),
            ev.Partial(3, 0.333, 2.0, "st", " dr", (word,)),
        ]
    )
    wire = messages.Word("word", 1.0, 2.0, 0.1235)
    assert talk.sent() == [
        messages.SpeechStarted(0, 0.333, seq=1),
        messages.Partial(0, 0.333, 2.0, "st", " dr", (wire,), seq=2),
    ]


def test_an_incomplete_sample_is_told_between_finals_and_done() -> None:
    talk = Talk()
    talk.stream.hold_end = True
    talk.receive('{"type":"stop"}')
    talk.stream.tell([*heard(0, b"x"), ev.InputRejected("incomplete_sample", "odd"), ev.SessionEnded(1.0)])
    sent = talk.sent()
    assert kinds(sent)[-3:] == ["Final", "Error", "Done"]
    assert isinstance(error := sent[-2], messages.Error)
    assert (error.code, error.message) == ("incomplete_sample", "odd")
    assert talk.handler.ending == (1000, "")


@pytest.mark.parametrize(
    ("told", "code", "close_code"), [("invalid_audio", "invalid_audio", 1007), ("internal_error", "internal", 1011)]
)
def test_rejected_audio_ends_the_session_after_its_finals(told: str, code: str, close_code: int) -> None:
    talk = Talk()
    talk.receive(b"x" * 10)
    talk.stream.tell([ev.InputRejected(told, "why")])
    sent = talk.sent()
    assert kinds(sent)[-2:] == ["Final", "Error"]
    assert isinstance(error := sent[-1], messages.Error)
    assert error.code == code
    assert talk.handler.ending == (close_code, f"{code}: why")


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
    talk = Talk()
    talk.receive(b"x" * 10)
    talk.receive(data)
    talk.receive(b"ignored")
    sent = talk.sent()
    assert kinds(sent)[-2:] == ["Final", "Error"]
    assert isinstance(error := sent[-1], messages.Error)
    assert error.code == code
    assert talk.handler.ending is not None
    assert talk.handler.ending[0] == messages.CLOSE_CODES[code]
    assert talk.stream.audio == b"x" * 10


def test_audio_after_stop() -> None:
    talk = Talk()
    talk.stream.hold_end = True
    talk.receive('{"type":"stop"}')
    talk.receive('{"type":"stop"}')  # a client that resumed may repeat it
    assert talk.transcription.state is State.ENDING
    talk.receive(b"late")
    talk.stream.tell([ev.SessionEnded(0.0)])
    assert isinstance(error := talk.sent()[-1], messages.Error)
    assert (error.code, error.message) == ("unexpected_message", "audio after `stop`")


def test_a_failing_engine_ends_the_session_at_once() -> None:
    talk = Talk()
    transcription = talk.transcription
    talk.stream.failure = EngineError("the engine has stopped")
    talk.receive(b"x")
    assert kinds(talk.sent()) == ["Error"]
    assert talk.handler.ending == (1011, "internal: the engine has stopped")
    assert talk.stream.cancelled
    assert transcription.accepted == 0


def test_a_client_that_never_reads_is_cut_off() -> None:
    talk = Talk(max_unsent=9)
    talk.receive(b"x" * (10 * UTTERANCE))
    assert kinds(talk.sent()) == ["Error"]
    assert talk.handler.ending is not None
    assert talk.handler.ending[0] == 1008
    assert talk.handler.aborted
    assert talk.stream.cancelled


def test_long_close_reasons_fit_a_close_frame() -> None:
    error = RefusalError("internal", "é" * 200)
    assert len(error.close_reason.encode()) <= 123


def test_hotwords_of_the_server_and_of_the_session(tmp_path: Path) -> None:
    everywhere = tmp_path / "hotwords.txt"
    everywhere.write_text("parastream 2\nMLX\n")
    talk = Talk(Start(hotwords=("Nguyễn", messages.Hotword("MLX", 0.5, ("m l x",)))), hotwords=str(everywhere))
    talk.receive('{"type":"hotwords","hotwords":["GPT-4o",{"term":"parastream","weight":1}]}')
    talk.receive('{"type":"hotwords","hotwords":[]}')
    assert talk.stream.expected == [
        (Hotword("parastream", 2.0), Hotword("MLX", 0.5, ("m l x",)), Hotword("Nguyễn")),
        (Hotword("parastream", 1.0), Hotword("MLX"), Hotword("GPT-4o")),
        (Hotword("parastream", 2.0), Hotword("MLX")),
    ]
    assert talk.sent() == []


def test_hotwords_that_cannot_be_used_end_the_session_after_its_finals() -> None:
    talk = Talk()
    talk.receive(b"x" * 10)
    talk.receive('{"type":"hotwords","hotwords":[{"term":"x","weight":9}]}')
    sent = talk.sent()
    assert kinds(sent)[-2:] == ["Final", "Error"]
    assert isinstance(error := sent[-1], messages.Error)
    assert (error.code, "allowed are 0.1 to 5" in error.message) == ("unsupported", True)
    assert talk.stream.expected == [()]


def test_hotwords_after_stop() -> None:
    talk = Talk()
    talk.stream.hold_end = True
    talk.receive('{"type":"stop"}')
    talk.receive('{"type":"hotwords","hotwords":[]}')
    talk.stream.tell([ev.SessionEnded(1.0)])
    (error,) = talk.sent()
    assert isinstance(error, messages.Error)
    assert (error.code, error.message) == ("unexpected_message", "`hotwords` after `stop`")


def test_many_hotwords_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Talk(Start(hotwords=tuple(map(str, range(201)))))
    assert "201 hotwords" in caplog.text


def test_a_flush_ends_the_utterance_and_the_session_goes_on() -> None:
    talk = Talk()
    talk.receive(b"x" * 100)
    talk.receive('{"type":"flush"}')
    assert kinds(talk.sent()) == ["SpeechStarted", "SpeechEnded", "Final", "Flushed"]
    talk.receive(b"x" * 100)
    talk.receive('{"type":"stop"}')
    talk.receive('{"type":"flush"}')
    assert talk.handler.ending == (1000, "")


def test_channels_become_one_session() -> None:
    talk = Talk(Start(channels=2, channel="all"))
    left, right = talk.streams
    assert (left.config.format.channel, right.config.format.channel) == (0, 1)
    word = ev.Word("word", 1.0, 2.0, 0.5)
    left.tell([ev.SpeechStarted(0, 1.0)])
    right.tell(
        [ev.SpeechStarted(0, 1.1), ev.SpeechEnded(0, 2.0, "silence"), ev.Final(0, 1.1, 2.0, "right", (word,), 0.5)]
    )
    left.tell([ev.SpeechEnded(0, 3.0, "silence"), ev.Final(0, 1.0, 3.0, "left", (word,), 0.5), ev.Flushed(3.0)])
    wire = messages.Word("word", 1.0, 2.0, 0.5)
    assert talk.sent() == [
        messages.SpeechStarted(0, 1.0, 0, seq=1),
        messages.SpeechStarted(1, 1.1, 1, seq=2),
        messages.SpeechEnded(1, 2.0, 1, seq=3),
        messages.Final(1, 1.1, 2.0, "right", (wire,), 0.5, 1, seq=4),
        messages.SpeechEnded(0, 3.0, 0, seq=5),
        messages.Final(0, 1.0, 3.0, "left", (wire,), 0.5, 0, seq=6),
    ]
    right.tell([ev.Flushed(3.0), ev.SessionEnded(3.0)])
    assert talk.handler.ending is None
    left.tell([ev.SessionEnded(3.0)])
    assert talk.sent() == [messages.Flushed(3.0, seq=7), messages.Done(3.0, seq=8)]


def test_decode_of_stop() -> None:
    assert decode('{"type":"stop"}') == Stop()


@pytest.mark.parametrize("wanted", [1e-9, 0.05, 1e-300])
def test_statistics_are_not_told_more_often_than_ten_times_a_second(wanted: float) -> None:
    now = 100.0
    settings = NativeSettings(start_timeout=10, acknowledge_interval=60, heartbeat=60, resume_window=30)
    registry = Registry(admission(FakeEngine()), lambda: now, resume_window=30.0, max_unsent=10)
    handler = NativeHandler(registry, settings, lambda: now, peer="peer")
    handler.receive(f'{{"type": "start", "stats": {wanted}}}')
    assert handler.tick(now) >= now + 0.1
