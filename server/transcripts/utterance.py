"""Finished utterances, as transcripts and subtitles see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class SpokenWord(Protocol):
    """A word with its place on the session clock, in seconds."""

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def confidence(self) -> float: ...


class SpokenUtterance(Protocol):
    """A finished utterance: the engine's `Final` or the wire's.

    One that also has a `speaker` which is not empty is written with that name.
    """

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def words(self) -> Sequence[SpokenWord]: ...


@dataclass(frozen=True)
class Utterance:
    """A finished utterance and who spoke it."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    words: Sequence[SpokenWord]
    speaker: str = ""
    laid_out: dict[object, list[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The cues that `lay_out` has made of it, by style: a room's transcript is asked for again and again."""


def spoken(final: SpokenUtterance, channel: int, labels: Sequence[str]) -> Utterance:
    """An utterance with the name of who speaks on its channel, where there is one."""
    speaker = labels[channel] if channel < len(labels) else ""
    return Utterance(final.text, final.start, final.end, final.words, speaker)


def speaker_of(utterance: SpokenUtterance) -> str:
    """The name of who spoke it, on one line; empty when it has none."""
    speaker: str = getattr(utterance, "speaker", "")
    return " ".join(speaker.split())
