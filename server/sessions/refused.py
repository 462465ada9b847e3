"""Tells the log why clients are turned away, without letting anybody fill it."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from parastream.server.wire.messages import ErrorCode
from parastream.server.wire.refusals import printable

logger = logging.getLogger("parastream.server")

_QUIET = 600.0
"""Seconds in which the same is not told again."""
_MOST = 1000
"""Kinds and addresses that are remembered."""


class RefusalLog:
    """Each kind of refusal is told once for each address in a while, as a warning; the others at the level `info`.

    Clients of other servers often show nothing of an error, so the log has to say what is wrong with them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()

    def tell(self, who: str, code: ErrorCode, message: str) -> None:
        """Tell that a client was refused something.

        Args:
            who: The protocol and the address, `funasr 127.0.0.1:40123`; another port is no other client.
            code: The kind of error.
            message: What was wrong, and what is allowed.
        """
        key, now = (who.rpartition(":")[0], code), self._clock()
        while self._told and (len(self._told) > _MOST or next(iter(self._told.values())) <= now - _QUIET):
            self._told.popitem(last=False)
        level = logging.INFO if key in self._told else logging.WARNING
        self._told.setdefault(key, now)
        logger.log(level, "%s: refused: %s: %s", who, code, printable(message))
