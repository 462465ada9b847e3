"""Recordings as audio sources: as a whole, or block by block at the pace of a microphone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray
from parastream.media.decoding import Recording, SourceError
from parastream.media.mixing import Mixer

MODEL_RATE = 16_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
"""Sampling rates in Hz that a server accepts; recordings at other rates are resampled here."""

_AHEAD = 4  # blocks that are decoded before they are asked for
_T = TypeVar("_T")


def sample_recording() -> AbstractContextManager[Path]:
    """Give the recording that comes with the package as a file: three sentences, 12 s, 16 kHz, 16 bits."""
    return as_file(files("parastream.client") / "assets" / "sample.flac")


Channel = int | Literal["all"] | None
"""Which channel of a recording is read, counted from 0; None mixes all, `all` keeps them apart."""


class FileSource:
    """A recording as blocks of samples, for a server.

    `async for block in source` gives arrays of int16 or float32 samples (`format` says which) at `rate` Hz: (n,), or
    (n, `channels`) when all channels are kept apart. The end of block k arrives when a microphone would have delivered
    it: each block waits for its own time since the first, so that late blocks never add up to a drift. A thread decodes
    a few blocks ahead. When the recording turns out to be damaged, iterating gives what can be decoded and then raises
    `SourceError`.
    """

    def __init__(self, path: str | Path, block: float = 0.1, pace: float = 1.0, channel: Channel = None) -> None:
        """Open a recording.

        Args:
            path: a file or pipe; `-` for the standard input. A pipe can be iterated over once.
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
        with contextlib.ExitStack() as stack:
            recording = stack.enter_context(Recording(self.path))
            self._recording = recording
            """The one that was iterated over last."""
            _check_channel(recording, channel)
            self.duration = recording.duration
            """Seconds, if the file's header knows; None if not."""
            self.channels: int = recording.channels if channel == "all" else 1
            """In each block."""
            self._source_rate = recording.rate
            mixed = recording.channels > 1 and channel is None
            resampled = not LOWEST_RATE <= self._source_rate <= HIGHEST_RATE
            exact = recording.exact and not mixed and not resampled
            self._fresh = not recording.reopens
            if self._fresh:
                stack.pop_all()
        self.format: Literal["s16le", "f32le"] = "s16le" if exact else "f32le"
        """Name of the sample format as the native protocol has it."""
        self.rate = MODEL_RATE if resampled else self._source_rate
        """Hz."""
        self._block = max(1, round(block * self._source_rate))

    def estimated_duration(self) -> float | None:
        """Return how many seconds there will be, as far as that is known while iterating; None if it is not."""
        return self._recording.estimated_duration()

    async def __aiter__(self) -> AsyncGenerator[NDArray[Any], None]:
        seconds = self._block / self._source_rate / self.pace if self.pace else 0.0
        async with contextlib.aclosing(_ahead(self._blocks(), wait=self._recording.reopens)) as blocks:
            async for block in at_pace(blocks, seconds):
                if len(block):
                    yield block

    def _blocks(self) -> Iterator[NDArray[Any]]:
        if not self._fresh:
            self._recording = Recording(self.path)
        self._fresh = False
        resampler = None
        if self.rate != self._source_rate:
            resampler = soxr.ResampleStream(self._source_rate, self.rate, self.channels, dtype="float32", quality="HQ")
        with self._recording as recording:
            for block in _read_blocks(recording, self._block, self._channel, exact=self.format == "s16le"):
                last = len(block) < self._block
                yield block if resampler is None else resampler.resample_chunk(block, last=last)
            if recording.damage:
                raise SourceError(f"{recording.name}: {recording.damage}")


async def open_source(path: Path, block: float = 0.1, pace: float = 1.0, channel: Channel = None) -> FileSource:
    """Open a recording on a thread, since a pipe may keep it waiting; see `FileSource`."""

    def opened() -> Iterator[FileSource]:
        yield FileSource(path, block, pace, channel)

    return await anext(_ahead(opened(), wait=False))


def read(path: str | Path, channel: Channel = None) -> tuple[NDArray[np.float32], int]:
    """Read a whole recording.

    Returns:
        float32 samples, (n,), or (n, channels) if `channel` is `all`; and their rate in Hz.

    Raises:
        SourceError: the file cannot be read as audio, is damaged, or has no such channel.
    """
    with Recording(Path(path)) as recording:
        _check_channel(recording, channel)
        blocks = list(_read_blocks(recording, 10 * recording.rate, channel, exact=False))
        if recording.damage:
            raise SourceError(f"{recording.name}: {recording.damage}")
        return np.concatenate(blocks), recording.rate


def _read_blocks(recording: Recording, frames: int, channel: Channel, *, exact: bool) -> Iterator[NDArray[Any]]:
    """Read blocks of `frames` samples, mono unless `channel` is `all`; only the last one is shorter, perhaps empty.

    Args:
        recording: freshly opened.
        frames: length of a block.
        channel: see `Channel`.
        exact: int16 samples are wanted, as the recording has them; otherwise float32.
    """
    held: list[NDArray[Any]] = []
    length = 0
    for piece in _one_or_all(recording, channel, exact=exact):
        held.append(piece)
        length += len(piece)
        if length >= frames:
            whole = np.concatenate(held)
            cut = length - length % frames
            yield from whole[:cut].reshape(-1, frames, *whole.shape[1:])
            held, length = [whole[cut:].copy()], length - cut
    if not held:
        shape = (0, recording.channels) if channel == "all" else (0,)
        held = [np.zeros(shape, np.int16 if exact else np.float32)]
    yield np.concatenate(held)


def _one_or_all(recording: Recording, channel: Channel, *, exact: bool) -> Iterator[NDArray[Any]]:
    mixer = Mixer(recording.channels, recording.rate) if channel is None and recording.channels > 1 else None
    for samples in recording.blocks():
        if samples.dtype == np.int16 and not exact:
            samples = samples.astype(np.float32) / np.float32(32768)
        if channel == "all":
            yield samples
        else:
            yield samples[:, channel or 0] if mixer is None else mixer.push(samples)
    if mixer is not None:
        yield mixer.finish()


def _check_channel(recording: Recording, channel: Channel) -> None:
    if isinstance(channel, int) and not 0 <= channel < recording.channels:
        raise SourceError(f"{recording.name}: there is no channel {channel}, only 0 to {recording.channels - 1}")


async def at_pace(items: AsyncIterator[_T], seconds: float) -> AsyncIterator[_T]:
    """Yield items so that number k, counted from 1, comes no sooner than k times `seconds` after the beginning."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async for item in items:
        due += seconds
        await asyncio.sleep(max(0.0, due - loop.time()))  # sleeping for 0 still lets the others run
        yield item


async def _ahead(items: Iterator[_T], *, wait: bool) -> AsyncGenerator[_T, None]:
    """Yield items that a thread takes from an iterator, a few ahead; what the iterator raises comes out here.

    Args:
        items: closed by the thread in the end, if it is a generator.
        wait: whether the thread is waited for when this is closed early. It may hang where a pipe is read.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[_T | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    left = threading.Event()

    def hand_over(item: _T | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def work() -> None:
        try:
            with contextlib.closing(items):  # type: ignore[type-var]
                for item in items:
                    hand_over(item)
                    room.acquire()
                    if left.is_set():
                        return
        except Exception as error:
            hand_over(error)
        else:
            hand_over(None)

    thread = threading.Thread(target=work, name="decoding", daemon=True)
    thread.start()
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, Exception):
                raise item
            room.release()
            yield item
    finally:
        left.set()
        room.release()
        if wait:
            thread.join()
