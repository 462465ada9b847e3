"""Take the sound out of WebM as it comes (Matroska, RFC 9559; EBML, RFC 8794), as `MediaRecorder` makes it.

FFmpeg's own demuxer wants a file: on a stream it reads ahead, and its sound comes a quarter of a second late.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from parastream.media.decoding import SourceError
from parastream.media.packets import Codec, opus

MAGIC = b"\x1a\x45\xdf\xa3"
_LARGEST = 1 << 20
"""Bytes of an element that is looked at."""

_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _AUDIO, _GROUP = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE1, 0xA0
_INTO = frozenset({_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _AUDIO, _GROUP})
"""Elements whose elements are looked at. Only the first two may be of unknown size."""
_NUMBER, _TYPE, _CODEC, _PRIVATE, _RATE, _CHANNELS = 0xD7, 0x83, 0x86, 0x63A2, 0xB5, 0x9F
_SIMPLE_BLOCK, _BLOCK = 0xA3, 0xA1
_READ = frozenset({_NUMBER, _TYPE, _CODEC, _PRIVATE, _RATE, _CHANNELS, _SIMPLE_BLOCK, _BLOCK})
_SOUND = 2  # type of a track
_LACED = 0x06  # flags of a block that holds several packets
_PCM = {"A_PCM/FLOAT/IEEE": "pcm_f32le", "A_PCM/INT/LIT": "pcm_s16le"}
_KNOWN = ("A_OPUS", *_PCM)


@dataclass
class _Track:
    number: int = 0
    type: int = 0
    codec: str = ""
    private: bytes = b""
    rate: float = 8000.0
    channels: int = 1


class WebmDemuxer:
    """Yields the packets of the first track with sound. See `Demuxer`."""

    def __init__(self) -> None:
        self._held = b""
        self._skip = 0  # bytes of an element that nobody wants
        self._tracks: list[_Track] = []
        self._chosen: int | None = None  # number of the track

    def push(self, data: bytes) -> Iterator[Codec | bytes]:
        """See `Demuxer.push`."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._held += data[skipped:]
        while (element := self._next()) is not None:
            name, content = element
            if name == _TRACK:
                self._tracks.append(_Track())
            elif name in (_SIMPLE_BLOCK, _BLOCK):
                yield from self._block(content)
            elif self._tracks:
                self._describe(self._tracks[-1], name, content)

    def _next(self) -> tuple[int, bytes] | None:
        """Take an element; one that holds others is taken without them, and one of no interest is skipped."""
        while True:
            found = self._head()
            if found is None:
                return None
            name, size, begin = found
            if name in _INTO:
                self._held = self._held[begin:]
                return name, b""
            if size is None:
                raise SourceError(f"damaged WebM (an element {name:#x} without an end)")
            if name not in _READ:
                self._skip = max(0, begin + size - len(self._held))
                self._held = self._held[begin + size :]
                continue
            if size > _LARGEST:
                raise SourceError(f"damaged WebM (an element of {size} bytes)")
            if len(self._held) < begin + size:
                return None
            content, self._held = self._held[begin : begin + size], self._held[begin + size :]
            return name, content

    def _head(self) -> tuple[int, int | None, int] | None:
        """Return name and size of the next element and where it begins; None while more bytes are needed."""
        if not self._held or self._skip:
            return None
        length = _length(self._held[0])
        if length > 4:
            raise SourceError("damaged WebM (no element where one has to begin)")
        size = _variable(self._held, length)
        if size is None:
            return None
        return int.from_bytes(self._held[:length], "big"), size[0], size[1]

    def _describe(self, track: _Track, name: int, content: bytes) -> None:
        match name:
            case 0xD7:
                track.number = int.from_bytes(content, "big")
            case 0x83:
                track.type = int.from_bytes(content, "big")
            case 0x86:
                track.codec = content.rstrip(b"\0").decode("ascii", "replace")
            case 0x63A2:
                track.private = content
            case 0xB5:
                track.rate = _real(content)
            case 0x9F:
                track.channels = int.from_bytes(content, "big")

    def _block(self, content: bytes) -> Iterator[Codec | bytes]:
        if self._chosen is None:
            track = next((track for track in self._tracks if track.type == _SOUND), None)
            if track is None:
                raise SourceError("there is no sound in this WebM")
            self._chosen = track.number
            yield _codec(track)
        number = _variable(content, 0)
        if number is None or len(content) < number[1] + 3:
            raise SourceError("damaged WebM (a block without its head)")
        if number[0] != self._chosen:
            return
        if content[number[1] + 2] & _LACED:
            raise SourceError("this WebM has several packets in a block, which cannot be read as it comes")
        yield content[number[1] + 3 :]


def _codec(track: _Track) -> Codec:
    if track.codec == "A_OPUS":
        return opus(track.private)
    if track.codec in _PCM:
        return Codec(_PCM[track.codec], rate=round(track.rate), channels=track.channels)
    raise SourceError(f"the sound in this WebM is {track.codec!r}; allowed: {', '.join(_KNOWN)}")


def _length(first: int) -> int:
    """Return how many bytes a number of variable length has, by its first one."""
    return 9 - first.bit_length()


def _variable(data: bytes, place: int) -> tuple[int | None, int] | None:
    """Read a number of variable length; None as a number stands for an unknown size.

    Returns:
        The number, and where it ends; None while more bytes are needed.
    """
    if place >= len(data):
        return None
    length = _length(data[place])
    if length > 8:
        raise SourceError("damaged WebM (a size that is none)")
    if len(data) < place + length:
        return None
    bits = 7 * length
    value = int.from_bytes(data[place : place + length], "big") & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 else value), place + length


def _real(content: bytes) -> float:
    if len(content) not in (4, 8):
        raise SourceError("damaged WebM (a rate that is none)")
    value: float = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]
    return value
