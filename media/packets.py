"""What demuxers take out of a container: which codec follows, and its packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Codec:
    """How the packets that follow are encoded."""

    name: str
    """FFmpeg's name."""
    extradata: bytes = b""
    """What the decoder has to know besides, in FFmpeg's form."""
    rate: int = 0
    """Hz; 0 where decoders know by themselves."""
    channels: int = 0
    """Likewise."""


class Demuxer(Protocol):
    """Takes a container apart that comes in pieces."""

    def push(self, data: bytes) -> Iterator[Codec | bytes]:
        """Take the next bytes, and yield the packets that they complete, and before them their codec.

        Raises:
            SourceError: the container is damaged, or holds no sound that can be decoded.
        """


def opus(head: bytes) -> Codec:
    """Return the codec of a stream that begins with an Opus header (RFC 7845, section 5.1).

    The decoder itself leaves out the samples that the header says are not to be heard.
    """
    return Codec("opus", head)


def vorbis(headers: list[bytes]) -> Codec:
    """Return the codec of a stream that begins with the three headers of Vorbis."""
    sizes = b"".join(b"\xff" * (len(each) // 255) + bytes([len(each) % 255]) for each in headers[:2])
    return Codec("vorbis", b"\x02" + sizes + b"".join(headers))
