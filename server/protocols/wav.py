"""Take the header off audio that may begin with one, however the audio is cut into messages."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from parastream.server.wire.messages import SampleFormat
from parastream.server.wire.refusals import RefusalError

LONGEST_HEADER = 1 << 16
"""Bytes before the samples, with all other chunks of the file."""

_FORMATS: dict[tuple[int, int], SampleFormat] = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
"""Names of encodings by format tag and bits of a sample."""
_EXTENSIBLE = 0xFFFE  # the tag comes later in the chunk then
_NO_SIZE = 0x7FFFF000  # a writer that does not know the size gives one from here on


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a WAV header says."""

    format: SampleFormat
    rate: int
    channels: int
    size: int | None
    """Bytes of audio, after which other chunks may follow; None if the writer did not know."""


class _State(enum.Enum):
    HEADER = enum.auto()
    """It is not known yet whether a header comes, or it is not complete."""
    RAW = enum.auto()
    """There was none."""
    AUDIO = enum.auto()
    REST = enum.auto()
    """What follows the audio of a file: other chunks, or another file."""


class WavInput:
    """The audio of one recording, which may be a WAV file, or several: some clients make one of each piece."""

    def __init__(self) -> None:
        self.header: WavHeader | None = None
        """That of the first file."""
        self._state = _State.HEADER
        self._held = b""
        self._chunks = _Chunks()
        self._left: int | None = None  # bytes of audio still to come; None: no end is known
        self._skip = 0  # bytes of a chunk after the audio
        self._padded = False  # whether a byte of padding may come first

    @property
    def known(self) -> bool:
        """Whether there was enough audio to tell if it has a header."""
        return self._state is not _State.HEADER or self.header is not None

    def push(self, data: bytes) -> bytes:
        """Take the next bytes and return the audio in them.

        Raises:
            RefusalError: a header is damaged, names a format that the server does not support, or another one than the
                header before it.
        """
        if self._state in (_State.AUDIO, _State.REST) and data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            self._begin_file()  # whatever the one before has said of its size
        audio = []
        while data:
            match self._state:
                case _State.HEADER:
                    data = self._read_header(data)
                case _State.RAW:
                    audio.append(data)
                    break
                case _State.AUDIO:
                    audio.append(data[: self._left])
                    if self._left is None:
                        break
                    self._left -= len(audio[-1])
                    data = data[len(audio[-1]) :]
                    if not self._left:
                        self._state = _State.REST
                case _State.REST:
                    data = self._read_rest(data)
        return b"".join(audio)

    def _begin_file(self) -> None:
        self._state, self._chunks, self._held, self._skip = _State.HEADER, _Chunks(), b"", 0

    def _read_header(self, data: bytes) -> bytes:
        """Take bytes of a header, and return those that follow it."""
        self._held += data
        found = self._chunks.read(self._held)
        if found is None:
            return b""
        header, first = found
        rest, self._held = self._held[first:], b""
        if header is None:
            self._state = _State.RAW
            return rest
        earlier = self.header or header
        if (header.format, header.rate, header.channels) != (earlier.format, earlier.rate, earlier.channels):
            raise RefusalError(
                "unsupported",
                f"a WAV header says {header.format}, {header.rate} Hz and {header.channels} channels, "
                f"the one before it {earlier.format}, {earlier.rate} Hz and {earlier.channels}",
            )
        self.header, self._left, self._state = earlier, header.size, _State.AUDIO
        self._padded = bool(header.size and header.size % 2)
        return rest

    def _read_rest(self, data: bytes) -> bytes:
        """Take bytes that follow the audio, and return those of the next file."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._held += data[skipped:]
        if self._padded and self._held:
            self._padded = False
            if self._held[:1] == b"\0":
                self._held = self._held[1:]
        magic = self._held[:4] + self._held[8:12]
        if magic == b"RIFFWAVE"[: len(magic)] and len(self._held) < 12:
            return b""
        if magic == b"RIFFWAVE":
            begin = self._held
            self._begin_file()
            return begin
        if len(self._held) < 8:
            return b""
        size = _integer(self._held, 4)
        self._skip = size + size % 2
        rest, self._held = self._held[8:], b""
        return rest

    def finish(self) -> bytes:
        """Return what was held back as the possible beginning of a header; the recording has ended.

        Returns:
            The audio; empty if it was the beginning of a real header.
        """
        held, self._held = self._held, b""
        if self._state is _State.HEADER and self.header is None and len(held) < 12:
            self._state = _State.RAW
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
            ("PCM of 8, 16, 24 or 32 bits (1)", "float of 32 or 64 bits (3)", "8-bit A-law (6)", "8-bit mu-law (7)"),
        )
    known = whole and 0 < size < _NO_SIZE
    return WavHeader(_FORMATS[tag, bits], rate, channels, size if known else None)
