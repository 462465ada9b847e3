"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Metrics:
    """What has happened since the server started."""

    sessions_opened: int = 0
    sessions_resumed: int = 0
    sessions_closed: int = 0
    requests_refused: int = 0
    finals: int = 0
    audio_seconds: float = 0.0

    def render(self, *, sessions: int, rooms: int, viewers: int, engine: Any) -> str:
        """The page: these counters, how much there is of what now, and the numbers in `engine`, a dataclass."""
        lines = []
        for name, value in dataclasses.asdict(self).items():
            lines += [f"# TYPE parastream_{name}_total counter", f"parastream_{name}_total {value}"]
        gauges = {"sessions": sessions, "rooms": rooms, "viewers": viewers} | {
            f"engine_{name}": value
            for name, value in dataclasses.asdict(engine).items()
            if isinstance(value, int | float)
        }
        for name, value in gauges.items():
            lines += [f"# TYPE parastream_{name} gauge", f"parastream_{name} {float(value):g}"]
        return "\n".join(lines) + "\n"
