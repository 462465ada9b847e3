"""Compute the latencies of a paced session from when its audio was sent and when its messages came.

docs/benchmarks.md has the same definitions in words. Audio goes out in blocks, so the audio up to a position was sent
when the block with the last sample before that position was sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from parastream.server.wire.messages import (
    Done,
    EndpointOptions,
    Error,
    Final,
    Partial,
    ServerMessage,
    SpeechEnded,
    SpeechStarted,
)

RATE = 16_000
BLOCK = 1_600
"""Samples in a message: 100 ms."""
LOOK = 0.9
"""Seconds of audio that a streaming window looks at, [0, 10, 5] rows of 60 ms: its newest hop and the look-ahead."""
PERCENTILES = (50, 95, 99)

PRE_ROLL, HANGOVER, MIN_SILENCE = 0.3, 0.3, 0.6
ENDPOINT = EndpointOptions(pre_roll=PRE_ROLL, hangover=HANGOVER, min_silence=MIN_SILENCE)
"""The server's own values, asked for so that a client can tell where an endpoint was decided."""
_FRAME = 512  # samples of a speech probability; endpoints are decided at its ends

_TOLERANCE = 0.001  # seconds; times are rounded to it


@dataclass(slots=True)
class SessionTrace:
    """What one client sent and got. Times are in seconds of one clock."""

    sent: list[float] = field(default_factory=list)
    """When each block was sent."""
    received: list[tuple[float, ServerMessage]] = field(default_factory=list)
    """When each message came."""
    failure: str = ""
    """How the connection ended, if not as it should."""


@dataclass(slots=True)
class Latencies:
    """In milliseconds, one for each event that counts."""

    first_partial: list[float] = field(default_factory=list)
    """From the first speech of an utterance (its start and the pre-roll) to its first partial with text."""
    partial: list[float] = field(default_factory=list)
    """From the beginning of the newest hop that a partial covers to the partial; at least `LOOK`.

    Partials that cover no more than the one before, but say more of it, come besides and do not count.
    """
    final_after_endpoint: list[float] = field(default_factory=list)
    """From the audio with which silence became long enough to end an utterance to its final."""

    @property
    def partial_beyond_look(self) -> list[float]:
        """From the last audio that a partial needs to the partial."""
        return [latency - 1000 * LOOK for latency in self.partial]

    def add(self, trace: SessionTrace) -> None:
        """Add the latencies of one session."""
        sent = _Sent(trace.sent)
        started: set[int] = set()  # utterances that have had a partial
        covered = 0.0
        ends = {m.utterance: m.time for _, m in trace.received if isinstance(m, SpeechEnded)}
        for arrival, message in trace.received:
            match message:
                case Partial():
                    if message.end > covered:
                        covered = message.end
                        self.partial.append(1000 * (arrival - sent.up_to(message.end - LOOK)))
                    if (message.stable or message.draft) and message.utterance not in started:
                        started.add(message.utterance)
                        # Right behind the utterance before it there is no room for a whole pre-roll.
                        last_end = ends.get(message.utterance - 1, 0.0)
                        whole = message.start > last_end + _TOLERANCE
                        onset = message.start + PRE_ROLL if whole else message.start
                        self.first_partial.append(1000 * (arrival - sent.up_to(onset)))
                case Final():
                    decided = _endpoint(message.end)
                    if decided <= sent.end:  # otherwise the end of the audio ended it
                        self.final_after_endpoint.append(1000 * (arrival - sent.up_to(decided)))


class _Sent:
    """When audio was sent, by its position in seconds."""

    def __init__(self, times: Sequence[float]) -> None:
        self._times = times

    @property
    def end(self) -> float:
        """Seconds sent in all."""
        return len(self._times) * BLOCK / RATE

    def up_to(self, position: float) -> float:
        """Return when all audio before `position` was sent; before the first block, as if it had been paced, too."""
        block = math.ceil(round(position * RATE) / BLOCK) - 1
        if block < 0:
            return self._times[0] + block * BLOCK / RATE
        return self._times[block]


def _endpoint(end: float) -> float:
    """Return where the endpoint at `end` was decided: `MIN_SILENCE` after the last speech, in whole frames."""
    silence = math.ceil(MIN_SILENCE * RATE / _FRAME) * _FRAME
    return (round((end - HANGOVER) * RATE) + silence) / RATE


def problem(trace: SessionTrace) -> str:
    """Say what went wrong in a session; return an empty string if nothing was lost."""
    messages = [message for _, message in trace.received]
    for message in messages:
        if isinstance(message, Error):
            return f"{message.code}: {message.message}"
    done = next((message for message in messages if isinstance(message, Done)), None)
    if done is None:
        return trace.failure or "the session did not end"
    seconds = len(trace.sent) * BLOCK / RATE
    if abs(done.duration - seconds) > _TOLERANCE:
        return f"audio was lost: {done.duration:.3f} of {seconds:.3f} s arrived"
    begun = [message.utterance for message in messages if isinstance(message, SpeechStarted)]
    if begun != [message.utterance for message in messages if isinstance(message, Final)]:
        return "an utterance has no final"
    return ""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed; NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Return the percentiles p50, p95 and p99, rounded to a tenth; None without values."""
    return {f"p{p}": round(percentile(values, p), 1) if values else None for p in PERCENTILES}
