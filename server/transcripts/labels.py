"""Names of speakers, one for each channel."""

from __future__ import annotations

from collections.abc import Sequence


def channel_labels(channels: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a name for each channel: the given ones, then `Channel 3` and so on, counted from 1.

    Raises:
        ValueError: There are more names than channels.
    """
    if len(names) > channels:
        raise ValueError(f"{len(names)} names ({', '.join(names)}) for {channels} channel{'s' * (channels > 1)}")
    return (*names, *(f"Channel {number}" for number in range(len(names) + 1, channels + 1)))


def speaker_prefix(speaker: str) -> str:
    """Return what names the speaker at the beginning of a line; nothing for an empty name."""
    return f"{speaker}: " if speaker else ""
