"""The asynchronous client, against the real server with a scripted engine, and its example on real speech."""

from __future__ import annotations

import asyncio
import pickle
import random
import re
from math import inf
from pathlib import Path

import numpy as np
import parastream.client.client
import pytest
from parastream.client import (
    AsyncClient,
    ConnectionFailedError,
    Done,
    Final,
    Partial,
    Reconnected,
    ServerError,
    SpeechEnded,
    SpeechStarted,
    Stats,
    connect,
)
from parastream.client.cli.composition import ModelChoice, local_server
from parastream.server.wire.messages import PROTOCOL, Ready, ServerMessage, encode
from parastream.streaming import events
from parastream.streaming.events import InputRejected, SessionEnded
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.client.cutting_proxy import CuttingProxy
from tests.conftest import SAMPLE, SAMPLE_TEXTS
from tests.server.fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving
from tests.waiting import settle, until

AUDIO = random.Random(0).randbytes(60 * UTTERANCE + 1000)


async def finals(client: AsyncClient) -> list[str]:
    return [event.text async for event in client if isinstance(event, Final)]


def example_of(docstring: str | None, url: str) -> str:
    """The example in a docstring, for another server and recording."""
    code = re.search(r"```python\n(.*?)```", docstring or "", re.DOTALL)
    assert code is not None
    return code[1].replace("ws://127.0.0.1:8765", url).replace("speech.wav", str(SAMPLE))


def test_the_documented_example(capsys: pytest.CaptureFixture[str]) -> None:
    async def example() -> None:
        async with local_server(ModelChoice(model="asr-small-en")) as server:
            url = server.url.removesuffix("/v1/stream")
            code = example_of(parastream.client.client.__doc__, url)
            await asyncio.to_thread(exec, code, {"__name__": "example"})

    asyncio.run(example())
    assert capsys.readouterr().out.splitlines() == SAMPLE_TEXTS


# --- sending and receiving -------------------------------------------------------------------


@asynchronous
async def test_a_session() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connect(server.url, rate=8000, stats=0.001) as client:
        assert (client.ready.model, client.ready.rate) == ("scripted", 8000)
        await client.send(AUDIO[:5000])
        await client.send(memoryview(AUDIO)[5000:])
        events = [await anext(client)]
        while not isinstance(events[-1], Stats):
            events.append(await anext(client))
        await client.stop()
        events += [event async for event in client]
        assert [event.text for event in events if isinstance(event, Final)] == expected_texts(AUDIO)
        assert isinstance(events[-1], Done)
        with pytest.raises(StopAsyncIteration):
            await anext(client)
        with pytest.raises(RuntimeError, match="after stop"):
            await client.send(b"x")
    assert engine.streams[0].audio == AUDIO


@asynchronous
async def test_send_waits_for_acknowledgement_when_the_buffer_is_full() -> None:
    async with serving(FakeEngine(), acknowledge_interval=0.01) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, connect(url, buffer_bytes=2000) as client:
            proxy.freeze()
            await client.send(AUDIO[:2000])
            waiting = asyncio.create_task(client.send(AUDIO[2000:3000]))
            await settle()
            assert not waiting.done()
            proxy.thaw()
            await waiting
            assert client.acknowledged == 2000


@asynchronous
async def test_arrays_are_sent_in_the_format_of_the_session() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connect(server.url, format="f32le", channels=2) as client:
        await client.send(np.array([[16384, -32768]], np.int16))
        with pytest.raises(ValueError, match=r"allowed are \(n,\) and \(n, 2\)"):
            await client.send(np.zeros((3, 1), np.int16))
        await client.stop()
        await finals(client)
    assert engine.streams[0].audio == np.array([0.5, -1.0], "<f4").tobytes()


@asynchronous
async def test_a_reader_that_is_late_gets_the_newest_partial() -> None:
    partials = [Partial(0, 0.0, 1.0, text, "", (), seq=seq) for seq, text in enumerate(("a", "ab", "abc"), 1)]
    messages: list[ServerMessage] = [*partials, Final(0, 0.0, 1.0, "abcd", (), 0.0, seq=4), Done(1.0, seq=5)]
    all_told = asyncio.Event()

    async def tell(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.send(encode(Ready("x", PROTOCOL, "scripted", "s16le", 16000, 1, 0, 0, 20.0, 20.0)), text=True)
        for message in messages:
            await websocket.send(encode(message), text=True)
        await websocket.wait_closed()  # by the client, which has read up to `Done`
        all_told.set()

    async with (
        serve(tell, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)]) as server,
        connect(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}") as client,
    ):
        await all_told.wait()
        events = [event async for event in client]
    assert [event.stable for event in events if isinstance(event, Partial)] == ["abc"]
    assert isinstance(events[-2], Final)


@asynchronous
async def test_a_connection_that_breaks_before_any_audio_costs_nothing() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, connect(url) as client:
            proxy.cut()
            await until(lambda: engine.streams[0].cancelled)
            await client.send(AUDIO)
            await client.stop()
            assert await finals(client) == expected_texts(AUDIO)
    assert engine.streams[-1].audio == AUDIO


@asynchronous
async def test_why_an_utterance_ended_reaches_the_caller() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connect(server.url) as client:
        engine.streams[0].tell([events.SpeechStarted(0, 0.0), events.SpeechEnded(0, 1.0, "cut")])
        assert isinstance(await anext(client), SpeechStarted)
        ended = await anext(client)
    assert isinstance(ended, SpeechEnded)
    assert ended.reason == "cut"


@asynchronous
async def test_leaving_early_drops_the_session() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        async with connect(server.url) as client:
            await client.send(AUDIO)
        await until(lambda: engine.streams[0].cancelled)


# --- errors ----------------------------------------------------------------------------------


@asynchronous
async def test_refusals() -> None:
    engine = FakeEngine()
    async with serving(engine, token="s3cret") as server:
        with pytest.raises(ServerError, match="a valid token is required") as caught:
            await connect(server.url).__aenter__()
        assert caught.value.code == "unauthorized"
        with pytest.raises(ServerError, match=r"no model 'other' on this server \[unknown_model\]") as caught:
            await connect(server.url, token="s3cret", model="other").__aenter__()
        assert caught.value.allowed == ("scripted",)
        async with connect(server.url, token="s3cret") as client:
            assert client.ready.session


@asynchronous
async def test_no_server() -> None:
    async with serving(FakeEngine()) as server:
        url = server.url
    with pytest.raises(ConnectionFailedError, match=f"cannot connect to {url}"):
        await connect(url).__aenter__()
    with pytest.raises(ConnectionFailedError, match="cannot connect to nonsense"):
        await connect("nonsense").__aenter__()


@asynchronous
async def test_an_error_comes_after_the_events_before_it() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connect(server.url) as client:
        await client.send(AUDIO)
        await until(lambda: engine.streams[0].audio == AUDIO)
        engine.streams[0].tell([InputRejected("invalid_audio", "sample 7 is NaN")])
        texts: list[str] = []

        async def listen() -> None:
            async for event in client:
                if isinstance(event, Final):
                    texts.append(event.text)

        with pytest.raises(ServerError, match="sample 7 is NaN") as caught:
            await listen()
        assert texts == expected_texts(AUDIO)
        assert caught.value.code == "invalid_audio"
        with pytest.raises(ServerError, match="sample 7 is NaN"):
            await client.send(b"x")


@asynchronous
async def test_an_incomplete_sample_is_reported_before_done() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connect(server.url) as client:
        engine.streams[0].tell([InputRejected("incomplete_sample", "one byte is left"), SessionEnded(0.0)])
        with pytest.raises(ServerError, match="one byte is left"):
            await anext(client)
        assert isinstance(await anext(client), Done)


# --- broken connections ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@asynchronous
async def test_cut_at_random_places_nothing_is_lost_or_repeated(seed: int) -> None:
    chance = random.Random(seed)
    engine = FakeEngine()
    reconnections: list[Reconnected] = []
    first = True

    def allowance() -> float:
        nonlocal first
        least, first = (2000 if first else 0), False
        return chance.randrange(least, 30_000)

    async with serving(engine, acknowledge_interval=0.02) as server:
        proxy = CuttingProxy(server.port, allowance)
        async with proxy.running() as url, connect(url, on_reconnect=reconnections.append) as client:

            async def speak() -> None:
                position = 0
                while position < len(AUDIO):
                    size = chance.randrange(1, 4000)
                    await client.send(AUDIO[position : position + size])
                    position += size
                    await asyncio.sleep(0.001)
                await client.stop()

            speaking = asyncio.create_task(speak())
            events = [event async for event in client]
            await speaking
    assert [event.text for event in events if isinstance(event, Final)] == expected_texts(AUDIO)
    assert isinstance(events[-1], Done)
    seqs = [event.seq for event in events if not isinstance(event, Stats)]
    assert seqs == sorted(set(seqs))
    assert engine.streams[0].audio == AUDIO
    assert len(engine.streams) == 1
    assert len(reconnections) > 3
    assert proxy.connections >= 1 + sum(item.attempts for item in reconnections)


@asynchronous
async def test_a_connection_that_went_silent_is_replaced() -> None:
    engine = FakeEngine()
    reconnections: list[Reconnected] = []
    async with serving(engine, ping_interval=0.2, ping_timeout=60.0) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, connect(url, on_reconnect=reconnections.append) as client:
            await client.send(AUDIO[:1000])
            await until(lambda: len(engine.streams[0].audio) == 1000)
            proxy.freeze()
            await client.send(AUDIO[1000:])
            await until(lambda: proxy.connections == 2)
            proxy.thaw()
            await client.stop()
            assert await finals(client) == expected_texts(AUDIO)
    assert reconnections
    assert isinstance(reconnections[0].cause, TimeoutError)


@asynchronous
async def test_a_server_that_is_gone() -> None:
    engine = FakeEngine()
    async with serving(engine, resume_window=0.3) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url:
            async with connect(url) as client:
                await client.send(AUDIO)
                await until(lambda: engine.streams[0].audio == AUDIO)
                await server.close()
                with pytest.raises(ServerError) as caught:
                    await finals(client)
                assert caught.value.code == "shutting_down"
            with pytest.raises(ConnectionFailedError):
                await connect(url).__aenter__()


@asynchronous
async def test_a_session_that_cannot_be_resumed_in_time() -> None:
    async with serving(FakeEngine(), resume_window=0.4) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, connect(url) as client:
            proxy.allowance = lambda: 0
            proxy.cut()
            with pytest.raises(ConnectionFailedError, match=r"could not be resumed in \d+\.\d s"):
                await finals(client)
            with pytest.raises(ConnectionFailedError):
                await client.send(b"x")


@asynchronous
async def test_a_server_that_has_forgotten_the_session() -> None:
    async with serving(FakeEngine()) as server, serving(FakeEngine()) as another:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, connect(url) as client:
            await client.send(AUDIO)
            await anext(client)
            proxy.target = another.port
            proxy.cut()
            with pytest.raises(ServerError) as caught:
                await finals(client)
            assert caught.value.code == "unknown_session"


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(ServerError("unknown_model", "no such model", ("a", "b"))))
    assert str(error) == "no such model [unknown_model] (allowed: a, b)"
    assert (error.code, error.message, error.allowed) == ("unknown_model", "no such model", ("a", "b"))


def test_names_are_loaded_when_they_are_used() -> None:
    assert parastream.client.connect is connect
    with pytest.raises(AttributeError, match="no attribute 'connct'"):
        parastream.client.connct  # noqa: B018
    assert Path(str(parastream.client.__file__)).parent.name == "client"
