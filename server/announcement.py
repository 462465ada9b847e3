"""Tells the local network of the Wyoming port by multicast DNS (RFC 6762, 6763), where Home Assistant looks for it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import logging
import socket
from typing import TYPE_CHECKING

import psutil
from parastream.server.config import ConfigError, is_loopback

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

logger = logging.getLogger("parastream.server")

SERVICE = "_wyoming._tcp.local."
"""Type of the service."""


class Announcement:
    """A service of the network for as long as this is open."""

    def __init__(self, name: str, host: str) -> None:
        """Prepare an announcement.

        Args:
            name: What the service is called; where another has that name, a number is added.
            host: Address that the server listens on; others than those of IPv4 stand for every interface.

        Raises:
            ConfigError: the package `zeroconf` is not installed.
        """
        if importlib.util.find_spec("zeroconf") is None:
            raise ConfigError("announce needs the package zeroconf: pip install 'parastream[zeroconf]'")
        self._name = name
        self._host = "127.0.0.1" if is_loopback(host) else host
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.announced = asyncio.Event()
        """Set once the network has been told."""

    def open(self, port: int) -> None:
        """Announce that the service is at a port; the network is asked first whether the name is free."""
        self._task = asyncio.create_task(self._run(port), name="announcement")

    async def close(self) -> None:
        """Take the announcement back."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self, port: int) -> None:
        from zeroconf import Error, InterfaceChoice
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

        one = _is_address(self._host)
        try:
            addresses = [self._host] if one else _own_addresses()
            zeroconf = AsyncZeroconf(interfaces=addresses if one else InterfaceChoice.All)
        except OSError as error:
            logger.warning("%s cannot be announced in the network: %s", self._name, error)
            return
        try:
            name = f"{self._name}.{SERVICE}"
            service = AsyncServiceInfo(SERVICE, name, port=port, parsed_addresses=addresses)
            await self._register(zeroconf, service)
            await self._closing.wait()
        except (OSError, Error) as error:
            logger.warning("%s cannot be announced in the network: %s", self._name, error or type(error).__name__)
        finally:
            with contextlib.suppress(OSError):
                await zeroconf.async_unregister_all_services()
                await zeroconf.async_close()

    async def _register(self, zeroconf: AsyncZeroconf, service: AsyncServiceInfo) -> None:
        """Announce a service, or give up when the server is closed before that is done."""
        registering = asyncio.create_task(self._tell(zeroconf, service))
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait([registering, closing], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if not registering.done():
            registering.cancel()
        else:
            await registering

    async def _tell(self, zeroconf: AsyncZeroconf, service: AsyncServiceInfo) -> None:
        await (await zeroconf.async_register_service(service, allow_name_change=True))
        self.announced.set()
        logger.info("announced in the network as %s", service.name)


def _is_address(host: str) -> bool:
    """Say whether this is the address of one interface, in IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 4 and not address.is_unspecified


def _own_addresses() -> list[str]:
    """Return the addresses at which others can reach this machine.

    Raises:
        OSError: there is none.
    """
    all_of_them = [each for several in psutil.net_if_addrs().values() for each in several]
    found = [each.address for each in all_of_them if each.family == socket.AF_INET and not is_loopback(each.address)]
    if not found:
        raise OSError("this machine has no address in a network")
    return found
