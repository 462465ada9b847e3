"""The other end of a connection, as asyncio tells of it: host and port, or nothing for a Unix socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

Peer = tuple[str, int]
"""Host and port; an empty host stands for a Unix socket."""


def peer_of(address: Any) -> Peer:
    """Return what an address of asyncio stands for."""
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else ("", 0)


def name_of(peer: Peer) -> str:
    """Return a peer for the log."""
    host, port = peer
    return f"{host}:{port}" if host else "a Unix socket"


def within(address: str, networks: Sequence[str]) -> bool:
    """Return whether an IP address is one of these, or in one of these networks."""
    try:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)
    except ValueError:
        return False
