"""Finished utterances, as transcripts and subtitles see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class SpokenWord(Protocol):
    """A word with its place on the session clock."""

    @property
    def text(self) -> str:
        """The word without marks."""

    @property
    def start(self) -> float:
        """Seconds."""

    @property
    def end(self) -> float:
        """Seconds."""

    @property
    def confidence(self) -> float:
        """From 0 to 1."""


class SpokenUtterance(Protocol):
    """A finished utterance: the engine's `Final`, the wire's, or an `AttributedUtterance`.

    Times arrive rounded to the millisecond.
    """

    @property
    def text(self) -> str:
        """The text with marks."""

    @property
    def start(self) -> float:
        """Seconds."""

    @property
    def end(self) -> float:
        """Seconds."""

    @property
    def words(self) -> Sequence[SpokenWord]:
        """The words, in order; none if they are not known."""


@dataclass(frozen=True)
class AttributedUtterance:
    """A finished utterance and who spoke it."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    words: tuple[SpokenWord, ...]
    speaker: str = ""
    """Name of the speaker; empty where lines have no names."""
    ear: str = ""
    """Name of the model that heard it; empty if it is not known."""
    language: str = ""
    """What was spoken, as an ISO 639 code; empty if it is not known."""


def spoken(final: SpokenUtterance, channel: int, labels: Sequence[str]) -> AttributedUtterance:
    """Attribute an utterance to the speaker on its channel; to nobody where `labels` has no name for it."""
    speaker = labels[channel] if channel < len(labels) else ""
    words = tuple(final.words)
    return AttributedUtterance(final.text, final.start, final.end, words, speaker, ear_of(final), language_of(final))


def ear_of(utterance: SpokenUtterance) -> str:
    """Return the name of the model that heard an utterance; nothing where that is not known."""
    ear: str = getattr(utterance, "ear", "")
    return ear


def language_of(utterance: SpokenUtterance) -> str:
    """Return the language of an utterance; nothing where that is not known."""
    language: str = getattr(utterance, "language", "")
    return language


def speaker_of(utterance: SpokenUtterance) -> str:
    """Return the speaker's name on one line; nothing for an utterance without one."""
    return " ".join(utterance.speaker.split()) if isinstance(utterance, AttributedUtterance) else ""
