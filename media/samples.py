"""Sound of any form as samples at one rate, its channels mixed or kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray
from parastream.media.decoding import Damage, SourceError
from parastream.media.mixing import Mixer


class Sound(Protocol):
    """Sound that is being decoded, such as a `Recording`."""

    damage: Damage
    """What has been found to be damaged so far."""
    rate: int
    """Hz."""
    channels: int

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the samples (n, channels), int16 or float32 with full scale 1."""


def check_channels(sound: Sound, channels: int) -> None:
    """Check that sound can be had with a number of channels: one, into which all are mixed, or those that it has.

    Raises:
        SourceError: it cannot.
    """
    if channels not in (1, sound.channels):
        raise SourceError(
            f"the audio has {sound.channels} channels, not {channels}; "
            f"allowed: {sound.channels}, or 1, into which all are mixed"
        )


def resampled(sound: Sound, channels: int, rate: int) -> Iterator[NDArray[np.float32]]:
    """Yield float samples (n, channels) at a rate in Hz; for `channels`, see `check_channels`."""
    mixer = Mixer(sound.channels, sound.rate) if channels < sound.channels else None
    resampler = None
    if sound.rate != rate:
        resampler = soxr.ResampleStream(sound.rate, rate, channels, dtype="float32", quality="HQ")
    for samples in _floats(sound, mixer):
        yield samples if resampler is None else resampler.resample_chunk(samples)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def _floats(sound: Sound, mixer: Mixer | None) -> Iterator[NDArray[np.float32]]:
    for block in sound.blocks():
        samples = block.astype(np.float32) / np.float32(32768) if block.dtype == np.int16 else block
        yield np.ascontiguousarray(samples) if mixer is None else mixer.push(samples)[:, None]
    if mixer is not None:
        yield mixer.finish()[:, None]
