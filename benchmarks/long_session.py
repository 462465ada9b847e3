"""Stream one session of two hours, faster than real time, to see whether its memory or its cost grows.

    ./run python -m benchmarks.long_session [--minutes 120]

The embedded recording goes through the engine over and over. For every ten minutes of audio the script prints the
resident memory of the process, and the time that the engine computes for each second of audio and for each streaming
window, all other work included. It exits with 1 if memory has grown by more than 2 MB, or the cost of a second by more
than a quarter, from the second stretch to the last: the first one fills caches, and other programs disturb the cost.
Linux only.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from parastream.client.cli.composition import ModelChoice
from parastream.client.sources import sample_recording
from parastream.streaming import Engine, SessionConfig
from parastream.streaming.events import Event, Final

STRETCH = 600
"""Seconds of audio between two lines of the report."""


def resident_mb() -> float:
    """Read the resident memory of this process, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    """Run the session and return the exit status."""
    parser = argparse.ArgumentParser(description="Memory and cost of one long session.")
    parser.add_argument("--minutes", type=int, default=120)
    minutes = parser.parse_args().minutes
    with sample_recording() as sample:
        samples, rate = soundfile.read(sample, dtype="int16")
    audio, seconds = np.asarray(samples).tobytes(), len(samples) / rate
    finals = 0

    def heard(events: list[Event]) -> None:
        nonlocal finals
        finals += sum(isinstance(event, Final) for event in events)

    engine = Engine(ModelChoice(offline=True).load)
    engine.start()
    engine.wait_ready()
    stream = engine.open(SessionConfig(), heard)
    sent, mark, before = 0.0, STRETCH, engine.stats()
    memory, cost = [], []
    print(f"a session takes at most {before.session_bytes / 1e6:.1f} MB")
    print("minutes       MB   ms for a second   ms for a window   finals")
    while sent < 60 * minutes:
        stream.send(audio)
        sent += seconds
        while stream.backlog > 5:
            time.sleep(0.005)
        if sent >= mark:
            now = engine.stats()
            computed = 1000 * (now.busy - before.busy)
            memory.append(resident_mb())
            cost.append(computed / STRETCH)
            window = computed / (now.windows - before.windows)
            print(f"{sent / 60:7.0f} {memory[-1]:8.1f} {cost[-1]:17.2f} {window:17.2f} {finals:8d}", flush=True)
            mark, before = mark + STRETCH, now
    stream.cancel()
    engine.close()
    grown = len(memory) > 2 and (memory[-1] > memory[1] + 2 or cost[-1] > 1.25 * cost[1])
    print("grown" if grown else "flat")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
