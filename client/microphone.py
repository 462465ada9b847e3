"""The microphone as an audio source, through PortAudio, which is only loaded when a microphone is used."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Preferred sampling rate in Hz: that of the models."""
KEPT_SECONDS = 60.0
"""Seconds of audio that wait for a stalled reader before the oldest is dropped."""


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

    `rate` is 16 kHz where the device can, else the device's own. Iteration ends after `stop()`.
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
        try:
            info = self._sounddevice.query_devices(device, "input")
            self.name: str = info["name"]
            self.rate = RATE
            self.channels = channels
            if channels > info["max_input_channels"]:
                raise ValueError(f"{channels} channels are asked for, it has {info['max_input_channels']}")
            try:
                self._sounddevice.check_input_settings(device, channels=channels, dtype="int16", samplerate=RATE)
            except self._sounddevice.PortAudioError:
                self.rate = round(info["default_samplerate"])
            self._block_frames = round(block * self.rate)
            self._stream = self._sounddevice.RawInputStream(
                samplerate=self.rate,
                blocksize=self._block_frames,
                device=device,
                channels=channels,
                dtype="int16",
                callback=self._on_audio,
            )
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise MicrophoneError(_cannot_use(device, error)) from error
        self.format: Literal["s16le"] = "s16le"
        """Name of the sample format as the native protocol has it."""
        self.dropped = 0.0
        """Seconds of audio that were lost because nobody took them."""
        self._waiting: deque[NDArray[np.int16]] = deque()
        self._most = max(1, round(KEPT_SECONDS / block))
        self._ended = False

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
        self._stream.close()

    def stop(self) -> None:
        """Stop recording; iterating still gives what was recorded before."""
        self._stream.stop()
        # In line behind the blocks that PortAudio's thread has handed over.
        self._loop.call_soon_threadsafe(self._end)

    async def __aiter__(self) -> AsyncIterator[NDArray[np.int16]]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            self._arrived.clear()
            await self._arrived.wait()

    def _on_audio(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Take a block on PortAudio's thread; its buffer is only valid during the call."""
        block = np.frombuffer(bytes(data), np.int16)
        if self.channels > 1:
            block = block.reshape(-1, self.channels)
        self._loop.call_soon_threadsafe(self._take, block)

    def _take(self, block: NDArray[np.int16]) -> None:
        if len(self._waiting) == self._most:
            self.dropped += len(self._waiting.popleft()) / self.rate
        self._waiting.append(block)
        self._arrived.set()

    def _end(self) -> None:
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
