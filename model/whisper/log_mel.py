"""Log-mel features of whole utterances, as Whisper was trained with them.

Source: openai/whisper `audio.log_mel_spectrogram`. The maximum is taken over the utterance, so there is no incremental
form.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from parastream.model.final_pass import SAMPLE_RATE

Float32 = NDArray[np.float32]

HOP = 160
"""Samples between two frames: 10 ms."""
SILENCE = -1.5
"""Every value of digital silence."""
_FRAME = 400
_FLOOR = 1e-10
_RANGE = 8.0
"""Powers of ten below the loudest value at which everything quieter is cut off."""
_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)).astype(np.float32)


def log_mel(samples: Float32, length: int, mels: int) -> Float32:
    """Compute the features of samples (N,), filled up with zeros to `length` samples: (length / 160, mels)."""
    half = _FRAME // 2
    padded = np.pad(samples, (0, length - len(samples)))
    padded = np.pad(padded, half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::HOP][:-1]
    power = (np.abs(np.fft.rfft(frames * _WINDOW)) ** 2).astype(np.float32)
    values = np.log10(np.maximum(power @ mel_filters(mels), _FLOOR))
    scaled: Float32 = ((np.maximum(values, values.max() - _RANGE) + 4) / 4).astype(np.float32)
    return scaled


@cache
def mel_filters(mels: int) -> Float32:
    """Return triangles of area 1 on Slaney's mel scale, (201, mels): librosa's `filters.mel` with its defaults."""
    top = _to_mel(SAMPLE_RATE / 2)
    edges = _to_hertz(np.linspace(0, top, mels + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, _FRAME // 2 + 1)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)))
    filters: Float32 = (triangles * (2 / (right - left))).astype(np.float32)
    return filters


# Linear up to 1000 Hz (15 mel), then 27 mel for a factor of 6.4.
def _to_mel(hertz: float) -> float:
    return float(15 + 27 * np.log(hertz / 1000) / np.log(6.4))


def _to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))
