"""Which protocol a connection speaks: by its path, or by the port of its own that a protocol was given."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from parastream.server.messages import PROTOCOL, STREAM_PATH
from parastream.server.protocols.conversation import Conversation, Request

NATIVE = "parastream"

CONVERSATIONS: Mapping[str, type[Conversation]] = MappingProxyType({})
"""Protocols of other servers, by name."""
PROTOCOLS = (NATIVE, *CONVERSATIONS)
"""Those that can have a port of their own."""
WEBSOCKET_PATHS: Mapping[str, str] = MappingProxyType({STREAM_PATH: NATIVE})
"""Names of protocols by the path they are found at."""
HTTP_PATHS = ("/healthz", "/readyz", "/metrics", "/v1/info")


def protocol_at(path: str) -> str:
    """The protocol of a WebSocket at a path."""
    return WEBSOCKET_PATHS.get(path, NATIVE)


def subprotocols(protocol: str) -> tuple[str, ...]:
    """What is selected when a client offers it."""
    return (PROTOCOL,) if protocol == NATIVE else CONVERSATIONS[protocol].subprotocols


def parse(target: str) -> Request:
    """The path and query of a request line."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    return Request(parts.path, {name: tuple(values) for name, values in query.items()})
