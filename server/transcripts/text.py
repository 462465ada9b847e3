"""Utterances as running text."""

from __future__ import annotations

from parastream.server.transcripts.utterance import SpokenUtterance, speaker_of


def text_line(utterance: SpokenUtterance) -> str:
    """A line of the text form, with its newline; nothing when nothing was said."""
    text = utterance.text.strip()
    return f"{speaker_prefix(speaker_of(utterance))}{text}\n" if text else ""


def speaker_prefix(speaker: str) -> str:
    """What a line begins with that names its speaker."""
    return f"{speaker}: " if speaker else ""
