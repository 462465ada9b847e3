"""When a connection has to end, to be pinged, or not to be read: pure arithmetic on one monotonic clock, in seconds."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from parastream.server.wire.refusals import RefusalError

_STALL = 0.5
"""A deadline noticed so much too late was missed because the whole server stood still."""


@dataclass(slots=True)
class Deadlines:
    """When a client that may send audio must be cut off."""

    idle_timeout: float
    max_session: float
    heard: float
    """When the client last sent what counts, or could not because the server did not read."""

    def next(self, opened: float) -> float:
        """Return the instant at which a session that began at `opened` ends unless its client sends something."""
        return min(self.heard + self.idle_timeout, opened + self.max_session)

    def stalled(self, opened: float, now: float) -> bool:
        """Say whether the deadline passed while nobody could look: what came in the meantime has to be read first.

        Another one, a moment from now, is set then.
        """
        if now - self.next(opened) <= _STALL or now >= opened + self.max_session:
            return False
        self.heard = now - self.idle_timeout + _STALL
        return True

    def refusal(self, opened: float) -> RefusalError:
        """Return why the session ended at that instant."""
        if opened + self.max_session <= self.heard + self.idle_timeout:
            return RefusalError("session_too_long", f"sessions last at most {self.max_session:g} s")
        return RefusalError(
            "idle_timeout",
            f"no audio for {self.idle_timeout:g} s; send audio (silence too) or `stop`",
        )


class Pulse(enum.Enum):
    """What keeping a connection alive asks for."""

    REST = enum.auto()
    """Nothing, for now."""
    PING = enum.auto()
    BROKEN = enum.auto()
    """The client did not answer."""


@dataclass(slots=True)
class Keepalive:
    """Pings, and whether anything came back.

    The keepalive of websockets takes a connection for dead that is not read for a while, or on which a large message is
    under way: the pong waits unseen behind the audio. Here any byte counts as an answer.
    """

    interval: float
    timeout: float
    next: float
    """When to look again."""
    pinged: float = math.nan
    """When the ping was sent that waits for its answer."""

    def tick(self, now: float, heard: float) -> Pulse:
        """Say what is to be done, `heard` being when bytes last came or could not be read."""
        if now < self.next:
            return Pulse.REST
        if math.isnan(self.pinged):
            self.pinged, self.next = now, now + self.timeout
            return Pulse.PING
        if heard < self.pinged:
            return Pulse.BROKEN
        self.pinged, self.next = math.nan, max(now, self.pinged + self.interval)
        return Pulse.REST


@dataclass(slots=True)
class Gate:
    """Back-pressure with two marks: closed from `high` seconds of backlog on, until it is down to `low`."""

    high: float
    low: float
    closed: bool = False

    def update(self, backlog: float) -> bool:
        """Take the backlog's length and say whether the gate is closed."""
        self.closed = backlog > (self.low if self.closed else self.high)
        return self.closed
