"""Recordings decoded piece by piece, in constant memory, by FFmpeg through PyAV.

What a recording's header says about its length is not believed: recorders crash before they have written it, and files
are joined and cut. A damaged place costs what was in it; what follows is decoded as far as FFmpeg can.
"""

from __future__ import annotations

import io
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError
from numpy.typing import NDArray
from parastream.media.containers import declared_seconds, ends_within_page, mp3_frame_bytes, tag_length, wav_repairs
from parastream.media.frames import HIGHEST_RATE, LOWEST_RATE, FrameShape, is_exact

STANDARD_INPUT = Path("-")
MOST_CHANNELS = 255
LARGEST_SAMPLE = float(1 << 20)
"""Largest magnitude of a float sample, whose full scale is 1. It is the server's limit, too."""

_HEAD = 1 << 16  # bytes at the beginning in which headers are looked for
_GAP, _FLAC_GAP = 0.08, 0.005  # seconds that may lie between frames: time stamps are rounded
_LONGEST_GAP = 60.0  # seconds of silence in the place of what is missing; a longer gap is a wrong time stamp
_MOST_BETWEEN = 512  # bytes between two packets of the only stream
_MOST_READ_ERRORS = 16  # in a row
_NO_FILE = -1


class Source(Protocol):
    """Bytes as they come."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, once there are some; none at the end."""


class SourceError(Exception):
    """A recording cannot be read as audio, or only in part."""


class Damage:
    """The places at which a recording is damaged."""

    _MOST = 3  # places that are named
    _NEAR = 1.0  # seconds within which errors count as one place

    def __init__(self) -> None:
        self._named: list[str] = []
        self._further = 0
        self._last = -math.inf

    def add(self, seconds: float, what: str) -> None:
        """Note a place, `seconds` after the beginning of the recording."""
        near, self._last = seconds - self._last < self._NEAR, seconds
        if near:
            return
        if len(self._named) < self._MOST:
            self._named.append(f"at {seconds:.1f} s ({what})")
        else:
            self._further += 1

    def __bool__(self) -> bool:
        return bool(self._named)

    def __str__(self) -> str:
        more = f" and in {self._further} more places" if self._further else ""
        return f"damaged audio {', '.join(self._named)}{more}; the rest has been read"


class Recording:
    """An audio file, or the sound of a video, that is open to be decoded once. A context manager."""

    def __init__(self, source: Path | Source) -> None:
        """Open a recording and read its header.

        Args:
            source: a file or a pipe; `-` for the standard input; or what gives the bytes as they come.

        Raises:
            SourceError: it cannot be read as audio.
        """
        self.name = display_name(source) if isinstance(source, Path) else "the audio"
        self.damage = Damage()
        """What was found to be damaged while decoding."""
        try:
            self._input = _Input(source)
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror or error}") from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            self._container = av.open(
                self._input,
                "r",
                metadata_errors="replace",
                # A playlist is no recording: FFmpeg must not open what it names.
                io_open=_refuse_to_open,
                container_options={"protocol_whitelist": "none"},
            )
            stream = self._container.streams.best("audio")
        except (FFmpegError, OSError, ValueError, LookupError) as error:
            raise SourceError(f"{self.name}: not a recording that can be read ({self._why_not(error)})") from error
        if stream is None or not isinstance(stream, av.AudioStream):
            raise SourceError(f"{self.name}: not a recording that can be read (there is no sound in it)")
        self._stream = stream
        codec: Any = stream.codec_context
        if codec is None:
            raise SourceError(f"{self.name}: not a recording that can be read (its sound is of an unknown kind)")
        if codec.name == "flac":
            codec.options = {"err_detect": "crccheck+explode"}  # otherwise a damaged frame becomes noise
        self.rate: int = codec.sample_rate or 0
        """Hz."""
        self.channels: int = codec.channels
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise SourceError(
                f"{self.name}: not a recording that can be read (a sampling rate of {self.rate} Hz; "
                f"allowed: {LOWEST_RATE} to {HIGHEST_RATE})"
            )
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise SourceError(
                f"{self.name}: not a recording that can be read ({self.channels} channels; "
                f"allowed: 1 to {MOST_CHANNELS})"
            )
        self.exact: bool = codec.format is not None and is_exact(codec.format)
        """Whether samples come as int16; otherwise they are float32 with full scale 1."""
        self.reopens: bool = self._input.reopens
        """Whether the recording can be opened a second time."""
        self.duration: float | None = declared_seconds(self._container, stream, self._input.head, self._input.size)
        """Seconds, if the header is sure to have been written with the whole recording at hand. It may still be cut."""
        self._skipped_bytes = False
        self._last_packet_is_cut = False
        self.seconds = 0.0
        """Length of what has been decoded so far."""

    def _why_not(self, error: Exception) -> str:
        if not isinstance(error, InvalidDataError):
            return _reason(error)
        head = self._input.head
        if not head:
            return "it is empty"
        if head[4:8] == b"ftyp":
            return "its index is missing: it has been cut, or is still being written"
        return "its beginning is damaged, or it is of an unknown kind"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_container"):
            self._container.close()
        self._input.close()

    def estimated_duration(self) -> float | None:
        """Return how many seconds there will be, from the header or the bytes read so far; None if that is unknown."""
        if self.duration is not None:
            return self.duration if self.seconds <= self.duration + 1 else None
        if not self._input.size or not self._input.position or self.seconds < 1:
            return None
        return self.seconds * self._input.size / self._input.position

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the sound (n, channels), in pieces as long as the codec has them.

        Damage does not raise anything here: it is noted in `damage`.
        """
        frames = 0
        for block in self._usable(self._blocks()):
            frames += len(block)
            self.seconds = frames / self.rate
            yield block
        missing = self.duration is not None and self.duration - self.seconds
        if missing and missing > _tolerance(self._container.format.name):
            self.damage.add(self.seconds, f"{missing:.1f} s less than its header says")
        elif self._last_packet_is_cut or (
            self._container.format.name == "ogg" and ends_within_page(self._input.tail())
        ):
            self.damage.add(self.seconds, "its end is missing")
        elif not frames and self._input.position > _HEAD:
            self.damage.add(0.0, "nothing in it can be decoded")

    def _usable(self, blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Replace samples that are no numbers, or absurdly large, by silence."""
        for block in blocks:
            if block.dtype == np.float32:
                with np.errstate(invalid="ignore"):  # a signalling NaN is found, not warned about
                    bad = ~(np.abs(block) <= LARGEST_SAMPLE)
                if bad.any():
                    number = round(self.seconds * self.rate) + int(np.flatnonzero(bad.any(axis=1))[0])
                    self.damage.add(number / self.rate, f"sample {number} is {block[bad][0]}")
                    block = np.where(bad, np.float32(0), block)
            yield block

    def _blocks(self) -> Iterator[NDArray[Any]]:
        shape = FrameShape(self.rate, self.channels, self.exact)
        tolerated = _FLAC_GAP if self._container.format.name == "flac" else _GAP
        end: float | None = None  # of the frame before, by its time stamp
        lost_bytes = False
        tag = _Tags()
        for packet in self._packets():
            lost_bytes |= packet.is_corrupt
            try:
                frames = packet.decode()
            except (FFmpegError, ValueError) as error:
                if not tag.covers(packet):
                    self.damage.add(self.seconds, _reason(error))
                    lost_bytes = True
                continue
            for frame in frames:
                if not isinstance(frame, av.AudioFrame) or not frame.samples:
                    continue
                start = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
                gap = 0.0 if start is None or end is None else start - end
                if gap > tolerated:
                    if not lost_bytes and (self._skipped_bytes or self._is_contiguous()):
                        self.damage.add(self.seconds, f"{gap:.2f} s missing")
                    if gap <= _LONGEST_GAP:
                        yield shape.silence(gap)
                lost_bytes = self._skipped_bytes = False
                end = None if start is None else start + frame.samples / frame.sample_rate
                try:
                    samples = shape.convert(frame)
                except ValueError as error:
                    self.damage.add(self.seconds, str(error))
                else:
                    yield samples
        yield shape.finish()

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        """Yield the packets of the sound and an empty one at the end; go on behind what cannot be read."""
        errors = 0
        end = None  # in the file, of the packet before
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    errors = 0
                    # Damage makes a demuxer search for the next place that it understands.
                    if end is not None and packet.pos is not None and packet.pos - end > _MOST_BETWEEN:
                        self._skipped_bytes = len(self._container.streams) == 1
                    end = None if packet.pos is None else packet.pos + packet.size
                    if packet.size and self._container.format.name == "mp3":
                        self._last_packet_is_cut = packet.size < mp3_frame_bytes(bytes(packet))
                    yield packet
                return
            except (FFmpegError, OSError) as error:
                errors += 1
                if errors == 1:
                    self.damage.add(self.seconds, _reason(error))
                if errors == _MOST_READ_ERRORS or not isinstance(error, FFmpegError):
                    return

    def _is_contiguous(self) -> bool:
        """Return whether a jump of the time stamps means that something is missing; a pause is stored as sound."""
        return self._container.format.name in ("flac", "ogg")


class _Tags:
    """Tags between joined MP3 files, which the decoder takes for damaged sound."""

    def __init__(self) -> None:
        self._left = 0

    def covers(self, packet: av.Packet[av.AudioStream]) -> bool:
        """Return whether a packet that could not be decoded is (part of) a tag."""
        if not self._left:
            self._left = tag_length(bytes(packet)) if packet.size else 0
        covered = self._left > 0
        self._left = max(0, self._left - packet.size)
        return covered


class _Input(io.RawIOBase):
    """The bytes of a recording, which is all that FFmpeg sees of it; a pipe has neither a size nor an end to seek."""

    def __init__(self, source: Path | Source) -> None:
        super().__init__()
        self.head = b""
        """The first bytes."""
        self.position = 0
        self.reopens = False
        self.size: int | None = None
        self._source = source
        self._tail = b""
        self._unread = b""  # of a pipe
        self._repairs: list[tuple[int, bytes]] = []
        self._file = _NO_FILE
        if isinstance(source, Path):
            self._file = os.open(source, os.O_RDONLY | os.O_CLOEXEC) if source != STANDARD_INPUT else os.dup(0)
        try:
            if isinstance(source, Path):
                status = os.fstat(self._file)
                if stat.S_ISDIR(status.st_mode):
                    os.read(self._file, 1)  # raises what that is called
                self.reopens = stat.S_ISREG(status.st_mode) and source != STANDARD_INPUT
                self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
            if self.size is None:
                self._begin_pipe()
            if self.size is not None:
                head = os.pread(self._file, _HEAD, 0)
                self._repairs = wav_repairs(head, self.size, lambda place, count: os.pread(self._file, count, place))
                self.head = self._repaired(head, 0)
        except BaseException:
            self.close()
            raise

    def _next(self, size: int) -> bytes:
        """Return the next bytes of the file or of the source."""
        if self._file == _NO_FILE and not isinstance(self._source, Path):
            return self._source.read(size)
        return os.read(self._file, size)

    def _begin_pipe(self) -> None:
        """Read the first bytes. MP4 usually has its index at the end: it goes into a temporary file first."""
        while len(self._unread) < 8 and (data := self._next(_HEAD)):
            self._unread += data
        if self._unread[4:8] != b"ftyp":
            return
        with tempfile.TemporaryFile(buffering=0) as whole:
            data = self._unread
            while data:
                whole.write(data)
                data = self._next(_HEAD)
            if self._file == _NO_FILE:
                self._file = os.dup(whole.fileno())
            else:
                os.dup2(whole.fileno(), self._file, inheritable=False)
        os.lseek(self._file, 0, os.SEEK_SET)
        self.size = os.fstat(self._file).st_size

    @property
    def name(self) -> str:
        """No name: FFmpeg goes by the content."""
        return ""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.size is not None

    def read(self, size: int = -1) -> bytes:
        size = size if size > 0 else _HEAD
        if self.size is None and self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
        else:
            data = self._repaired(self._next(size), self.position)
        self.position += len(data)
        if self.size is None:
            if len(self.head) < _HEAD:
                self.head += data
            self._tail = (self._tail + data)[-2 * _HEAD :]
        return data

    def _repaired(self, data: bytes, position: int) -> bytes:
        for place, repair in self._repairs:
            for index, byte in enumerate(repair, place - position):
                if 0 <= index < len(data):
                    data = data[:index] + bytes((byte,)) + data[index + 1 :]
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            self.position = os.lseek(self._file, offset, whence)
        except OSError:  # a damaged header leads before the beginning
            return -1
        return self.position

    def tell(self) -> int:
        return self.position

    def tail(self) -> bytes:
        """Return the last bytes: of a file, or of what was read from a pipe."""
        if self.size is None:
            return self._tail
        return os.pread(self._file, 2 * _HEAD, max(0, self.size - 2 * _HEAD))

    def close(self) -> None:
        if self._file != _NO_FILE:
            os.close(self._file)
            self._file = _NO_FILE
        super().close()


def display_name(path: Path) -> str:
    """Return a path as it can be shown: bytes that are not UTF-8 and what would control a terminal are escaped."""
    if path == STANDARD_INPUT:
        return "standard input"
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def _refuse_to_open(url: str, flags: int, options: object) -> object:
    raise OSError(f"it refers to another file, {url[:80]!r}")


def _tolerance(container: str) -> float:
    """Seconds by which a complete recording may be shorter than its header says."""
    return 1.0 if container.startswith(("mov", "matroska", "mp3")) else 0.1


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidDataError):
        return "it cannot be decoded"
    if isinstance(error, OSError | FFmpegError):
        return str(error.strerror or error).rstrip(".: ").lower()
    return str(error).lower()
