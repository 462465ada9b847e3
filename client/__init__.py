"""The client library, `connect` (asynchronous) and `BlockingClient`; and in `cli`, the command line.

Names are loaded when they are first used, so that the command line answers `--help` at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parastream.client.blocking import BlockingClient
    from parastream.client.client import AsyncClient, Reconnected, connect
    from parastream.client.errors import ClientError, ConnectionFailedError, ServerError
    from parastream.client.session import ClientEvent
    from parastream.server.wire.messages import (
        Done,
        Final,
        Flushed,
        Hotword,
        Partial,
        SpeechEnded,
        SpeechStarted,
        Stats,
        Tags,
        Word,
    )

__all__ = [
    "AsyncClient",
    "BlockingClient",
    "ClientError",
    "ClientEvent",
    "ConnectionFailedError",
    "Done",
    "Final",
    "Flushed",
    "Hotword",
    "Partial",
    "Reconnected",
    "ServerError",
    "SpeechEnded",
    "SpeechStarted",
    "Stats",
    "Tags",
    "Word",
    "connect",
]

_HOMES = {
    "parastream.client.blocking": ("BlockingClient",),
    "parastream.client.client": ("AsyncClient", "Reconnected", "connect"),
    "parastream.client.errors": ("ClientError", "ConnectionFailedError", "ServerError"),
    "parastream.client.session": ("ClientEvent",),
    "parastream.server.wire.messages": (
        "Done",
        "Final",
        "Flushed",
        "Hotword",
        "Partial",
        "SpeechEnded",
        "SpeechStarted",
        "Stats",
        "Tags",
        "Tags",
        "Word",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
