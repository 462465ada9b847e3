"""The PROXY protocol, with which a proxy says whose connection it passes on, before the first byte of that.

Versions 1 and 2, as HAProxy's document `proxy-protocol.txt` describes them. A header is expected of every connection
from a proxy that is named for it, and of no other: who could choose would choose a false address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Callable
from typing import cast

from parastream.server.transport.peers import Peer, name_of, peer_of
from parastream.server.transport.tcp import hand_over

logger = logging.getLogger("parastream.server")

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""What version 2 begins with. No header is shorter."""
_FIXED = len(_SIGNATURE) + 4
"""Bytes of version 2 that say how many follow."""
_LONGEST_LINE = 107
"""Bytes of version 1, with the end of the line."""
_LOCAL, _PROXY = 0x20, 0x21
"""The version and a command: the proxy speaks for itself, such as to check the server, or for a client."""
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESSES = {_TCP4: 12, _TCP6: 36, _UNIX: 216}
"""Bytes of the two addresses, by what they are."""


class HeaderError(ValueError):
    """What came is no header; the message says why not."""


def missing(head: bytes) -> int:
    """Return how many bytes may be read without reading more than the header; 0: it is whole.

    Args:
        head: What came so far.

    Raises:
        HeaderError: It begins no header.
    """
    if head.startswith(b"PROXY "[: len(head)]):
        if head.endswith(b"\n"):
            return 0
        if len(head) >= _LONGEST_LINE:
            raise HeaderError(f"its line has more than {_LONGEST_LINE} bytes")
        return max(1, len(_SIGNATURE) - len(head))
    if not _SIGNATURE.startswith(head[: len(_SIGNATURE)]):
        raise HeaderError(f"it begins with {head[: len(_SIGNATURE)]!r}")
    whole = _FIXED + (int.from_bytes(head[_FIXED - 2 : _FIXED], "big") if len(head) >= _FIXED else 0)
    return whole - len(head)


def source(head: bytes) -> Peer | None:
    """Return the client that a whole header names; None: the proxy itself, or nobody that it knows.

    Raises:
        HeaderError: It is none, or names no address.
    """
    return _source_in_line(head) if head.startswith(b"PROXY ") else _source_in_bytes(head)


def _source_in_line(head: bytes) -> Peer | None:
    if not head.endswith(b"\r\n"):
        raise HeaderError(f"the line {head!r} does not end with \\r\\n")
    words = head[:-2].decode("ascii", "backslashreplace").split(" ")
    if words[1] == "UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise HeaderError(f"it is {head!r}; allowed are PROXY TCP4|TCP6 SOURCE TARGET PORT PORT, and PROXY UNKNOWN")
    kind = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    try:
        addresses = [str(kind(kind(word).packed)) for word in words[2:4]]  # without the name of an interface
        ports = [_port(word) for word in words[4:]]
    except ValueError as error:
        raise HeaderError(f"it is {head!r}: {error}") from error
    return addresses[0], ports[0]


def _port(word: str) -> int:
    if not (re.fullmatch(r"0|[1-9][0-9]{0,4}", word) and int(word) < 1 << 16):
        raise ValueError(f"{word!r} is no port")
    return int(word)


def _source_in_bytes(head: bytes) -> Peer | None:
    command, kind = head[len(_SIGNATURE)], head[len(_SIGNATURE) + 1]
    if command not in (_LOCAL, _PROXY):
        raise HeaderError(f"its version and command are {command:#04x}; allowed are {_LOCAL:#04x} and {_PROXY:#04x}")
    if command == _LOCAL or kind == _UNSPECIFIED:
        return None
    if kind not in _ADDRESSES:
        known = ", ".join(f"{each:#04x}" for each in (_UNSPECIFIED, *_ADDRESSES))
        raise HeaderError(f"its kind of address is {kind:#04x}; allowed are {known}")
    block = head[_FIXED : _FIXED + _ADDRESSES[kind]]  # extensions may follow
    if len(block) < _ADDRESSES[kind]:
        raise HeaderError(f"it has {len(block)} bytes of addresses instead of {_ADDRESSES[kind]}")
    if kind == _UNIX:
        return "", 0
    size = 4 if kind == _TCP4 else 16
    return str(ipaddress.ip_address(block[:size])), int.from_bytes(block[2 * size : 2 * size + 2], "big")


class Header(asyncio.BufferedProtocol):
    """Reads the header of a connection if one has to come, and not a byte more, and then passes the connection on."""

    upgraded = False
    silent = True
    """The client has said nothing yet."""

    def __init__(
        self,
        expected: Callable[[Peer], bool],
        on_read: Callable[[Header, Peer], None],
        *,
        timeout: float,
        on_opened: Callable[[Header], None],
        on_left: Callable[[Header], None],
    ) -> None:
        """Make a protocol for a connection.

        Args:
            expected: Says whether who opens it is a proxy that begins with a header.
            on_read: Takes the connection over, which is the client's at this address.
            timeout: Seconds in which the header must come.
            on_opened: Called when its socket is open.
            on_left: Called once after that, when the connection has been passed on, or is closed.
        """
        self.transport: asyncio.Transport
        self._expected = expected
        self._on_read = on_read
        self._timeout = timeout
        self._on_opened = on_opened
        self._on_left = on_left
        self._head = b""
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._left = False

    @property
    def _proxy(self) -> Peer:
        return peer_of(self.transport.get_extra_info("peername"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header if there has to be one."""
        self.transport = cast(asyncio.Transport, transport)
        self._on_opened(self)
        if self._expected(self._proxy):
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._give_up)
        else:
            self._on_read(self, self._proxy)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return room for what may be read."""
        self._buffer = bytearray(missing(self._head))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has been read."""
        self._head += self._buffer[:nbytes]
        try:
            if missing(self._head):
                return
            client = source(self._head)
        except HeaderError as error:
            self._refuse(str(error))
            return
        self._stop_timer()
        self._on_read(self, self._proxy if client is None else client)

    def eof_received(self) -> None:
        """Note that no header comes."""
        if self._head:
            self._refuse(f"it ends after {len(self._head)} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self.leave()

    def leave(self) -> None:
        """Let go of the connection, which is passed on or closed."""
        if not self._left:
            self._left = True
            self._stop_timer()
            self._on_left(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self) -> None:
        self._refuse(f"{len(self._head)} bytes of it came within {self._timeout:g} s")

    def _refuse(self, why: str) -> None:
        """Close the connection at once, as the protocol demands; nobody is there who could read an answer."""
        logger.warning(
            "a connection from %s was dropped: `proxy_protocol` names this proxy, but there is no whole header: %s",
            name_of(self._proxy),
            why,
        )
        self.transport.abort()


class Waiting(asyncio.Protocol):
    """Keeps what comes until somebody is there who wants it."""

    def __init__(self) -> None:
        self._data = b""
        self._ended = False

    def data_received(self, data: bytes) -> None:
        """Keep data."""
        self._data += data

    def eof_received(self) -> bool:
        """Keep in mind that there is no more."""
        self._ended = True
        return True  # what is sent is still wanted

    def pass_on(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Pass the connection on with all that came."""
        hand_over(transport, protocol, self._data)
        if self._ended:
            protocol.eof_received()
