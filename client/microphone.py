"""The microphone as an audio source, through PortAudio, which is only loaded when a microphone is used."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import numpy as np
import soxr
from numpy.typing import NDArray

RATE = 16_000
"""Preferred sampling rate in Hz: that of the models."""
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
"""Sampling rates in Hz that a server accepts."""
DEAD_SECONDS = 2.0
"""Seconds without a block after which a device counts as unplugged: not every system tells."""
SILENT_SECONDS = 1.0
"""Seconds of silence in the place of what an unplugged device does not deliver: they end an utterance."""
RETRY_SECONDS = 1.0
"""Seconds between attempts to find it again."""
KEPT_SECONDS = 60.0
"""Seconds of audio that wait for a stalled reader before the oldest is dropped."""
_MOMENT = 0.5  # seconds in which blocks are handed over that came while this process stood still


class MicrophoneError(Exception):
    """There is no PortAudio, no such device, or the device cannot be used."""


@dataclass(frozen=True)
class Device:
    """A device that can record."""

    index: int
    name: str
    channels: int
    rate: float
    """Its own sampling rate in Hz."""
    default: bool


def list_devices() -> list[Device]:
    """Return the devices that can record.

    Raises:
        MicrophoneError: there is no PortAudio.
    """
    sounddevice = _load()
    default = sounddevice.default.device[0]
    return [
        Device(index, info["name"], info["max_input_channels"], info["default_samplerate"], index == default)
        for index, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]


class MicrophoneSource:
    """A microphone's audio as int16 blocks: (n,), or (n, channels) if it has several.

        async with MicrophoneSource() as microphone:
            async for block in microphone: ...

    `rate` is 16 kHz where the device can, else the device's own, or 16 kHz resampled from a rate that no server takes.
    Iteration ends after `stop()`. When the device is unplugged, a second of silence follows, after which what
    was said before is known to have ended; blocks go on when it is back.
    """

    def __init__(self, device: int | str | None = None, block: float = 0.1, channels: int = 1) -> None:
        """Find a microphone; `async with` begins to record.

        Args:
            device: index or part of a name as `list_devices` has them; None for the default one.
            block: length of a block in seconds.
            channels: how many of the device's channels to record, from the first one on.

        Raises:
            MicrophoneError: there is no PortAudio, no such device, or it cannot be used.
        """
        self._sounddevice = _load()
        self.channels = channels
        self.rate = 0
        """Hz; the same whatever device comes back."""
        self.format: Literal["s16le"] = "s16le"
        """Name of the sample format as the native protocol has it."""
        self.dropped = 0.0
        """Seconds of audio that were lost because nobody took them."""
        self.lost = False
        """Whether there is no device at present."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the device is gone."""
        self.on_found: Callable[[], None] = lambda: None
        """Called when there is a device again."""
        self._device = device
        self._block = block
        self._waiting: deque[NDArray[np.int16]] = deque()
        self._most = max(1, round(KEPT_SECONDS / block))
        self._ended = self._stopping = False
        try:
            self._stream = self._new_stream(device)
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise MicrophoneError(_cannot_use(device, error)) from error

    def _new_stream(self, device: int | str | None) -> Any:
        """Prepare to record.

        Raises:
            ValueError: there is no such device, or it has too few channels.
            PortAudioError: it cannot be used.
        """
        info = self._sounddevice.query_devices(device, "input")
        self.name: str = info["name"]
        if self.channels > info["max_input_channels"]:
            raise ValueError(f"{self.channels} channels are asked for, it has {info['max_input_channels']}")
        rate = self._best_rate(device, round(info["default_samplerate"]))
        self.rate = self.rate or (rate if LOWEST_RATE <= rate <= HIGHEST_RATE else RATE)
        self._resampler = None
        if rate != self.rate:
            self._resampler = soxr.ResampleStream(rate, self.rate, self.channels, dtype="int16", quality="HQ")
        return self._sounddevice.RawInputStream(
            samplerate=rate,
            blocksize=round(self._block * rate),
            device=device,
            channels=self.channels,
            dtype="int16",
            callback=self._on_audio,
            finished_callback=self._on_finished,
        )

    def _best_rate(self, device: int | str | None, own: int) -> int:
        for rate in (self.rate or RATE, RATE):
            try:
                self._sounddevice.check_input_settings(device, channels=self.channels, dtype="int16", samplerate=rate)
            except self._sounddevice.PortAudioError:
                continue
            return rate
        return own

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            self._stream.close()
            raise MicrophoneError(_cannot_use(self.name, error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._stream is not None:
            self._stream.close()

    def stop(self) -> None:
        """Stop recording; iterating still gives what was recorded before."""
        self._stopping = True
        if self._stream is not None:
            with contextlib.suppress(self._sounddevice.PortAudioError):  # it is gone
                self._stream.stop()
        # In line behind the blocks that PortAudio's thread has handed over.
        self._loop.call_soon_threadsafe(self._end)

    async def __aiter__(self) -> AsyncIterator[NDArray[np.int16]]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            if self.lost:
                self.on_lost()
                frames = round(SILENT_SECONDS * self.rate)
                yield np.zeros((frames, self.channels) if self.channels > 1 else frames, np.int16)
                await self._find_again()
                continue
            self._arrived.clear()
            # If this process stood still, what the microphone has heard meanwhile comes in a moment.
            self.lost = not (await self._comes(DEAD_SECONDS) or await self._comes(_MOMENT))

    async def _find_again(self) -> None:
        """Wait until there is a device, or for the end. PortAudio cannot tell: it has to be asked."""
        stream, self._stream = self._stream, None
        while not self._ended:
            self._stream = await asyncio.to_thread(self._reopened, stream)
            stream = None
            if self._stream is not None:
                self.lost = False
                self.on_found()
                return
            self._arrived.clear()
            await self._comes(RETRY_SECONDS)

    async def _comes(self, seconds: float) -> bool:
        """Wait for a block or the end for so long, and say whether it has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        return self._arrived.is_set()

    def _reopened(self, gone: Any) -> Any:
        """Look for the device once more and record from it; return None if it is not there."""
        error = self._sounddevice.PortAudioError
        if gone is not None:
            with contextlib.suppress(error):
                gone.close()
        try:
            # PortAudio knows the devices that there were when it began.
            self._sounddevice._terminate()
            self._sounddevice._initialize()
            stream = self._new_stream(None if self._device is None else self.name)
        except (ValueError, error):
            return None
        try:
            stream.start()
        except error:
            stream.close()
            return None
        return stream

    def _on_audio(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Take a block on PortAudio's thread; its buffer is only valid during the call."""
        block = np.frombuffer(bytes(data), np.int16)
        if self.channels > 1:
            block = block.reshape(-1, self.channels)
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block)
        if len(block):
            self._loop.call_soon_threadsafe(self._take, block)

    def _on_finished(self) -> None:
        """Notice on PortAudio's thread that nothing more comes."""
        if not self._stopping:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._lose)

    def _lose(self) -> None:
        self.lost = True
        self._arrived.set()

    def _take(self, block: NDArray[np.int16]) -> None:
        if len(self._waiting) == self._most:
            self.dropped += len(self._waiting.popleft()) / self.rate
        self._waiting.append(block)
        self._arrived.set()

    def _end(self) -> None:
        if self._resampler is not None and not self._ended:
            rest = np.zeros((0, self.channels) if self.channels > 1 else 0, np.int16)
            self._waiting.append(self._resampler.resample_chunk(rest, last=True))
        self._ended = True
        self._arrived.set()


def _load() -> ModuleType:
    try:
        import sounddevice
    except OSError as error:
        install = (
            "`brew install portaudio`"
            if sys.platform == "darwin"
            else "`apt install libportaudio2` (Debian, Ubuntu), `dnf install portaudio` (Fedora) "
            "or `pacman -S portaudio` (Arch)"
        )
        raise MicrophoneError(f"the microphone needs the PortAudio library: {install}") from error
    except Exception as error:  # PortAudioError cannot be imported from a module whose import failed
        raise MicrophoneError(f"PortAudio does not start: {error}") from error
    module: ModuleType = sounddevice
    return module


def _cannot_use(device: int | str | None, error: Exception) -> str:
    what = "the default microphone" if device is None else f"microphone {device!r}"
    return f"cannot use {what} ({error}); `parastream mic --list-devices` shows what there is"
