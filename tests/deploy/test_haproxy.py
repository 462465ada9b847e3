"""HAProxy with the configuration that ships, in front of several servers."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from parastream.client import AsyncClient, Done, Final, ServerError, connect
from parastream.client.errors import ClientError
from parastream.server.app import Server
from parastream.server.wire.messages import ROOM_PROTOCOL, ROOMS_PATH, STREAM_PATH
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.typing import Subprotocol

from tests.client.cutting_proxy import CuttingProxy
from tests.server.fakes import FakeEngine, asynchronous, expected_texts, serving
from tests.waiting import until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
NAMES = ("a", "b", "c")
AUDIO = bytes(range(250)) * 40
"""Three utterances of the scripted engine."""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("haproxy") is None and not os.environ.get("CI"), reason="there is no haproxy"),
]


@dataclass
class Cluster:
    """Servers, and the HAProxy before them."""

    engines: dict[str, FakeEngine]
    servers: dict[str, Server] = field(default_factory=dict)
    directory: Path = Path()
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    header: str = ""
    """How HAProxy says whose connection it passes on; empty: with `X-Forwarded-For`."""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def sessions(self) -> dict[str, int]:
        """Streams that were ever opened on each server."""
        return {name: len(engine.streams) for name, engine in self.engines.items()}

    def configuration(self) -> str:
        text = CONFIGURATION.read_text().replace("/run/haproxy", str(self.directory)).replace("inter 1s", "inter 50ms")
        text = text.replace("bind :80", f"bind 127.0.0.1:{self.port}")
        for number, server in enumerate(self.servers.values(), 1):
            text = text.replace(f"10.0.0.{number}:8765 check", f"127.0.0.1:{server.port} check {self.header}")
        return text

    async def start(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (directory / "haproxy.cfg").write_text(self.configuration())
        self.process = await asyncio.create_subprocess_exec(
            *("haproxy", "-W", "-q", "-f", directory / "haproxy.cfg"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await self.states("UP")

    def command(self, text: str) -> str:
        """What HAProxy answers on its socket; nothing while it does not listen."""
        with socket.socket(socket.AF_UNIX) as admin:
            try:
                admin.connect(str(self.directory / "admin.sock"))
            except OSError:
                return ""
            admin.sendall(f"{text}\n".encode())
            return "".join(piece.decode() for piece in iter(lambda: admin.recv(1 << 16), b""))

    def process_id(self) -> str | None:
        """Of the process that serves now."""
        found = re.search(r"^Pid: (\d+)", self.command("show info"), re.MULTILINE)
        return found and found[1]

    async def states(self, expected: str, names: str = "abc") -> None:
        """Wait until all these servers are in a state."""

        def reached() -> bool:
            rows = [line.split(",") for line in self.command("show stat").splitlines()]
            found = {row[1]: row[17] for row in rows if row[0] == "sessions"}
            return all(found.get(name, "").startswith(expected) for name in names)

        await until(reached)

    async def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        await self.process.wait()


@asynccontextmanager
async def cluster(directory: Path, header: str = "", **settings: Any) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        made = Cluster({name: FakeEngine() for name in NAMES}, header=header)
        for name, engine in made.engines.items():
            made.servers[name] = await stack.enter_async_context(serving(engine, instance=name, **settings))
        await made.start(directory)
        stack.push_async_callback(made.stop)
        yield made


async def finish(client: AsyncClient) -> list[str]:
    await client.stop()
    events = [event async for event in client]
    assert isinstance(events[-1], Done)
    return [event.text for event in events if isinstance(event, Final)]


@asynchronous
async def test_sessions_go_to_all_servers_and_say_where_they_are(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(made.url)) for _ in range(6)]
        assert made.sessions == {"a": 2, "b": 2, "c": 2}
        for client in clients:
            assert client.ready.session.startswith(f"{client.ready.instance}.")
            await client.send(AUDIO)
        assert [await finish(client) for client in clients] == [expected_texts(AUDIO)] * 6


@asynchronous
@pytest.mark.parametrize("state", ["ready", "drain", "maint"])
async def test_a_session_comes_back_to_its_server(tmp_path: Path, state: str) -> None:
    """Also to one that takes no new sessions."""
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        proxy = CuttingProxy(made.port, lambda: math.inf)
        url = await stack.enter_async_context(proxy.running())
        for _ in range(2):  # so that the least busy server is another one
            await stack.enter_async_context(connect(made.url))
        back = asyncio.Event()
        async with connect(url, on_reconnect=lambda _: back.set()) as client:
            await client.send(AUDIO)
            await until(lambda: client.acknowledged)
            made.command(f"set server sessions/{client.ready.instance} state {state}")
            proxy.cut()
            await back.wait()
            assert await finish(client) == expected_texts(AUDIO)
        assert sum(made.sessions.values()) == 3


@asynchronous
@pytest.mark.parametrize("header", ["", "send-proxy", "send-proxy-v2"])
async def test_the_server_knows_who_its_client_is(
    tmp_path: Path, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "parastream.server")
    local: dict[str, Any] = {"proxies": (), "proxy_protocol": ("127.0.0.1",)} if header else {}
    async with cluster(tmp_path, header, **local) as made:
        path = made.url + STREAM_PATH
        async with connect_websocket(path, local_addr=("127.0.0.5", 0), compression=None) as client:
            await client.send('{"type":"start"}')
            assert "ready" in str(await client.recv())
        assert "opened by 127.0.0.5" in caplog.text
    assert "header" not in caplog.text


@asynchronous
async def test_a_room_is_on_one_server(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        for room in ("main", "Saal-7", "大厅"):
            viewers = [await stack.enter_async_context(viewer(made, room)) for _ in range(4)]
            async with connect(made.url, room=room) as client:
                await client.send(AUDIO)
                expected = await finish(client)
            for each in viewers:
                assert await lines(each, len(expected)) == expected


def viewer(made: Cluster, room: str) -> connect_websocket:
    url = f"{made.url}{ROOMS_PATH}{room}?room={room}"
    return connect_websocket(url, subprotocols=[Subprotocol(ROOM_PROTOCOL)], ping_interval=None, compression=None)


async def lines(viewer: ClientConnection, count: int) -> list[str]:
    texts: list[str] = []
    while len(texts) < count:
        message = json.loads(await viewer.recv())
        if message["type"] == "final":
            texts.append(message["text"])
    return texts


@asynchronous
async def test_a_full_server_sends_clients_to_the_next(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        made.engines["a"].places = 0
        for _ in range(2):  # before any check has found out
            await stack.enter_async_context(connect(made.url))
        assert made.sessions["a"] == 0
        made.engines["b"].places = 0
        await made.states("DOWN", "ab")
        before = made.sessions["c"]
        for _ in range(3):
            await stack.enter_async_context(connect(made.url))
        assert made.sessions["c"] == before + 3
        made.engines["c"].places = 0
        for _ in range(2):
            with pytest.raises(ServerError, match=r"place for another session.*\[capacity\]"):
                await stack.enter_async_context(connect(made.url))
            await made.states("DOWN", "abc")


@asynchronous
async def test_a_server_that_drains_and_one_that_is_gone(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(made.url)) for _ in range(3)]
        for client in clients:
            await client.send(AUDIO)
        await made.servers["a"].close()
        on_others = [client for client in clients if client.ready.instance != "a"]
        assert len(on_others) == 2
        for _ in range(4):  # before any check has found out, and after
            await stack.enter_async_context(connect(made.url))
        assert made.sessions["a"] == 1
        assert [await finish(client) for client in on_others] == [expected_texts(AUDIO)] * 2
        await made.states("DOWN", "a")


@asynchronous
async def test_a_server_that_is_killed_takes_only_its_own_sessions_along(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(made.url)) for _ in range(3)]
        for client in clients:
            await client.send(AUDIO)
        await until(lambda: all(client.acknowledged for client in clients))
        killed = made.servers["a"]
        await killed._listeners.close()
        for connection in list(killed._connections):
            connection._socket.abort()
        for client in clients:
            if client.ready.instance == "a":
                with pytest.raises(ClientError):
                    await finish(client)
            else:
                assert await finish(client) == expected_texts(AUDIO)
        for _ in range(3):
            await stack.enter_async_context(connect(made.url))
        assert made.sessions["a"] == 1


@asynchronous
async def test_a_reload_breaks_no_connection(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        broken: list[object] = []
        before = [await stack.enter_async_context(connect(made.url, on_reconnect=broken.append)) for _ in range(6)]
        first = made.process_id()
        assert made.process is not None
        made.process.send_signal(signal.SIGUSR2)
        await until(lambda: made.process_id() not in (first, None))
        await made.states("UP")
        after = [await stack.enter_async_context(connect(made.url)) for _ in range(3)]
        for client in before + after:
            await client.send(AUDIO)
        assert [await finish(client) for client in before + after] == [expected_texts(AUDIO)] * 9
        assert broken == []
