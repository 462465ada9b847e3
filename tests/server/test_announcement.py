"""The announcement of the Wyoming port, as Home Assistant looks for it; all of it on the loopback interface."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from parastream.server import announcement
from parastream.server.announcement import SERVICE, Announcement
from parastream.server.config import ConfigError, ServerConfig
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from .fakes import FakeEngine, asynchronous, serving

LISTEN = ("wyoming=0",)


def address(text: str, family: int = socket.AF_INET) -> SimpleNamespace:
    """One of an interface's."""
    return SimpleNamespace(family=family, address=text)


@asynccontextmanager
async def looking() -> AsyncIterator[tuple[AsyncZeroconf, asyncio.Queue[tuple[str, ServiceStateChange]]]]:
    """What Home Assistant does: it is told of services that come and go."""
    seen: asyncio.Queue[tuple[str, ServiceStateChange]] = asyncio.Queue()

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        seen.put_nowait((name, state_change))

    network = AsyncZeroconf(interfaces=["127.0.0.1"])
    browser = AsyncServiceBrowser(network.zeroconf, [SERVICE], handlers=[note])
    try:
        yield network, seen
    finally:
        await browser.async_cancel()
        await network.async_close()


async def wait_for(seen: asyncio.Queue[tuple[str, ServiceStateChange]], change: ServiceStateChange, name: str) -> None:
    """Wait for a change of our service: others of this machine may come and go, too."""
    while await seen.get() != (name, change):
        pass


@asynchronous
async def test_home_assistant_finds_the_port_and_is_told_when_it_is_gone() -> None:
    ours = f"Our ears {os.getpid()}"  # other runs of the tests may be in the same network
    name = f"{ours}.{SERVICE}"
    async with looking() as (network, seen):
        async with serving(FakeEngine(), listen=LISTEN, announce=f" {ours} ") as server:
            await wait_for(seen, ServiceStateChange.Added, name)
            service = AsyncServiceInfo(SERVICE, name)
            assert await service.async_request(network.zeroconf, 5000)
            assert (service.port, service.parsed_addresses()) == (server.ports["wyoming"], ["127.0.0.1"])
        await wait_for(seen, ServiceStateChange.Removed, name)


@asynchronous
async def test_a_server_that_stops_at_once_does_not_wait_for_the_network() -> None:
    told = Announcement("nobody", "127.0.0.1")
    await told.close()  # not even begun
    told = Announcement("nobody", "localhost")
    told.open(10300)
    await told.close()
    assert not told.announced.is_set()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "example.org"])
@asynchronous
async def test_a_machine_without_a_network_says_so(
    host: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"lo": [address("127.0.0.1")]})
    told = Announcement("nobody", host)
    told.open(10300)
    await told.close()
    assert caplog.messages == ["nobody cannot be announced in the network: this machine has no address in a network"]


@asynchronous
async def test_a_network_that_refuses_the_announcement_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(self: AsyncZeroconf, *args: Any, **options: Any) -> None:
        raise OSError("no multicast")

    monkeypatch.setattr(AsyncZeroconf, "async_register_service", refuse)
    async with serving(FakeEngine(), listen=LISTEN, announce="ears") as server:
        assert server._announcement is not None
        task = server._announcement._task
        assert task is not None
        await task
    assert "ears cannot be announced in the network: no multicast" in caplog.messages


def test_the_addresses_of_this_machine_are_those_that_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"lo": [address("127.0.0.1")], "eth0": [address("192.168.1.7"), address("fe80::1", socket.AF_INET6)]}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    assert announcement._own_addresses() == ["192.168.1.7"]


def test_what_cannot_be_announced() -> None:
    with pytest.raises(ConfigError, match="announce tells of the Wyoming port, but there is none"):
        ServerConfig(announce="ears")
    for name in ("x" * 64, "two\nlines"):
        with pytest.raises(ConfigError, match="allowed are 63 bytes of printable text"):
            ServerConfig(announce=name, listen=LISTEN)


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'parastream\[zeroconf\]'"):
        Announcement("ears", "127.0.0.1")
