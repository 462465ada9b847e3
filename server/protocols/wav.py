"""Take the header off audio that may begin with one, however the audio is cut into messages."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from parastream.server.wire.refusals import RefusalError

LONGEST_HEADER = 1 << 16
"""Bytes before the samples, with all other chunks of the file."""

_FORMATS: dict[tuple[int, int], Literal["s16le", "f32le", "mulaw", "alaw"]] = {
    (1, 16): "s16le",
    (3, 32): "f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
"""Names of encodings by format tag and bits of a sample."""
_EXTENSIBLE = 0xFFFE  # the tag comes later in the chunk then
_NO_SIZE = 0x7FFFF000  # a writer that does not know the size gives one from here on


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a WAV header says."""

    format: Literal["s16le", "f32le", "mulaw", "alaw"]
    rate: int
    channels: int
    size: int | None
    """Bytes of audio, after which other chunks may follow; None if the writer did not know."""


class WavInput:
    """The audio of one recording, which may be a WAV file."""

    def __init__(self) -> None:
        self.known = False
        """Whether there was enough audio to tell if it has a header."""
        self.header: WavHeader | None = None
        self._held = b""
        self._chunks = _Chunks()
        self._left: int | None = None  # bytes of audio still to come; None: no end is known

    def push(self, data: bytes) -> bytes:
        """Take the next bytes and return the audio in them.

        Raises:
            RefusalError: the header is damaged, or names a format that the server does not support.
        """
        if not self.known:
            self._held += data
            found = self._chunks.read(self._held)
            if found is None:
                return b""
            self.known = True
            self.header, first = found
            if self.header is not None:
                self._left = self.header.size
            data, self._held = self._held[first:], b""
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def finish(self) -> bytes:
        """Return what was held back as the possible beginning of a header; the recording has ended.

        Returns:
            The audio; empty if it was the beginning of a real header.
        """
        held, self._held = self._held, b""
        if not self.known and len(held) < 12:
            self.known = True
            return held
        return b""


class _Chunks:
    """Walks through a header, and looks at each chunk once, however few bytes come at a time."""

    def __init__(self) -> None:
        self._place = 12  # of the next chunk
        self._form = slice(0)  # of what says what the audio is

    def read(self, begin: bytes) -> tuple[WavHeader | None, int] | None:
        """Find the header that audio begins with.

        Args:
            begin: all of the audio so far.

        Returns:
            The header, or None if there is none, and where the samples begin; None while more bytes are needed.
        """
        magic = begin[:4] + begin[8:12]
        if magic != b"RIFFWAVE"[: len(magic)]:
            return None, 0
        while len(begin) >= self._place + 8:
            name, size = begin[self._place : self._place + 4], _integer(begin, self._place + 4)
            first = self._place + 8
            if name == b"data":
                return _header(begin[self._form], size, whole=_integer(begin, 4) + 8 >= first + size), first
            if name == b"fmt ":
                self._form = slice(first, first + size)
            self._place = first + size + size % 2
            if self._place > LONGEST_HEADER:
                break
        if max(self._place, len(begin)) > LONGEST_HEADER:
            raise RefusalError("invalid_audio", f"a WAV header has no audio in its first {LONGEST_HEADER} bytes")
        return None


def _integer(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def _header(form: bytes, size: int, *, whole: bool) -> WavHeader:
    if len(form) < 16:
        raise RefusalError("invalid_audio", "a WAV header does not say what the audio is before the audio begins")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(form[24:26], "little")
    if (tag, bits) not in _FORMATS:
        raise RefusalError(
            "unsupported",
            f"a WAV header says format {tag} with {bits} bits",
            ("16-bit PCM (1)", "32-bit float (3)", "8-bit A-law (6)", "8-bit mu-law (7)"),
        )
    known = whole and 0 < size < _NO_SIZE
    return WavHeader(_FORMATS[tag, bits], rate, channels, size if known else None)
