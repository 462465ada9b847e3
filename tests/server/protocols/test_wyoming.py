"""Wyoming by hand, and with the client library of Home Assistant over TCP."""

from __future__ import annotations

import asyncio
import socket
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.protocols.base import Request
from parastream.server.protocols.wyoming import LARGEST_PAYLOAD, LONGEST_HEADER, EventReader, Wyoming
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import Engine
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.ping import Ping, Pong

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports audioop
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.info import Describe, Info

from ...conftest import SAMPLE_TEXTS
from ...waiting import until
from ..fakes import UTTERANCE, FakeEngine, admission, asynchronous, expected_texts, serving

FORMAT = {"rate": 16000, "width": 2, "channels": 1}


def encoded(kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> bytes:
    """An event as a client writes it."""
    more = msgspec.json.encode(data) if data else b""
    header = {"type": kind, "data_length": len(more), "payload_length": len(payload)}
    return msgspec.json.encode(header) + b"\n" + more + payload


class Talk:
    """A conversation held by hand."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.adapter = Wyoming(admission(self.engine), Request())
        self._reader = EventReader()

    def say(self, kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        self.adapter.receive(encoded(kind, data, payload))

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        while (sent := self.adapter.take()) is not None:
            assert isinstance(sent, bytes)
            self._reader.push(sent)
        events = []
        while (event := self._reader.next()) is not None:
            events.append(event[:2])
        return events


# --- framing ---------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.text(min_size=1),
        st.dictionaries(st.text(), st.integers(0, 9) | st.text(), max_size=3),
        st.binary(max_size=50),
    ),
    max_size=5,
)


@given(EVENTS, st.integers(1, 40))
def test_events_survive_any_cut(events: list[tuple[str, dict[str, Any], bytes]], size: int) -> None:
    data = b"".join(encoded(*event) for event in events)
    reader, found = EventReader(), []
    for first in range(0, len(data), size):
        reader.push(data[first : first + size])
        while (event := reader.next()) is not None:
            found.append(event)
    assert found == events


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"hello\n", "invalid_json", "an event begins with one line of JSON"),
        (b'{"type":1}\n', "invalid_message", "Expected `str`, got `int` - at `$.type`"),
        (b"{}\n", "invalid_message", "missing required field `type`"),
        (b'{"type":"\xff"}\n', "invalid_json", "an event begins with one line of JSON"),
        (b'{"type":"x","data_length":8}\n{"x":"\xff"', "invalid_json", "the data of an event is one JSON object"),
        (b'{"type":"x","payload_length":-1}\n', "invalid_message", "payload_length is -1; allowed are 0 to"),
        (
            b'{"type":"x","data_length":99999999}\n',
            "invalid_message",
            "data_length is 99999999; allowed are 0 to 65536",
        ),
        (b'{"type":"x","payload_length":%d}\n' % (LARGEST_PAYLOAD + 1), "invalid_message", "payload_length"),
        (b"x" * (LONGEST_HEADER + 1), "invalid_message", "the header is longer than 65536 bytes"),
        (b'{"type":"x","data_length":2}\n[]', "invalid_message", "Expected `object`, got `array`"),
    ],
)
def test_what_is_not_an_event(data: bytes, code: str, message: str) -> None:
    reader = EventReader()
    reader.push(data)
    with pytest.raises(RefusalError) as caught:
        reader.next()
    assert caught.value.code == code
    assert message in caught.value.message


# --- the mapping -----------------------------------------------------------------------------


def test_a_recording_becomes_one_transcript() -> None:
    talk = Talk()
    audio = b"ab" * UTTERANCE
    talk.say("transcribe", {"language": "en", "context": {"turn": 1}, "transcript_names": ["Ann"]})
    talk.say("audio-start", FORMAT)
    talk.say("audio-chunk", FORMAT | {"timestamp": 0}, audio[:UTTERANCE])
    about = {"language": "en", "context": {"turn": 1}}
    first, second = expected_texts(audio)
    assert talk.heard() == [("transcript-start", about), ("transcript-chunk", {"text": first})]
    talk.say("audio-chunk", FORMAT, audio[UTTERANCE:])
    talk.say("audio-stop", {"timestamp": 200})
    assert talk.heard() == [
        ("transcript-chunk", {"text": f" {second}"}),
        ("transcript", {"text": f"{first} {second}", **about}),
        ("transcript-stop", {}),
    ]
    talk.say("audio-chunk", FORMAT, audio[:100])  # another one, without the events that may be left out
    talk.say("audio-stop")
    assert [kind for kind, _ in talk.heard()] == [
        "transcript-start",
        "transcript-chunk",
        "transcript",
        "transcript-stop",
    ]
    assert talk.adapter.ending is None


def test_several_channels_are_mixed() -> None:
    talk = Talk()
    talk.say("audio-chunk", FORMAT | {"channels": 2}, b"ab" * 2 * UTTERANCE)
    (stream,) = talk.engine.streams
    assert (stream.config.format.channels, stream.config.format.channel) == (2, "mix")


def test_silence_is_an_empty_transcript() -> None:
    talk = Talk()
    talk.say("audio-start", FORMAT)
    talk.say("audio-stop")
    assert talk.heard() == [("transcript-start", {}), ("transcript", {"text": ""}), ("transcript-stop", {})]


@pytest.mark.parametrize(
    ("events", "code", "message"),
    [
        ([("audio-stop", {})], "unexpected_message", "audio-stop without audio; allowed: audio-start, audio-chunk"),
        ([("audio-start", FORMAT | {"width": 4})], "unsupported", "samples of 4 bytes; allowed are samples of 2 bytes"),
        ([("audio-start", FORMAT | {"rate": 4000})], "unsupported", "audio rate 4000 is not supported; allowed"),
        ([("audio-start", {"rate": 16000})], "invalid_message", "audio-start: Object missing required field `width`"),
        ([("audio-start", FORMAT | {"rate": "fast"})], "invalid_message", "Expected `int`, got `str` - at `$.rate`"),
        ([("audio-start", FORMAT), ("audio-chunk", FORMAT | {"rate": 8000})], "unsupported", "the format differs"),
        ([("transcribe", {"name": "other"}), ("audio-start", FORMAT)], "unknown_model", "no model 'other'"),
        ([("transcribe", {"name": 7})], "invalid_message", "transcribe: Expected `str | null`, got `int`"),
    ],
)
def test_errors(events: list[tuple[str, dict[str, Any]]], code: str, message: str) -> None:
    talk = Talk()
    for kind, data in events:
        talk.say(kind, data)
    kind, data = talk.heard()[-1]
    assert (kind, data["code"]) == ("error", code)
    assert message in data["text"]
    assert talk.adapter.ending is not None


def test_an_error_comes_after_the_text_of_what_was_accepted() -> None:
    talk = Talk()
    talk.say("audio-chunk", FORMAT, b"x" * 100)
    talk.adapter.receive(b"nonsense\n")
    assert [kind for kind, _ in talk.heard()] == ["transcript-start", "transcript-chunk", "error"]


def test_unknown_events_are_ignored() -> None:
    talk = Talk()
    talk.say("synthesize", {"text": "hello"}, b"payload")
    assert talk.heard() == []
    assert talk.adapter.ending is None


# --- with the client library -----------------------------------------------------------------


async def transcribe(client: AsyncTcpClient, audio: bytes) -> list[Event]:
    """Send a recording and collect the events up to `transcript-stop`."""
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(16000, 2, 1).event())
    for first in range(0, len(audio), 2048):
        await client.write_event(AudioChunk(16000, 2, 1, audio[first : first + 2048]).event())
    await client.write_event(AudioStop().event())
    events: list[Event] = []
    while not events or not TranscriptStop.is_type(events[-1].type):
        event = await client.read_event()
        assert event is not None
        events.append(event)
    return events


@asynchronous
async def test_home_assistant(engine: Engine, sample: NDArray[np.int16]) -> None:
    async with (
        serving(engine, listen=("wyoming=0",)) as server,
        AsyncTcpClient("127.0.0.1", server.ports["wyoming"]) as client,
    ):
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        (program,) = Info.from_event(event).asr
        assert program.supports_transcript_streaming
        assert (program.models[0].name, program.models[0].languages) == ("asr-small-en", ["en"])
        await client.write_event(Ping("here").event())
        event = await client.read_event()
        assert event is not None
        assert Pong.from_event(event).text == "here"
        for _ in range(2):
            start, *chunks, transcript, _ = await transcribe(client, sample.tobytes())
            assert TranscriptStart.from_event(start).language == "en"
            assert Transcript.from_event(transcript).text == " ".join(SAMPLE_TEXTS)
            assert "".join(TranscriptChunk.from_event(chunk).text for chunk in chunks) == " ".join(SAMPLE_TEXTS)


@asynchronous
async def test_a_stopping_server_sends_the_text_first() -> None:
    engine = FakeEngine()
    async with serving(engine, listen=("wyoming=0",)) as server:
        client = AsyncTcpClient("127.0.0.1", server.ports["wyoming"])
        await client.connect()
        await client.write_event(AudioChunk(16000, 2, 1, b"x" * 100).event())
        await until(lambda: engine.streams and engine.streams[0].audio)
    kinds = []
    while (event := await client.read_event()) is not None:
        kinds.append(event.type)
        if Error.is_type(event.type):
            assert Error.from_event(event).code == "shutting_down"
    assert kinds == ["transcript-start", "transcript-chunk", "error"]
    await client.disconnect()


@asynchronous
async def test_an_error_is_read_by_a_client_that_writes_all_of_its_audio_first() -> None:
    """As Home Assistant does, whatever it is told in the meantime."""
    async with (
        serving(FakeEngine(), listen=("wyoming=0",), close_timeout=5.0) as server,
        AsyncTcpClient("127.0.0.1", server.ports["wyoming"]) as client,
    ):
        await client.write_event(AudioStart(96000, 2, 1).event())
        for _ in range(200):
            await client.write_event(AudioChunk(96000, 2, 1, bytes(2048)).event())
        await client.write_event(AudioStop().event())
        event = await client.read_event()
        assert event is not None
        assert Error.from_event(event).text.startswith("audio rate 96000 is not supported")
        assert await client.read_event() is None


@asynchronous
async def test_a_client_that_goes_away_ends_its_audio() -> None:
    engine = FakeEngine()
    async with serving(engine, listen=("wyoming=0",)) as server:
        async with AsyncTcpClient("127.0.0.1", server.ports["wyoming"]) as client:
            await client.write_event(AudioChunk(16000, 2, 1, b"x" * 100).event())
            await until(lambda: engine.streams and engine.streams[0].audio)
        await until(lambda: engine.streams[0].ended)


@asynchronous
async def test_a_client_that_never_reads_is_cut_off() -> None:
    with socket.socket() as client:

        def is_cut_off() -> bool:
            try:
                client.send(encoded("ping"))
            except BlockingIOError:
                return False
            except OSError:
                return True
            return False

        async with serving(FakeEngine(), listen=("wyoming=0",), ping_timeout=0.2) as server:
            client.connect(("127.0.0.1", server.ports["wyoming"]))
            pings = encoded("ping", {"text": "x" * 60_000}) * 150  # fewer answers than may wait
            await asyncio.to_thread(client.sendall, pings)
            client.setblocking(False)
            await until(is_cut_off)


@asynchronous
async def test_a_client_that_never_reads_does_not_hold_up_the_end_of_the_server() -> None:
    engine = FakeEngine()
    with socket.socket() as client:
        async with serving(engine, listen=("wyoming=0",), ping_timeout=1000.0) as server:
            client.connect(("127.0.0.1", server.ports["wyoming"]))
            pings = encoded("ping", {"text": "x" * 60_000}) * 150
            sound = encoded("audio-chunk", FORMAT, b"x" * 100)
            await asyncio.to_thread(client.sendall, pings + sound)
            await until(lambda: engine.streams and engine.streams[0].audio)


def test_the_model_is_not_loaded_yet() -> None:
    talk = Talk()
    talk.engine.loading = True
    talk.say("describe")
    error = {"text": "the models are not loaded yet, try again later", "code": "not_ready"}
    assert talk.heard() == [("error", error)]
    assert talk.adapter.ending is not None


def test_a_token_and_a_protocol_without_tokens_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="wyoming has no tokens"):
        ServerConfig(token="secret", listen=("wyoming=0",))
    assert ServerConfig(token="secret", allow_anonymous=True, listen=("wyoming=0",)).own_ports == {"wyoming": 0}
    for wrong in ("wyoming", "wyoming=", "wyoming=x", "wyoming=70000", "gopher=1"):
        with pytest.raises(ConfigError, match=r"allowed are NAME=PORT with the names parastream, .*wyoming"):
            ServerConfig(listen=(wrong,))
