"""One of several servers behind a balancer."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from parastream.client import ServerError, connect
from parastream.client.connection import open_connection, with_query
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.wire.messages import STREAM_PATH, Resume, Start, encode
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.client.cutting_proxy import CuttingProxy
from tests.server.fakes import FakeEngine, asynchronous, connected, error_in, get, metrics, receive_all, serving
from tests.waiting import until

START = encode(Start()).decode()


@asynchronous
async def test_names_of_sessions_begin_with_the_server() -> None:
    async with serving(FakeEngine(), instance="a-1") as server, connect(server.url) as client:
        assert client.ready.instance == "a-1"
        assert client.ready.session.startswith("a-1.")
    async with serving(FakeEngine()) as server, connect(server.url) as client:
        assert client.ready.instance == ""
        assert "." not in client.ready.session


@asynchronous
async def test_a_full_server_refuses_before_the_upgrade() -> None:
    engine = FakeEngine()
    async with serving(engine, max_sessions=1) as server:
        assert json.loads((await get(server, "/readyz?places=1"))[1])["places"] == 1
        async with connect(server.url):
            for path in (STREAM_PATH, "/", "/v1/listen", "/vosk"):
                with pytest.raises(InvalidStatus) as refused:
                    await connect_websocket(server.url.replace(STREAM_PATH, path), proxy=None)
                response = refused.value.response
                assert response.status_code == 503
                assert response.headers["Retry-After"] == "5"
                assert json.loads(response.body or b"")["code"] == "capacity"
            with pytest.raises(ServerError, match="no place for another session"):
                await connect(server.url).__aenter__()
            assert (await get(server, "/readyz"))[0] == 200
            assert await get(server, "/readyz?places=1") == (503, '{"status":"not ready","reason":"places left: 0"}\n')
            assert (await get(server, "/readyz?places=0"))[0] == 400
            assert (await metrics(server))["parastream_places"] == 0
            # Whoever comes back to a session has a place already; this one does not.
            async with connected(server, START, path="?on=a") as websocket:
                assert error_in((await receive_all(websocket))[0]).code == "capacity"
        assert (await metrics(server))["parastream_places"] == 1


@asynchronous
async def test_whoever_comes_back_to_a_session_on_a_full_server_has_a_place() -> None:
    """Also while the server has not noticed yet that the connection before is broken."""
    async with serving(FakeEngine(), max_sessions=1) as server, connected(server, START, bytes(100)) as before:
        session = json.loads(await before.recv())["session"]
        with pytest.raises(InvalidStatus):
            await connect_websocket(server.url, proxy=None)
        resume = encode(Resume(session, 0)).decode()
        async with connected(server, resume, path="?resume=1") as websocket:
            assert json.loads(await websocket.recv())["session"] == session


@asynchronous
async def test_clients_say_that_they_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    async def open_noted(url: str, *args: Any, **options: Any) -> Any:
        opened.append(url)
        return await open_connection(url, *args, **options)

    monkeypatch.setattr("parastream.client.client.open_connection", open_noted)
    for instance, said in (("", "?resume=1"), ("a", "?on=a")):
        opened.clear()
        async with serving(FakeEngine(), instance=instance) as server:
            proxy = CuttingProxy(server.port, lambda: inf)
            async with proxy.running() as url, connect(url + STREAM_PATH) as client:
                await client.send(bytes(3200))
                await until(lambda client=client: client.acknowledged > 0)  # type: ignore[misc]
                proxy.cut()
                await client.send(bytes(3200))
                await client.stop()
                assert [event async for event in client]
        assert opened[1].endswith(said)


@asynchronous
async def test_viewers_need_no_place() -> None:
    engine = FakeEngine()
    engine.places = 0
    async with serving(engine) as server:
        url = server.url.replace("stream", "rooms/main")
        async with connect_websocket(url, subprotocols=[Subprotocol("parastream.room.v1")], proxy=None) as viewer:
            assert json.loads(await viewer.recv())["type"] == "room"


@asynchronous
async def test_a_session_that_can_be_given_up_leaves_a_place() -> None:
    async with serving(FakeEngine(), max_sessions=1) as server:
        async with connected(server, START, bytes(100)) as websocket:
            await websocket.recv()
            websocket.transport.abort()
            await until(lambda: server._registry._expiries)
        async with connect(server.url):
            pass


@asynchronous
async def test_the_room_in_the_address_is_that_of_the_session() -> None:
    async with serving(FakeEngine()) as server:
        async with connect(server.url, room="Halle-1"):
            pass
        start = encode(Start(room="main")).decode()
        async with connected(server, start, path="?room=other") as websocket:
            error = error_in((await receive_all(websocket))[0])
        assert error.code == "invalid_message"
        assert "the address says `room=other`" in error.message


@asynchronous
async def test_a_unix_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "parastream.server")
    path = tmp_path / "socket"
    async with serving(FakeEngine(), unix_socket=str(path), host="0.0.0.0") as server:
        assert (server.url, server.page_url) == (f"unix:{path}", f"unix:{path}")
        url, spoken = f"ws://localhost{STREAM_PATH}", [Subprotocol("parastream.v1")]
        async with unix_connect(str(path), url, subprotocols=spoken) as websocket:
            await websocket.send(START)
            assert json.loads(await websocket.recv())["type"] == "ready"
        headers = {"X-Forwarded-For": "192.0.2.7"}
        async with unix_connect(str(path), url, subprotocols=spoken, additional_headers=headers) as websocket:
            await websocket.send(START)
            await websocket.recv()
        with pytest.raises(InvalidStatus):
            await unix_connect(str(path), f"ws://localhost{STREAM_PATH}x").__aenter__()
    assert "opened by a Unix socket" in caplog.text
    assert "opened by 192.0.2.7" in caplog.text


def test_addresses_with_more_in_their_query() -> None:
    assert with_query("ws://h/v1/stream", on="", room="") == "ws://h/v1/stream"
    assert with_query("ws://h", on="a", room="大 厅") == "ws://h?on=a&room=%E5%A4%A7%20%E5%8E%85"
    assert with_query("ws://h/x?token=t&room=q", room="r", on="a") == "ws://h/x?token=t&room=q&on=a"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"instance": "a.b"}, "instance is 'a.b'; allowed are up to 63 letters, digits"),
        ({"proxies": ("10.0.0.0/8", "proxy")}, "proxies holds 'proxy'; allowed are addresses and networks"),
    ],
)
def test_settings_for_several_servers(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ServerConfig(**settings)  # type: ignore[arg-type]
