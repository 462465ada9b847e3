"""What a client's calls leave behind when they are cancelled, time out, or their block raises: nothing lost or open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import Any

import pytest
from parastream.client import AsyncClient, ClientEvent, Done, Final, Flushed, connect, connection
from parastream.client import client as client_module

from tests.client.cutting_proxy import CuttingProxy
from tests.server.fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving
from tests.waiting import LIMIT, settle, until

AUDIO = random.Random(1).randbytes(40 * UTTERANCE + 1000)


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Assert that no task of a client remains, and that the loop has nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("parastream client")]
    assert left == []
    gc.collect()  # tasks complain when they are collected
    await settle()
    assert complaints == []


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def texts_of(client: AsyncClient) -> list[str]:
    return [event.text async for event in client if isinstance(event, Final)]


# --- entering and leaving ----------------------------------------------------------------------


@asynchronous
async def test_a_client_that_is_left_at_once_leaves_nothing() -> None:
    engine = FakeEngine()
    async with serving(engine, resume_window=1000.0) as server, nothing_left():
        async with connect(server.url):
            pass
        await until(lambda: engine.streams[0].cancelled)


@asynchronous
async def test_a_block_that_raises_drops_the_session() -> None:
    engine = FakeEngine()
    async with serving(engine, resume_window=1000.0) as server, nothing_left():
        client = connect(server.url)

        async def fail() -> None:
            async with client:
                await client.send(AUDIO)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        await until(lambda: engine.streams[0].cancelled)
        with pytest.raises(RuntimeError, match="the session has ended"):
            await client.send(b"x")


@asynchronous
async def test_a_cancelled_block_drops_the_session() -> None:
    engine = FakeEngine()
    async with serving(engine, resume_window=1000.0) as server, nothing_left():

        async def listen() -> None:
            async with connect(server.url) as client:
                await texts_of(client)

        listening = asyncio.create_task(listen())
        await until(lambda: bool(engine.streams))
        await settle()
        await cancel(listening)
        await until(lambda: engine.streams[0].cancelled)


@asynchronous
async def test_a_cancelled_attempt_to_connect_leaves_nothing_and_can_be_repeated() -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reached.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        gone.set()
        writer.close()

    async with serving(FakeEngine()) as server, await asyncio.start_server(be_silent, "127.0.0.1", 0) as silent:
        proxy = CuttingProxy(silent.sockets[0].getsockname()[1], lambda: inf)
        async with proxy.running() as url, nothing_left():
            client = connect(url, open_timeout=1000.0)
            entering = asyncio.create_task(client.__aenter__())
            await reached.wait()
            await cancel(entering)
            await gone.wait()
            proxy.target = server.port
            async with client:
                await client.send(AUDIO)
                await client.stop()
                assert await texts_of(client) == expected_texts(AUDIO)


@asynchronous
async def test_a_session_that_began_while_connecting_was_cancelled_is_dropped() -> None:
    engine = FakeEngine()
    async with serving(engine, resume_window=1000.0) as server, nothing_left():
        client = connect(server.url)
        entering = asyncio.create_task(client.__aenter__())
        while not engine.streams:  # without giving the answer time to arrive
            await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await until(lambda: engine.streams[0].cancelled)


@asynchronous
async def test_a_client_is_entered_once() -> None:
    async with serving(FakeEngine()) as server, nothing_left():
        async with connect(server.url) as client:
            with pytest.raises(RuntimeError, match="entered already"):
                await client.__aenter__()
        with pytest.raises(RuntimeError, match="entered already"):
            await client.__aenter__()


@asynchronous
async def test_a_client_that_is_not_open_says_so() -> None:
    client = connect("ws://127.0.0.1:9")
    for call in (client.send(b"x"), client.flush(), client.stop(), client.__anext__()):
        with pytest.raises(RuntimeError, match="not open"):
            await call
    await client.close()


@asynchronous
async def test_closing_does_not_wait_for_a_server_that_is_gone() -> None:
    async with serving(FakeEngine()) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, nothing_left():
            async with connect(url) as client:
                proxy.freeze()
                await client.send(bytes(7 << 20))  # more than any buffer on the way takes
                await settle()
            await client.close()


@asynchronous
async def test_a_cancelled_close_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may take longer than closing is usually allowed to.
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", LIMIT)
    monkeypatch.setattr(client_module, "leave", partial(connection.leave, patience=LIMIT))
    async with serving(FakeEngine()) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, nothing_left():
            client = await connect(url).__aenter__()
            proxy.freeze()
            closing = asyncio.create_task(client.close())
            await settle()
            assert not closing.done()
            await cancel(closing)
            assert client._websocket.state.name == "CLOSED"


@asynchronous
async def test_events_that_came_before_the_end_can_still_be_read() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, nothing_left():
        async with connect(server.url, partials=False) as client:
            await client.send(AUDIO[:UTTERANCE])
            first = await anext(client)
            await until(lambda: len(client._session._events) == 2)
        rest = [event async for event in client]
    assert [type(event).__name__ for event in [first, *rest]] == ["SpeechStarted", "SpeechEnded", "Final"]


# --- sending -----------------------------------------------------------------------------------


@asynchronous
async def test_a_cancelled_send_has_taken_nothing() -> None:
    engine = FakeEngine()
    async with serving(engine, acknowledge_interval=0.01) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, nothing_left(), connect(url, buffer_bytes=2000) as client:
            proxy.freeze()
            await client.send(AUDIO[:2000])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.send(AUDIO[2000:])
            assert client.accepted == 2000
            proxy.thaw()
            await client.send(AUDIO[2000:])
            await client.stop()
            assert await texts_of(client) == expected_texts(AUDIO)
    assert engine.streams[0].audio == AUDIO


@pytest.mark.parametrize("seed", range(5))
@asynchronous
async def test_calls_cancelled_at_random_moments_lose_and_repeat_nothing(seed: int) -> None:
    chance = random.Random(seed)
    engine = FakeEngine()

    async def hurried(task: asyncio.Task[Any]) -> bool:
        """Cancel a call after a while, unless it is done by then; return whether it did what it should."""
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return not task.cancelled()

    async with (
        serving(engine, acknowledge_interval=0.001) as server,
        nothing_left(),
        connect(server.url, buffer_bytes=5000) as client,
    ):

        async def speak() -> None:
            position = 0
            while position < len(AUDIO):
                block = AUDIO[position : position + chance.randrange(1, 4000)]
                if await hurried(asyncio.create_task(client.send(block))):
                    position += len(block)
            await client.stop()

        speaking = asyncio.create_task(speak())
        events: list[ClientEvent] = []
        while not events or not isinstance(events[-1], Done):
            listening: asyncio.Task[Any] = asyncio.ensure_future(client.__anext__())
            if await hurried(listening):
                events.append(listening.result())
        await speaking
    assert engine.streams[0].audio == AUDIO
    assert [event.text for event in events if isinstance(event, Final)] == expected_texts(AUDIO)


@asynchronous
async def test_a_send_that_waits_while_another_task_stops_is_told() -> None:
    async with (
        serving(FakeEngine(), acknowledge_interval=1000.0) as server,
        nothing_left(),
        connect(server.url, buffer_bytes=100) as client,
    ):
        await client.send(AUDIO[:100])
        waiting = asyncio.create_task(client.send(AUDIO[100:200]))
        await settle()
        await client.stop()
        with pytest.raises(RuntimeError, match=r"send\(\) after stop\(\)"):
            await waiting
        assert await texts_of(client) == expected_texts(AUDIO[:100])


# --- reconnecting ------------------------------------------------------------------------------


@asynchronous
async def test_what_on_reconnect_raises_comes_out_of_the_iteration() -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    async with serving(FakeEngine()) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, nothing_left(), connect(url, on_reconnect=fail) as client:
            proxy.cut()
            with pytest.raises(ZeroDivisionError):
                await anext(client)
            with pytest.raises(ZeroDivisionError):
                await client.send(b"x")


@asynchronous
async def test_leaving_while_the_client_reconnects_leaves_nothing() -> None:
    async with serving(FakeEngine()) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, nothing_left(), connect(url):
            proxy.freeze()
            proxy.cut()
            await until(lambda: proxy.connections == 2)


@pytest.mark.parametrize("arrived", [True, False])
@asynchronous
async def test_a_flush_is_told_once_whether_it_arrived_before_the_connection_broke_or_not(arrived: bool) -> None:
    engine = FakeEngine()
    reconnected = asyncio.Event()
    async with serving(engine) as server:
        proxy = CuttingProxy(server.port, lambda: inf)
        async with proxy.running() as url, connect(url, on_reconnect=lambda _: reconnected.set()) as client:
            await client.send(AUDIO[:100])
            await until(lambda: engine.streams[0].audio == AUDIO[:100])
            proxy.freeze()
            await client.flush()
            if arrived:
                proxy.thaw()
                await until(lambda: engine.streams[0].utterances == 1)
            else:
                await settle()
            proxy.cut()
            proxy.thaw()
            await reconnected.wait()
            await client.stop()
            events = [event async for event in client]
    assert sum(isinstance(event, Flushed) for event in events) == 1
    assert [event.text for event in events if isinstance(event, Final)] == expected_texts(AUDIO[:100])
