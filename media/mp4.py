"""Take the sound out of MP4 in fragments as it comes (ISO/IEC 14496-12), as the `MediaRecorder` of Safari makes it.

Other MP4 files have one index of all their sound, usually at the end: only FFmpeg reads those, once it has all of them.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from parastream.media.decoding import SourceError
from parastream.media.packets import Codec, opus

_LARGEST = 1 << 20
"""Bytes of a box that is looked at, and of a sample."""
_MOST_SAMPLES = 1 << 16
"""In a fragment."""
_MOST_BOXES = 16
"""Before the index of a file."""
_HEAD = 8
_AAC = (0x40, 0x66, 0x67, 0x68)
"""Types of objects in an `esds` box: AAC of MPEG-4, and of MPEG-2."""
_CONFIGURATION, _SPECIFIC = 0x04, 0x05  # descriptors in it

# Flags of `tfhd` and `trun`: which fields there are.
_BASE_OFFSET, _DESCRIPTION, _DURATION, _SIZE, _BASE_IS_FRAGMENT = 0x01, 0x02, 0x08, 0x10, 0x020000
_OFFSET, _FIRST_FLAGS, _SAMPLE_DURATION, _SAMPLE_SIZE, _SAMPLE_FLAGS, _SAMPLE_TIME = (
    0x01,
    0x04,
    0x100,
    0x200,
    0x400,
    0x800,
)


def begins(head: bytes) -> bool:
    """Return whether bytes are the beginning of an MP4 file."""
    return head[4:8] == b"ftyp"


def comes_in_fragments(head: bytes) -> bool | None:
    """Return whether `Mp4Demuxer` can read a file; None while more bytes are needed.

    Args:
        head: the first bytes of the file.
    """
    place = 0
    for _ in range(_MOST_BOXES):
        try:
            found = _head(head, place)
            if found is None:
                return None
            kind, size, begin = found
            if kind in (b"mdat", b"moof") or size is None or place + size > _LARGEST:
                return False
            if kind == b"moov":
                return None if len(head) < place + size else _track(head[place + begin : place + size]) is not None
        except SourceError:
            return False
        place += size
    return False


@dataclass(frozen=True, slots=True)
class _Track:
    number: int
    codec: Codec
    sample_size: int
    """Of samples whose sizes their fragment does not tell."""


class Mp4Demuxer:
    """Yields the samples of the first track with sound. See `Demuxer`."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._position = 0  # of these bytes, since the last `ftyp`
        self._until: float | None = None  # where the box ends that is passed over or has the samples; None: in no box
        self._has_samples = False  # it has them
        self._track: _Track | None = None
        self._samples: deque[tuple[int, int]] = deque()  # places and sizes of those that follow

    def push(self, data: bytes) -> Iterator[Codec | bytes]:
        """See `Demuxer.push`."""
        self._held += data
        while True:
            if self._until is not None:
                if self._has_samples:
                    yield from self._take_samples(self._until)
                    if self._samples:
                        return
                self._drop_to(self._until)
                if self._position < self._until:
                    return
                self._until = None
            found = _head(self._held)
            if found is None:
                return
            kind, size, begin = found
            if kind not in (b"moov", b"moof"):
                if kind == b"ftyp":
                    self._position = 0
                self._has_samples = kind == b"mdat"
                self._until = math.inf if size is None else self._position + size
                self._drop_to(self._position + begin)
                continue
            if size is None or size > _LARGEST:
                raise SourceError("damaged MP4 (an index that is too large)")
            if len(self._held) < size:
                return
            content, start = bytes(self._held[begin:size]), self._position
            self._drop_to(self._position + size)
            if kind == b"moov":
                self._track = _track(content)
                if self._track is None:
                    raise SourceError("this MP4 does not go on in fragments of AAC or Opus")
                yield self._track.codec
            elif self._track is not None:
                self._samples = deque(sorted(_samples(content, start, self._track)))

    def _take_samples(self, end: float) -> Iterator[bytes]:
        """Take the samples that are there, of those before `end`."""
        while self._samples:
            place, size = self._samples[0]
            if place < self._position or place + size > end:
                raise SourceError("damaged MP4 (samples that are not in their box)")
            self._drop_to(place)
            if len(self._held) < size or self._position < place:
                return
            self._samples.popleft()
            sample = bytes(self._held[:size])
            self._drop_to(place + size)
            if sample:
                yield sample

    def _drop_to(self, place: float) -> None:
        """Forget what comes before a place."""
        dropped = int(min(len(self._held), max(0, place - self._position)))
        del self._held[:dropped]
        self._position += dropped


class _Fields:
    """Reads the fields of a box, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def take(self, size: int) -> bytes:
        """Return bytes. Raises `SourceError` where the box ends before."""
        found = self._content[self._place : self._place + size]
        self._place += size
        if len(found) < size:
            raise SourceError("damaged MP4 (a box that is too short)")
        return found

    def number(self, size: int = 4, *, signed: bool = False) -> int:
        """Return a number of so many bytes. Raises `SourceError` where the box ends before."""
        return int.from_bytes(self.take(size), "big", signed=signed)

    @property
    def rest(self) -> bytes:
        """What follows."""
        return self._content[self._place :]


def _head(data: bytes | bytearray, place: int = 0) -> tuple[bytes, int | None, int] | None:
    """Return kind and size of a box (None: all that follows), and bytes before its content; None if it is not there.

    Raises:
        SourceError: this is no box.
    """
    if len(data) < place + _HEAD:
        return None
    size, kind = struct.unpack_from(">I4s", data, place)
    begin = _HEAD
    if size == 1:
        begin = 2 * _HEAD
        if len(data) < place + begin:
            return None
        (size,) = struct.unpack_from(">Q", data, place + _HEAD)
    if not kind.isalnum() or 0 < size < begin:
        raise SourceError("damaged MP4 (no box where one has to begin)")
    return kind, size or None, begin


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kinds and contents of the boxes in another. Raises `SourceError`."""
    place = 0
    while (found := _head(content, place)) is not None:
        kind, size, begin = found
        if size is None or place + size > len(content):
            raise SourceError("damaged MP4 (a box that is larger than the one around it)")
        yield kind, content[place + begin : place + size]
        place += size


def _all(content: bytes, *path: bytes) -> Iterator[bytes]:
    """Yield the contents of all boxes at a path. Raises `SourceError`."""
    for kind, inner in _boxes(content):
        if kind == path[0]:
            yield from _all(inner, *path[1:]) if len(path) > 1 else (inner,)


def _first(content: bytes, *path: bytes) -> bytes:
    """Return the content of the first box at a path; nothing if there is none. Raises `SourceError`."""
    return next(_all(content, *path), b"")


def _track(movie: bytes) -> _Track | None:
    """Return the track of an index whose sound follows in fragments; None if there is none. Raises `SourceError`."""
    for track in _all(movie, b"trak"):
        media = _first(track, b"mdia")
        if _first(media, b"hdlr")[8:12] != b"soun":
            continue
        header = _Fields(_first(track, b"tkhd"))
        header.take(19 if header.number(1) else 11)  # by its version: times of 64 or of 32 bits
        number = header.number()
        for defaults in _all(movie, b"mvex", b"trex"):
            fields = _Fields(defaults[4:])
            if fields.number() == number:
                fields.take(8)
                codec = _codec(_first(media, b"minf", b"stbl", b"stsd"))
                return None if codec is None else _Track(number, codec, fields.number())
        return None
    return None


def _codec(descriptions: bytes) -> Codec | None:
    """Return how samples are encoded; None if that is neither AAC nor Opus. Raises `SourceError`."""
    kind, entry = next(_boxes(descriptions[8:]), (b"", b""))
    content = entry[28:]  # behind the fields that all sound has
    if kind == b"Opus":
        return _opus(_Fields(_first(content, b"dOps")))
    return _aac(_Fields(_first(content, b"esds"))) if kind == b"mp4a" else None


def _opus(box: _Fields) -> Codec:
    """Return the codec by the header that Opus has in MP4: that of Ogg, but for the order of bytes."""
    box.number(1)  # version
    channels, skip, rate, gain = box.number(1), box.number(2), box.number(4), box.number(2, signed=True)
    return opus(b"OpusHead" + struct.pack("<BBHIh", 1, channels, skip, rate, gain) + box.rest)


def _aac(box: _Fields) -> Codec | None:
    box.take(4)
    _descriptor(box)
    box.take(2)  # number
    flags = box.number(1)
    box.take(2 if flags & 0x80 else 0)
    box.take(box.number(1) if flags & 0x40 else 0)
    box.take(2 if flags & 0x20 else 0)
    if _descriptor(box)[0] != _CONFIGURATION or box.number(1) not in _AAC:
        return None
    box.take(12)
    name, size = _descriptor(box)
    return Codec("aac", box.take(size)) if name == _SPECIFIC else None


def _descriptor(box: _Fields) -> tuple[int, int]:
    """Return the name of a descriptor and the size of its content, before which the box is read up to."""
    name, size = box.number(1), 0
    for _ in range(4):
        byte = box.number(1)
        size = size << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return name, size


def _samples(fragment: bytes, start: int, track: _Track) -> Iterator[tuple[int, int]]:
    """Yield places and sizes of a track's samples by the index of a fragment, which begins at `start`.

    Raises:
        SourceError: it is damaged.
    """
    end, total = start, 0  # of the samples before
    for content in _all(fragment, b"traf"):
        header = _Fields(_first(content, b"tfhd"))
        flags, number = header.number(), header.number()
        base = header.number(8) if flags & _BASE_OFFSET else start if flags & _BASE_IS_FRAGMENT else end
        header.take(sum(4 for flag in (_DESCRIPTION, _DURATION) if flags & flag))
        usual = header.number() if flags & _SIZE else track.sample_size
        end = base
        for run in _all(content, b"trun"):
            fields = _Fields(run)
            flags, count = fields.number(), fields.number()
            total += count
            if total > _MOST_SAMPLES:
                raise SourceError(f"damaged MP4 (a fragment of {total} samples)")
            end = base + fields.number(signed=True) if flags & _OFFSET else end
            fields.take(4 if flags & _FIRST_FLAGS else 0)
            before = 4 if flags & _SAMPLE_DURATION else 0
            behind = sum(4 for flag in (_SAMPLE_FLAGS, _SAMPLE_TIME) if flags & flag)
            for _ in range(count):
                fields.take(before)
                size = fields.number() if flags & _SAMPLE_SIZE else usual
                fields.take(behind)
                if size > _LARGEST:
                    raise SourceError(f"damaged MP4 (a sample of {size} bytes)")
                if number == track.number:
                    yield end, size
                end += size
