"""What an engine has done, and what is going on in it: the numbers behind `/metrics`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start, and what is going on now."""

    sessions: int = 0
    """Open sessions."""
    capacity: int = 0
    """Sessions that the machine can serve in real time, by what work has cost of late; 0 before it is known."""
    places: int = 0
    """Sessions more that would be admitted now."""
    utilisation: float = 0.0
    """Share of time spent computing, over about the last ten seconds. It may be 1 long before the capacity is reached:
    an engine with time to spare computes small batches at once instead of waiting for large ones."""
    backlog: float = 0.0
    """Seconds of audio that have come in but not been looked at, of the session that waits longest."""
    held: float = 0.0
    """Seconds of audio that there is memory for, of the session that keeps most; see `Session.held_seconds`."""
    window_wait: float = 0.0
    """Seconds that the window that waited longest took from when it could be computed until it was, among those of the
    last ten to twenty seconds. Windows ahead of real time do not count."""
    session_bytes: int = 0
    """Memory that a session with the usual configuration takes at most; see `session_memory`."""
    windows: int = 0
    window_batches: int = 0
    finals: int = 0
    final_batches: int = 0
    forgone: int = 0
    """Finals that went out without the better ear, because they would have been late."""
    busy: float = 0.0
    """Seconds spent computing."""


@dataclass(slots=True)
class Counters:
    """Those of them that an engine counts up itself."""

    windows: int = 0
    window_batches: int = 0
    finals: int = 0
    final_batches: int = 0
    forgone: int = 0
    busy: float = 0.0
