"""Recordings as audio sources: as a whole, or block by block at the pace of a microphone.

libsndfile reads wav, flac, mp3, ogg and others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

MODEL_RATE = 16_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
"""Sampling rates in Hz that a server accepts; recordings at other rates are resampled here."""

_SMALL_SAMPLES = frozenset({"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"})
"""Subtypes of libsndfile whose samples fit into signed 16-bit samples without loss."""


def sample_recording() -> AbstractContextManager[Path]:
    """Give the recording that comes with the package as a file: three sentences, 12 s, 16 kHz, 16 bits."""
    return as_file(files("parastream.client") / "assets" / "sample.flac")


Channel = int | Literal["all"] | None
"""Which channel of a recording is read, counted from 0; None mixes all, `all` keeps them apart."""


class SourceError(Exception):
    """A recording cannot be read as audio."""


class FileSource:
    """A recording as blocks of samples, for a server.

    `async for block in source` gives arrays of int16 or float32 samples (`format` says which) at `rate` Hz: (n,), or
    (n, `channels`) when all channels are kept apart. The end of block k arrives when a microphone would have delivered
    it: each block waits for its own time since the first, so that late blocks never add up to a drift. Iterating
    raises `SourceError` when the file is damaged.
    """

    def __init__(self, path: str | Path, block: float = 0.1, pace: float = 1.0, channel: Channel = None) -> None:
        """Open a recording.

        Args:
            path: the file.
            block: length of a block in seconds.
            pace: 1 is real time, 2 twice as fast; 0 as fast as the blocks are taken.
            channel: counted from 0; None mixes all channels, `all` keeps them apart.

        Raises:
            SourceError: the file cannot be read as audio, or has no such channel.
            ValueError: a block or pace that is not allowed.
        """
        if block <= 0:
            raise ValueError(f"block must be more than 0 seconds, got {block}")
        if pace < 0:
            raise ValueError(f"pace must be 0 (as fast as accepted) or more, got {pace}")
        self.path = Path(path)
        self.pace = pace
        self._channel = channel
        with _open(self.path) as file:
            _check_channel(self.path, file.channels, channel)
            self.duration: float = file.frames / file.samplerate
            """Seconds, as the file's header has it."""
            self.channels: int = file.channels if channel == "all" else 1
            """In each block."""
            self._source_rate: int = file.samplerate
            mixed = file.channels > 1 and channel is None
            resampled = not LOWEST_RATE <= self._source_rate <= HIGHEST_RATE
            exact = file.subtype in _SMALL_SAMPLES and not mixed and not resampled
        self.format: Literal["s16le", "f32le"] = "s16le" if exact else "f32le"
        """Name of the sample format as the native protocol has it."""
        self.rate = MODEL_RATE if resampled else self._source_rate
        """Hz."""
        self._block = max(1, round(block * self._source_rate))

    async def __aiter__(self) -> AsyncIterator[NDArray[Any]]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        read = 0
        for block in self._blocks():
            read += self._block
            # Sleeping for 0 still lets the others run.
            due = started + read / self._source_rate / self.pace if self.pace else 0.0
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(block):
                yield block

    def _blocks(self) -> Iterator[NDArray[Any]]:
        dtype = "int16" if self.format == "s16le" else "float32"
        resampler = None
        if self.rate != self._source_rate:
            resampler = soxr.ResampleStream(self._source_rate, self.rate, self.channels, dtype="float32", quality="HQ")
        for block in _read_blocks(self.path, self._block, dtype, self._channel):
            last = len(block) < self._block
            yield block if resampler is None else resampler.resample_chunk(block, last=last)


def read(path: str | Path, channel: Channel = None) -> tuple[NDArray[np.float32], int]:
    """Read a whole recording.

    Returns:
        float32 samples, (n,), or (n, channels) if `channel` is `all`; and their rate in Hz.

    Raises:
        SourceError: the file cannot be read as audio, or has no such channel.
    """
    path = Path(path)
    with _open(path) as file:
        rate: int = file.samplerate
    return np.concatenate(list(_read_blocks(path, 10 * rate, "float32", channel))), rate


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file without seeks.

    After each read of a seekable file soundfile seeks to where it already is. libmpg123 then loses what a frame borrows
    from the frames before it, and complains on stderr.
    """

    def seekable(self) -> bool:
        return False


def _read_blocks(path: Path, frames: int, dtype: str, channel: Channel) -> Iterator[NDArray[Any]]:
    """Read blocks of `frames` samples, mono unless `channel` is `all`; only the last one is shorter, perhaps empty."""
    with _open(path) as file:
        _check_channel(path, file.channels, channel)
        while True:
            try:
                block = file.read(frames, dtype=dtype, always_2d=True)
            except soundfile.SoundFileError as error:
                raise SourceError(f"{path}: damaged audio: {_reason(error)}") from error
            yield _pick(block, channel)
            if len(block) < frames:
                return


def _open(path: Path) -> soundfile.SoundFile:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    try:
        return _SequentialFile(path)
    except (soundfile.SoundFileError, TypeError) as error:
        # TypeError: soundfile tells a file without a header (.raw) by its name and asks for its rate.
        raise SourceError(
            f"{path}: not a recording that can be read ({_reason(error)}); wav, flac, mp3 and ogg can"
        ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")


def _check_channel(path: Path, channels: int, channel: Channel) -> None:
    if isinstance(channel, int) and not 0 <= channel < channels:
        raise SourceError(f"{path}: there is no channel {channel}, only 0 to {channels - 1}")


def _pick(frames: NDArray[Any], channel: Channel) -> NDArray[Any]:
    """Reduce (n, channels) to (n,), unless all channels are kept."""
    if channel == "all":
        return frames
    if channel is not None or frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, channel or 0])
    mixed: NDArray[Any] = frames.mean(axis=1, dtype=np.float32)
    return mixed
