"""Several channels mixed into one, so that no channel cancels another.

A cable, a plug or an adapter with its wires swapped records one channel with the opposite sign. In the mean of such
channels the speech is gone. `server/web/capture-worklet.js` does the same for the page.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 0.02
"""Seconds for which a channel's sign is decided at a time."""
_MEMORY = 0.8  # share of the past that the next window keeps: about 0.1 s
_OPPOSITE, _ALIKE = -0.6, 0.3  # correlations at which a channel is turned over, and back


class Mixer:
    """Mixes blocks of any length; how they are cut does not show in the result."""

    def __init__(self, channels: int, rate: int) -> None:
        """Prepare to mix.

        Args:
            channels: how many there are, at least 1.
            rate: sampling rate in Hz.
        """
        self._window = max(2, round(WINDOW * rate))
        self._held = np.zeros((0, channels), np.float32)  # shorter than a window
        self._signs = [_Sign() for _ in range(channels - 1)]

    def push(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Take samples (n, channels), full scale 1, and return those (m,) that they complete."""
        held = np.concatenate((self._held, samples.astype(np.float32, copy=False)))
        whole = len(held) - len(held) % self._window
        self._held = held[whole:].copy()
        return self._mix(held[:whole].reshape(-1, self._window, held.shape[1]))

    def finish(self) -> NDArray[np.float32]:
        """Return the samples that are still held back."""
        rest, self._held = self._held, self._held[:0]
        return self._mix(rest[None]) if len(rest) else np.zeros(0, np.float32)

    def _mix(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix windows (n, samples, channels) into samples (m,): each channel has the sign of those before it."""
        mixed = windows[:, :, 0]
        ramp = np.linspace(0, 1, windows.shape[1], dtype=np.float32)
        for index, sign in enumerate(self._signs, 1):
            channel = windows[:, :, index]
            before, after = sign.decide(mixed, channel)
            mixed = mixed + channel * (before[:, None] * (1 - ramp) + after[:, None] * ramp)
        result: NDArray[np.float32] = (mixed / np.float32(windows.shape[2])).reshape(-1)
        return result


class _Sign:
    """The sign that a channel gets, from how it has correlated lately with what it is added to."""

    def __init__(self) -> None:
        self._sign = 1.0
        self._common = self._first = self._second = 0.0  # leaky sums of products and of powers

    def decide(
        self, mixed: NDArray[np.float32], channel: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the signs at the beginning and at the end of each window, (n,) each; windows are (n, samples)."""
        # Differences of neighbours: an offset or hum says nothing about the speech.
        one, other = np.diff(mixed, axis=1).astype(np.float64), np.diff(channel, axis=1).astype(np.float64)
        sums = zip(
            (one * other).sum(axis=1).tolist(),
            np.square(one).sum(axis=1).tolist(),
            np.square(other).sum(axis=1).tolist(),
            strict=True,
        )
        signs = np.ones((2, len(mixed)), np.float32)
        for index, (common, first, second) in enumerate(sums):
            signs[0, index] = self._sign
            silent = self._first * self._second == 0.0
            self._common = _MEMORY * self._common + common
            self._first = _MEMORY * self._first + first
            self._second = _MEMORY * self._second + second
            scale = math.sqrt(self._first * self._second)
            if self._common < _OPPOSITE * scale:
                self._sign = -1.0
            elif self._common > _ALIKE * scale:
                self._sign = 1.0
            signs[1, index] = self._sign
            if silent:  # there is nothing that a sudden change could be heard in
                signs[0, index] = self._sign
        return signs[0], signs[1]
