"""Kaldi's log mel energies on MLX's device, for the audio of many utterances at a time.

Source: Kaldi `compute-fbank-feats` without dither, as FunASR's `WavFrontend` uses it. `frontend` computes the same in
float64 with NumPy; a GPU has no float64, but one batch there costs about as much as one utterance does here.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.batches import rounded
from parastream.model.frontend import ENERGY_FLOOR, FULL_SCALE, PRE_EMPHASIS

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST = 1 << 15
"""Frames at a time, which take some 50 MB for each array."""


class LogMel:
    """Filters and windows on the device; they belong to the thread that made them."""

    def __init__(self, frame: int, hop: int, window: Float64, mel: Float64) -> None:
        """Prepare for frames of so many samples, as many apart.

        Args:
            frame: Samples of a frame.
            hop: Samples between the beginnings of two.
            window: (frame,).
            mel: Filters (fft / 2 + 1, n_mels).
        """
        self._frame, self._hop, self._fft = frame, hop, 2 * (len(mel) - 1)
        # Scaled here, where nothing is rounded: a sample of 1 counts as 32768.
        self._window = mx.array((window * FULL_SCALE).astype(np.float32))
        self._mel = mx.array(mel.astype(np.float32))

    def __call__(self, waves: Sequence[Float32]) -> list[Float32]:
        """Compute the energies (n, n_mels) of each wave: n frames in ((n - 1) · hop + frame,) samples in [-1, 1]."""
        if not waves:
            return []
        # Of few sizes, since each needs another plan of the Fourier transform.
        batch, count = rounded(len(waves)), rounded(self._count(max(waves, key=len)))
        if len(waves) > 1 and batch * count > _MOST:
            half = len(waves) // 2
            return self(waves[:half]) + self(waves[half:])
        longest = (count - 1) * self._hop + self._frame
        padded = np.zeros((batch, longest), np.float32)
        for row, wave in zip(padded, waves, strict=False):
            row[: len(wave)] = wave
        frames = mx.as_strided(mx.array(padded), (batch, count, self._frame), (longest, self._hop, 1))
        frames = frames - mx.mean(frames, axis=-1, keepdims=True)
        before = mx.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
        spectrum = mx.fft.rfft((frames - PRE_EMPHASIS * before) * self._window, n=self._fft)
        power = mx.square(mx.real(spectrum)) + mx.square(mx.imag(spectrum))
        found = np.array(mx.log(mx.maximum(power @ self._mel, ENERGY_FLOOR)))
        return [energies[: self._count(wave)] for energies, wave in zip(found, waves, strict=False)]

    def _count(self, wave: Float32) -> int:
        return 1 + (len(wave) - self._frame) // self._hop
