"""Utterances as running text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from parastream.server.transcripts.utterance import SpokenUtterance, speaker_of


def join_texts(texts: Iterable[str]) -> str:
    """The texts of utterances as one: a space between them, but none next to a full-width character."""
    joined = ""
    for text in texts:
        if not text:
            continue
        apart = bool(joined) and not (is_wide(joined[-1]) or is_wide(text[0]))
        joined += (" " if apart else "") + text
    return joined


def text_line(utterance: SpokenUtterance) -> str:
    """A line of the text form, with its newline; nothing when nothing was said."""
    text = utterance.text.strip()
    return f"{speaker_prefix(speaker_of(utterance))}{text}\n" if text else ""


def speaker_prefix(speaker: str) -> str:
    """What a line begins with that names its speaker."""
    return f"{speaker}: " if speaker else ""


def is_wide(character: str) -> bool:
    """Whether a character is full-width, as Chinese ones are."""
    return unicodedata.east_asian_width(character) in "WF"
