"""When a connection has to end, to be pinged, or not to be read: pure arithmetic on one monotonic clock, in seconds."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from parastream.server.wire.refusals import RefusalError

_MOMENT = 0.5
"""Seconds that a client which seems idle or gone gets, for what it sent while the server stood still."""


@dataclass(slots=True)
class Deadlines:
    """When a client that may send audio must be cut off."""

    idle_timeout: float
    max_session: float
    heard: float
    """When the client last sent what counts, or could not because the server did not read."""

    _given: tuple[float, float] = (math.nan, math.nan)  # the `heard` after which a moment more was given; until when

    def next(self, opened: float) -> float:
        """Return the instant at which a session that began at `opened` ends unless its client sends something."""
        heard, until = self._given
        idle = until if heard == self.heard else self.heard + self.idle_timeout
        return min(idle, opened + self.max_session)

    def passed(self, opened: float, now: float) -> bool:
        """Say whether the client must be cut off.

        One that seems idle gets a moment more: what came while nobody could look has to be read first.
        """
        if now < self.next(opened):
            return False
        if now < opened + self.max_session and self._given[0] != self.heard:
            self._given = self.heard, now + _MOMENT
            return False
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
    _overdue: bool = False

    def tick(self, now: float, heard: float) -> Pulse:
        """Say what is to be done, `heard` being when bytes last came or could not be read."""
        if now < self.next:
            return Pulse.REST
        if math.isnan(self.pinged):
            self.pinged, self.next = now, now + self.timeout
            return Pulse.PING
        if heard >= self.pinged:
            self.pinged, self.next, self._overdue = math.nan, max(now, self.pinged + self.interval), False
        elif not self._overdue:
            self.next, self._overdue = now + _MOMENT, True
        else:
            return Pulse.BROKEN
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


@dataclass(slots=True)
class Budget:
    """So many pieces of work a second, and as many at once after a second of rest. Debts are possible."""

    rate: float
    at: float
    """When it was last looked at."""
    left: float = math.nan

    def __post_init__(self) -> None:
        self.left = self.rate

    def wait(self, now: float) -> float:
        """Return the seconds until there may be more work; 0 if there may be now."""
        self.left = min(self.rate, self.left + (now - self.at) * self.rate)
        self.at = now
        return 0.0 if self.left > 0 else (1 - self.left) / self.rate

    def spend(self, pieces: int) -> None:
        """Note work that was done."""
        self.left -= pieces
