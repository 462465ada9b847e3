"""Names of speakers, one for each channel."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"
"""Invisible letters that belong to words of some languages, and to emoji."""


def clean_label(name: str) -> str:
    """Return a name without what could do harm where it is shown: in terminals, subtitles and lines of text.

    Control characters, escape sequences and marks that turn the direction of text are left out, white space becomes a
    single space, and the arrow between the times of a subtitle becomes another.
    """
    shown = (each for each in name if each.isspace() or each in _JOINERS or unicodedata.category(each)[0] != "C")
    return " ".join("".join(shown).split()).replace("-->", "→")


def channel_labels(channels: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a name for each channel: the given ones, then `Channel 3` and so on, counted from 1.

    Raises:
        ValueError: There are more names than channels.
    """
    if len(names) > channels:
        raise ValueError(f"{len(names)} names ({', '.join(names)}) for {channels} channel{'s' * (channels > 1)}")
    return (*map(clean_label, names), *(f"Channel {number}" for number in range(len(names) + 1, channels + 1)))


def speaker_prefix(speaker: str) -> str:
    """Return what names the speaker at the beginning of a line; nothing for an empty name."""
    return f"{speaker}: " if speaker else ""
