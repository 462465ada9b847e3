"""The newest audio of a session, addressed by its place on the session's clock, and when it arrived."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from parastream.streaming.audio import SAMPLE_RATE

Float32 = NDArray[np.float32]


class SampleBuffer:
    """The newest samples of a session, addressed by their place since it began.

    Adding and dropping samples costs the same however many are held. The memory is at most 1.5 times what was held at
    once.
    """

    def __init__(self) -> None:
        self._store = np.empty(SAMPLE_RATE, np.float32)
        self._offset = 0  # in the store, of the oldest sample kept
        self._first = 0  # its place
        self.end = 0
        """The place after the newest sample."""

    @property
    def allocated(self) -> int:
        """Samples that there is memory for."""
        return len(self._store)

    def append(self, samples: Float32) -> None:
        """Add the newest samples (n,)."""
        used = self._offset + self.end - self._first
        if used + len(samples) > len(self._store):
            # Not in place: work that was handed out may look at the old store.
            held = self._store[self._offset : used]
            used = len(held)
            self._store = np.empty(max(SAMPLE_RATE, (used + len(samples)) * 3 // 2), np.float32)
            self._store[:used] = held
            self._offset = 0
        self._store[used : used + len(samples)] = samples
        self.end += len(samples)

    def __getitem__(self, place: slice) -> Float32:
        assert place.start >= self._first, f"samples before {self._first} are gone, {place.start} was asked for"
        shift = self._offset - self._first
        return self._store[place.start + shift : min(place.stop, self.end) + shift]

    def drop_before(self, sample: int) -> None:
        """Let go of the samples before a place."""
        if sample > self._first:
            self._offset += sample - self._first
            self._first = sample


class Arrivals:
    """When samples arrived, for places that never go back."""

    _RESOLUTION = 0.001  # seconds: messages in shorter intervals share an entry, so that there are not too many

    def __init__(self) -> None:
        self._entries: deque[tuple[int, float]] = deque()  # place after the samples, and when they arrived

    def add(self, end: int, when: float) -> None:
        """Take note that all samples before a place have arrived."""
        if self._entries and when - self._entries[-1][1] < self._RESOLUTION:
            when = self._entries.pop()[1]
        self._entries.append((end, when))

    def at(self, end: int) -> float:
        """Return when the last sample before a place arrived, and forget those before it."""
        while self._entries[0][0] < end:
            self._entries.popleft()
        return self._entries[0][1]
