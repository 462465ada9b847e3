"""Frames of FFmpeg as samples of one form."""

from __future__ import annotations

from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Sampling rates in Hz that a recording may have."""
_SMALL_SAMPLES = frozenset({"s16", "s16p", "u8", "u8p"})
"""FFmpeg's sample formats that fit into signed 16-bit samples without loss."""


def is_exact(sample_format: av.AudioFormat) -> bool:
    """Return whether samples of a format fit into signed 16-bit samples without loss."""
    return sample_format.name in _SMALL_SAMPLES


class _Resampler(Protocol):
    def resample_chunk(self, x: NDArray[Any], last: bool = ...) -> NDArray[Any]: ...


class FrameShape:
    """Brings frames into the form that the recording began with: joined files may change it on the way."""

    def __init__(self, rate: int, channels: int, exact: bool) -> None:
        self._rate = rate
        self._channels = channels
        self._exact = exact
        self._other_rate = rate
        self._resampler: _Resampler | None = None

    def convert(self, frame: av.AudioFrame) -> NDArray[Any]:
        """Return the samples of a frame (n, channels), int16 if the recording is exact, else float32.

        Raises:
            ValueError: they are of a kind that cannot be used.
        """
        samples = _samples(frame)
        if samples.shape[1] != self._channels:  # which of them would be which is not known
            samples = np.repeat(_as_float(samples).mean(axis=1, keepdims=True), self._channels, axis=1)
        if frame.sample_rate == self._rate == self._other_rate:
            return samples if samples.dtype == np.int16 and self._exact else self._as_wanted(_as_float(samples))
        return self._resample(_as_float(samples), frame.sample_rate)

    def silence(self, seconds: float) -> NDArray[Any]:
        """Return silence."""
        frames = round(seconds * self._rate)
        return np.zeros((frames, self._channels), np.int16 if self._exact else np.float32)

    def finish(self) -> NDArray[Any]:
        """Return what the resampler still holds."""
        nothing = self.silence(0)
        if self._resampler is None:
            return nothing
        resampler, self._resampler = self._resampler, None
        return self._as_wanted(resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True))

    def _resample(self, samples: NDArray[np.float32], rate: int) -> NDArray[Any]:
        import soxr

        rest = self.silence(0)
        if rate != self._other_rate:
            if not LOWEST_RATE <= rate <= HIGHEST_RATE:
                raise ValueError(f"a sampling rate of {rate} Hz")
            rest = self.finish()
            self._other_rate = rate
            if rate != self._rate:
                self._resampler = soxr.ResampleStream(rate, self._rate, self._channels, dtype="float32", quality="HQ")
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(np.ascontiguousarray(samples))
        return np.concatenate((rest, self._as_wanted(samples)))

    def _as_wanted(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        if not self._exact:
            return samples
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _samples(frame: av.AudioFrame) -> NDArray[Any]:
    """Return the samples (n, channels) as int16, int32 or float."""
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    return (array.astype(np.int16) - 128) << 8 if array.dtype == np.uint8 else array


def _as_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    match samples.dtype:
        case np.int16:
            return samples.astype(np.float32) / np.float32(1 << 15)
        case np.int32:
            return (samples / float(1 << 31)).astype(np.float32)
        case _:
            with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and is reported
                return samples.astype(np.float32)
