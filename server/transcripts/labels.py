"""Names of speakers, one for each channel."""

from __future__ import annotations

from collections.abc import Sequence


def channel_labels(channels: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """A name for each channel, counted from 1 where none is given.

    Raises:
        ValueError: there are more names than channels.
    """
    if len(names) > channels:
        raise ValueError(f"{len(names)} names ({', '.join(names)}) for {channels} channel{'s' * (channels > 1)}")
    return (*names, *(f"Channel {number}" for number in range(len(names) + 1, channels + 1)))
