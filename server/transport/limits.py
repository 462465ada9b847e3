"""Limits of a session as pure arithmetic: when it has to end, and when its connection is not read."""

from __future__ import annotations

from dataclasses import dataclass

from parastream.server.wire.refusals import RefusalError


@dataclass(slots=True)
class Deadlines:
    """When a session that still listens must end. Instants are in seconds of one monotonic clock."""

    idle_timeout: float
    max_session: float
    opened: float
    """When the session began."""
    heard: float
    """When audio last came, or could not come because the server did not read."""

    @property
    def next(self) -> float:
        """The instant at which the session must end unless audio comes."""
        return min(self.heard + self.idle_timeout, self.opened + self.max_session)

    @property
    def refusal(self) -> RefusalError:
        """Why the session ended at that instant."""
        if self.opened + self.max_session <= self.heard + self.idle_timeout:
            return RefusalError("session_too_long", f"sessions last at most {self.max_session:g} s")
        return RefusalError(
            "idle_timeout",
            f"no audio for {self.idle_timeout:g} s; send audio (silence too) or `stop`",
        )


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
