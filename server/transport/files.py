"""The limit of open files, which every connection and every saved session counts against."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import cast

logger = logging.getLogger("parastream.server")

_RESERVE = 192
"""Files besides those of connections: listeners, models, libraries, and the connections (up to 100 for each port) that
the system hands over at once before those too many are closed again."""
_ENOUGH = 1 << 16


def raise_limit() -> int:
    """Raise the process's own limit of open files as far as the system lets it, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_ENOUGH, hard, 10240):  # macOS allows no more than the last, though it says "unlimited"
        if soft == resource.RLIM_INFINITY or (soft >= wanted and wanted != resource.RLIM_INFINITY):
            break
        if hard != resource.RLIM_INFINITY and wanted > hard:
            continue
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def most_connections(*, sessions: int, files_each: int) -> int:
    """Return how many connections may be open so that there are files left for everything else.

    Args:
        sessions: Most sessions at a time.
        files_each: Files that a session may need besides its connection.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _ENOUGH if soft == resource.RLIM_INFINITY else soft
    left = limit - min(_RESERVE, limit // 2)
    return max(1, left - sessions * files_each, left // (1 + files_each))


class Places:
    """Counts connections, of which only so many may be open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._told = False

    @property
    def free(self) -> bool:
        """Whether there is a place for one more connection. The log tells once that there was none."""
        if self._taken >= self._most and not self._told:
            self._told = True
            logger.warning(
                "%d connections are open, as many as the limit of open files (`ulimit -n`) leaves room for; "
                "more are turned away",
                self._taken,
            )
        return self._taken < self._most

    def enter(self) -> None:
        """Take a place for a connection."""
        self._taken += 1

    def leave(self) -> None:
        """Give the place of a closed connection back."""
        self._taken -= 1


class Refusing(asyncio.Protocol):
    """A connection for which there is no place."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Drop it."""
        cast(asyncio.Transport, transport).abort()
