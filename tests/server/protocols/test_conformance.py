"""What holds in every protocol: the same audio gives the same final words at the same times, exactly one final for each
utterance, and whatever goes wrong is told in the protocol's own way, after the text of all audio that was accepted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from parastream.model import load_final_pass, silero_weights
from parastream.model.errors import CapacityError, EngineError
from parastream.server.app import Server
from parastream.server.config import PROTOCOLS
from parastream.server.protocols.wyoming import EventReader
from parastream.streaming import Engine, EngineConfig, Models, Vad
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ...waiting import until
from ..fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving
from .talking import connected, pieces

Audio = NDArray[np.int16]
Message = dict[str, Any]

WITHIN = 0.05
"""Seconds that times of different protocols may differ."""


# --- what a client of each protocol sends, and what it makes of the answers -------------------


@dataclass
class Heard:
    """What a client made of a session."""

    texts: list[str] = field(default_factory=list)
    """One for each final."""
    spoken: list[tuple[float, float]] = field(default_factory=list)
    """Where the first word of each begins and the last one ends, in seconds, where the protocol says so."""
    utterances: list[tuple[float, float]] = field(default_factory=list)
    """Where each begins and ends, pre-roll and hangover included, where the protocol says so."""
    items: dict[str, int] = field(default_factory=dict)
    """Which of the utterances each item of OpenAI's is."""

    @property
    def words(self) -> list[list[str]]:
        """Of each final, without marks and capitals."""
        return [plain(text) for text in self.texts]


def plain(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text).lower().split()


@dataclass(frozen=True)
class Client:
    """A client of one protocol, as far as it differs from others."""

    path: str
    """Empty: it is no WebSocket."""
    opening: Sequence[str]
    audio: Callable[[Audio], bytes]
    """What a message of samples at 16 kHz holds."""
    message: Callable[[bytes], str | bytes]
    """What is sent for it."""
    ending: Sequence[str | bytes]
    hear: Callable[[Heard, Message], None]
    """Takes an answer."""
    size: int = 3200
    """Bytes of a message of audio."""
    joins: bool = False
    """Whether one answer tells all utterances that have ended since the last one, as many as that may be."""


def s16le(samples: Audio) -> bytes:
    return samples.astype("<i2").tobytes()


def f32le(samples: Audio) -> bytes:
    return (samples / np.float32(32768)).astype("<f4").tobytes()


def at_24_khz(samples: Audio) -> bytes:
    resampled: Audio = soxr.resample(samples, 16000, 24000)
    return s16le(resampled)


def event(kind: str, payload: bytes = b"") -> bytes:
    """An event of Wyoming."""
    data = {} if kind == "audio-stop" else {"rate": 16000, "width": 2, "channels": 1}
    header = {"type": kind, "data": data, "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + payload


def hear_native(heard: Heard, message: Message) -> None:
    if message["type"] == "final":
        heard.texts.append(message["text"])
        heard.utterances.append((message["start"], message["end"]))
        if message["words"]:
            heard.spoken.append((message["words"][0]["start"], message["words"][-1]["end"]))


def hear_funasr(heard: Heard, message: Message) -> None:
    if message["mode"] == "2pass-offline" and message["text"]:
        heard.texts.append(message["text"])
        if message.get("stamp_sents"):
            sentences = message["stamp_sents"]
            heard.spoken.append((sentences[0]["start"] / 1000, sentences[-1]["end"] / 1000))


def hear_funasr_realtime(heard: Heard, message: Message) -> None:
    if "sentences" in message:  # all of them, each time
        heard.texts[:] = [sentence["text"] for sentence in message["sentences"]]
        heard.utterances[:] = [(sentence["start"] / 1000, sentence["end"] / 1000) for sentence in message["sentences"]]


def hear_openai(heard: Heard, message: Message) -> None:
    match message["type"]:
        case "conversation.item.input_audio_transcription.completed":
            if message["transcript"]:  # a commit makes an item without words if the last utterance has ended by itself
                heard.texts.append(message["transcript"])
        case "input_audio_buffer.speech_started":
            heard.items[message["item_id"]] = len(heard.utterances)
            heard.utterances.append((message["audio_start_ms"] / 1000, 0.0))
        case "input_audio_buffer.speech_stopped":  # when the next one may have begun
            index = heard.items[message["item_id"]]
            heard.utterances[index] = heard.utterances[index][0], message["audio_end_ms"] / 1000


def hear_deepgram(heard: Heard, message: Message) -> None:
    if message.get("type") == "Results" and message["is_final"]:
        best = message["channel"]["alternatives"][0]
        if best["transcript"]:
            heard.texts.append(best["transcript"])
        if best["words"]:
            heard.spoken.append((best["words"][0]["start"], best["words"][-1]["end"]))


def hear_flux(heard: Heard, message: Message) -> None:
    if message.get("event") == "EndOfTurn":
        heard.texts.append(message["transcript"])
        heard.spoken.append((message["words"][0]["start"], message["words"][-1]["end"]))


def hear_vosk(heard: Heard, message: Message) -> None:
    if message.get("text"):
        heard.texts.append(message["text"])
        if "result" in message:
            heard.spoken.append((message["result"][0]["start"], message["result"][-1]["end"]))


def hear_sherpa(heard: Heard, message: Message) -> None:
    if message.get("is_final"):
        heard.texts.append(message["text"])
        heard.spoken.append((message["start_time"] + message["timestamps"][0], -1.0))


def hear_wyoming(heard: Heard, message: Message) -> None:
    if message["type"] == "transcript-chunk":
        heard.texts.append(message["text"])


def in_base64(data: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()})


def as_it_is(data: bytes) -> bytes:
    return data


CLIENTS = {
    "parastream": Client("/v1/stream", ['{"type":"start"}'], s16le, as_it_is, ['{"type":"stop"}'], hear_native),
    "funasr": Client(
        "/",
        ['{"mode":"2pass","is_speaking":true}'],
        s16le,
        as_it_is,
        ['{"is_speaking":false,"is_end":true}'],
        hear_funasr,
    ),
    "funasr-realtime": Client("/funasr-realtime", ["START"], s16le, as_it_is, ["STOP"], hear_funasr_realtime),
    "openai": Client(
        "/v1/realtime?intent=transcription",
        ['{"type":"session.update","session":{"type":"transcription"}}'],
        at_24_khz,
        in_base64,
        ['{"type":"input_audio_buffer.commit"}'],
        hear_openai,
        size=4800,
    ),
    "deepgram": Client(
        "/v1/listen?encoding=linear16&sample_rate=16000",
        [],
        s16le,
        as_it_is,
        ['{"type":"CloseStream"}'],
        hear_deepgram,
    ),
    "flux": Client(
        "/v2/listen?model=flux-general-en&encoding=linear16&sample_rate=16000",
        [],
        s16le,
        as_it_is,
        ['{"type":"CloseStream"}'],
        hear_flux,
    ),
    "vosk": Client(
        "/vosk", ['{"config":{"sample_rate":16000,"words":1}}'], s16le, as_it_is, ['{"eof":1}'], hear_vosk, joins=True
    ),
    "sherpa": Client("/sherpa", [], f32le, as_it_is, ["Done"], hear_sherpa, size=6400),
    "wyoming": Client("", [], s16le, lambda data: event("audio-chunk", data), [event("audio-stop")], hear_wyoming),
}

EACH = pytest.mark.parametrize("name", CLIENTS)
WITH_PATHS = [name for name, client in CLIENTS.items() if client.path]
WEBSOCKETS = pytest.mark.parametrize("name", WITH_PATHS)


def test_there_is_a_client_for_each_protocol() -> None:
    assert set(CLIENTS) == set(PROTOCOLS)


# --- connections ------------------------------------------------------------------------------


class Wyoming:
    """A TCP connection in the form of a WebSocket; closing it has no code."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._events = reader, writer, EventReader()
        self.transport = writer.transport

    async def send(self, data: str | bytes) -> None:
        self._writer.write(data if isinstance(data, bytes) else data.encode())
        await self._writer.drain()

    async def recv(self) -> str:
        while (found := self._events.next()) is None:
            data = await self._reader.read(4096)
            if not data:
                raise ConnectionClosed(None, None)
            self._events.push(data)
        return json.dumps({"type": found[0]} | found[1])


@asynccontextmanager
async def wyoming(server: Server) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["wyoming"])
    try:
        yield Wyoming(reader, writer)
    finally:
        writer.close()


def connection(server: Server, client: Client) -> AbstractAsyncContextManager[Any]:
    return connected(server, client.path) if client.path else wyoming(server)


async def answers(socket: Any) -> tuple[list[Message], int | None]:
    """All messages until the server closes, and the code that it closes with, if there is one."""
    messages: list[Message] = []
    try:
        while True:
            text = await socket.recv()
            if text != "Done!":
                messages.append(json.loads(text))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code if closed.rcvd else None


async def send(socket: Any, client: Client, samples: Audio) -> None:
    for piece in pieces(client.audio(samples), client.size):
        await socket.send(client.message(piece))


async def converse(server: Server, client: Client, samples: Audio, expected: int) -> Heard:
    """Send everything and listen to the end. Where the protocol waits for more, that is the end of the server, which is
    stopped once the expected number of finals has come: what it still had to say comes, too.
    """
    heard, closed = Heard(), False

    async def stop() -> None:
        await sending
        await until(lambda: closed or len(heard.texts) >= expected)
        await server.close()

    async with connection(server, client) as socket:
        for message in client.opening:
            await socket.send(message)
        sending = asyncio.create_task(send_all(socket, client, samples))
        stopping = asyncio.create_task(stop())
        with suppress(ConnectionClosed):
            while True:
                text = await socket.recv()
                if text != "Done!" and not (answer := json.loads(text)).get("code"):
                    client.hear(heard, answer)
        closed = True
        await stopping
    return heard


async def send_all(socket: Any, client: Client, samples: Audio) -> None:
    await send(socket, client, samples)
    for message in client.ending:
        await socket.send(message)


# --- the same audio ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def native(engine: Engine, sample: Audio) -> Heard:
    """What the native protocol tells of the sample."""
    found: list[Heard] = []

    @asynchronous
    async def run() -> None:
        async with serving(engine) as server:
            found.append(await converse(server, CLIENTS["parastream"], sample, 3))

    run()
    return found[0]


@EACH
def test_the_same_audio_gives_the_same_words_once_and_at_the_same_times(
    engine: Engine, sample: Audio, native: Heard, name: str
) -> None:
    assert len(native.texts) == 3

    @asynchronous
    async def run() -> None:
        async with serving(engine, listen=("wyoming=0",)) as server:
            heard = await converse(server, CLIENTS[name], sample, 3)
        spoken = native.spoken
        if CLIENTS[name].joins:
            assert list(chain(*heard.words)) == list(chain(*native.words))
            heard.spoken = [(heard.spoken[0][0], heard.spoken[-1][1])]
            spoken = [(spoken[0][0], spoken[-1][1])]
        else:
            assert heard.words == native.words
        for told, expected in ((heard.spoken, spoken), (heard.utterances, native.utterances)):
            for (start, end), (expected_start, expected_end) in zip(told, expected, strict=bool(told)):
                assert start == pytest.approx(expected_start, abs=WITHIN)
                assert end < 0 or end == pytest.approx(expected_end, abs=WITHIN)

    run()


SENSEVOICE = Path(__file__).parents[2] / "reference" / "sensevoice" / "model"


@pytest.fixture(scope="module")
def whole() -> Iterator[Engine]:
    """An engine without a streaming model: a small SenseVoice with random weights, whose words mean nothing."""

    def load() -> Models:
        return Models(None, Vad(silero_weights.load()), load_final_pass(SENSEVOICE, dtype="float32"))

    engine = Engine(load, EngineConfig(target_utilisation=math.inf))
    engine.start()
    engine.wait_ready(60)
    yield engine
    engine.close()


@EACH
def test_a_model_for_whole_utterances_hears_in_every_protocol(whole: Engine, sample: Audio, name: str) -> None:
    found: list[Heard] = []

    @asynchronous
    async def run() -> None:
        async with serving(whole, listen=("wyoming=0",)) as server:
            found.append(await converse(server, CLIENTS[name], sample, 3))

    run()
    assert len(found[0].texts) in ((1, 2, 3) if CLIENTS[name].joins else (3,))
    assert all(found[0].texts)


# --- what goes wrong --------------------------------------------------------------------------

SAMPLES = np.frombuffer(b"ab" * (UTTERANCE // 2), np.int16)
CLOSE_CODES = {"wyoming": None}


def closes_with(name: str, code: int) -> int | None:
    return CLOSE_CODES.get(name, code)


def finals(client: Client, messages: Sequence[Message]) -> list[str]:
    """Texts of messages that are not errors."""
    heard = Heard()
    for message in messages:
        if not message.get("code"):
            client.hear(heard, message)
    return [text.strip() for text in heard.texts]


def said(client: Client) -> list[str]:
    """What the scripted engine hears in `SAMPLES`."""
    return expected_texts(client.audio(SAMPLES))


async def begin(socket: Any, client: Client) -> None:
    for message in client.opening:
        await socket.send(message)
    await send(socket, client, SAMPLES)


@asynccontextmanager
async def session(engine: FakeEngine, client: Client) -> AsyncIterator[tuple[Server, Any]]:
    """A server on a scripted engine, and a connection to it."""
    async with serving(engine, listen=("wyoming=0",)) as server, connection(server, client) as socket:
        yield server, socket


async def refused(name: str, engine: FakeEngine) -> str:
    """The last message to a client that cannot begin, whose connection is closed with 1013."""
    async with session(engine, CLIENTS[name]) as (_, socket):
        with suppress(ConnectionClosed):
            await begin(socket, CLIENTS[name])
        messages, code = await answers(socket)
    assert code == closes_with(name, 1013)
    return json.dumps(messages[-1])


@EACH
@asynchronous
async def test_no_room(name: str) -> None:
    engine = FakeEngine()
    engine.refusal = CapacityError("the machine is busy")
    assert "the machine is busy" in await refused(name, engine)


@EACH
@asynchronous
async def test_not_ready(name: str) -> None:
    engine = FakeEngine()
    engine.ready = False
    assert "loading the model, try again later" in await refused(name, engine)


@EACH
@asynchronous
async def test_a_stopping_server_tells_the_text_of_what_it_has_first(name: str) -> None:
    engine, client = FakeEngine(), CLIENTS[name]
    async with session(engine, client) as (server, socket):
        await begin(socket, client)
        size = len(client.audio(SAMPLES))
        await until(lambda: bool(engine.streams) and len(engine.streams[0].audio) == size)
        stopping = asyncio.create_task(server.close())
        messages, code = await answers(socket)
        await stopping
    assert finals(client, messages) == said(client)
    assert "the server is shutting down" in json.dumps(messages[-1])
    assert code == closes_with(name, 1001)


@EACH
def test_the_log_says_why_a_client_was_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    @asynchronous
    async def run() -> None:
        engine = FakeEngine()
        engine.refusal = CapacityError("the machine is busy")
        await refused(name, engine)

    run()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    who = "127.0.0.1" if name == "parastream" else f"{name} 127.0.0.1"
    assert [bool(re.fullmatch(rf".*{who}:\d+: refused: capacity: the machine is busy", line)) for line in told] == [
        True
    ]


@EACH
@asynchronous
async def test_a_failing_engine(name: str) -> None:
    engine, client = FakeEngine(), CLIENTS[name]
    async with session(engine, client) as (_, socket):
        await begin(socket, client)
        await until(lambda: bool(engine.streams))
        engine.streams[0].failure = EngineError("the engine has stopped")
        await send(socket, client, SAMPLES[:1])
        messages, code = await answers(socket)
    assert "the engine has stopped" in json.dumps(messages[-1])
    assert code == closes_with(name, 1011)


@EACH
@asynchronous
async def test_a_client_that_vanishes_ends_its_own_session_only(name: str) -> None:
    engine, client = FakeEngine(), CLIENTS[name]
    heard = Heard()
    settings: dict[str, Any] = {"listen": ("wyoming=0",), "resume_window": 0.05}
    async with serving(engine, **settings) as server, connection(server, client) as gone:
        await begin(gone, client)
        await until(lambda: bool(engine.streams and engine.streams[0].audio))
        async with connection(server, client) as neighbour:
            await begin(neighbour, client)
            await until(lambda: len(engine.streams) == 2)
            gone.transport.abort()
            # Over TCP it may still wait for what it has said.
            await until(lambda: engine.streams[0].cancelled or engine.streams[0].ended)
            for message in client.ending:
                await neighbour.send(message)
            while len(heard.texts) < len(said(client)):
                client.hear(heard, json.loads(await neighbour.recv()))
    assert [text.strip() for text in heard.texts] == said(client)


@WEBSOCKETS
@asynchronous
async def test_a_token_is_asked_for(name: str) -> None:
    client = CLIENTS[name]
    async with serving(FakeEngine(), token="secret") as server:
        with pytest.raises(InvalidStatus) as caught:
            await connection(server, client).__aenter__()
        assert caught.value.response.status_code == 401
        mark = "&" if "?" in client.path else "?"
        async with connected(server, f"{client.path}{mark}token=secret"):
            pass


LARGER_ONES = ("openai", "funasr")
"""Protocols whose clients send more than a mebibyte at once."""


@pytest.mark.parametrize("name", [name for name in WITH_PATHS if name not in LARGER_ONES])
@asynchronous
async def test_a_message_that_is_too_large(name: str, caplog: pytest.LogCaptureFixture) -> None:
    client = CLIENTS[name]
    async with serving(FakeEngine(), max_message=1000) as server, connection(server, client) as socket:
        for message in client.opening:
            await socket.send(message)
        await socket.send(b"x" * 1001)
        _, code = await answers(socket)
    assert code == 1009
    assert name == "parastream" or any("a message is too large: " in message for message in caplog.messages)


@WEBSOCKETS
@asynchronous
async def test_text_that_is_none_is_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    client = CLIENTS[name]
    async with serving(FakeEngine()) as server, connection(server, client) as socket:
        for message in client.opening:
            await socket.send(message)
        await socket.send(b"\xff", text=True)
        _, code = await answers(socket)
    assert code == 1007
    assert name == "parastream" or any("a message is not text: " in message for message in caplog.messages)


@WEBSOCKETS
@pytest.mark.parametrize("text", ["nonsense", "[]", "{}", '{"type":', '{"type":7}', "null", '"\\ud800"', "[" * 10_000])
@asynchronous
async def test_text_that_means_nothing_loses_no_audio(name: str, text: str) -> None:
    """It is answered, ignored, or ends the session, as the protocol has it; what was said before is heard."""
    engine, client = FakeEngine(), CLIENTS[name]
    async with serving(engine) as server, connection(server, client) as socket:
        await begin(socket, client)
        await until(lambda: bool(engine.streams))
        await socket.send(text)
        try:
            for message in client.ending:
                await socket.send(message)
        except ConnectionClosed:
            pass
        heard = Heard()
        while len(heard.texts) < len(said(client)):
            client.hear(heard, json.loads(await socket.recv()))
    assert [each.strip() for each in heard.texts] == said(client)
