"""What was said, when all is said."""

from __future__ import annotations

from dataclasses import dataclass

from parastream.streaming.events import Final


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording, or in a live stream so far."""

    text: str
    """All utterances, in order."""
    utterances: tuple[Final, ...]
    duration: float
    """Seconds of audio."""
