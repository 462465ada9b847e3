"""What many utterances remember, side by side in a few large arrays that graphs read by index.

onnxruntime gets the arrays as they are. A batch names the slots of its utterances, so nothing is copied to put it
together; what a window adds is written into the slots behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from parastream.model.graphs.program import Value, value_of
from parastream.model.stream_state import Slot

_FIRST = 8
"""Slots of a new pool. They take up memory only once they are used."""


@dataclass(frozen=True, slots=True)
class Part:
    """Arrays of one kind."""

    names: Sequence[str]
    """Name of each array, which is that of a graph's input."""
    shape: tuple[int, ...]
    """Of an array in each slot."""


class Pool:
    """Arrays of float32 with a slot for each utterance."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = dict(parts)
        self._slots = 0
        self.free: list[int] = []
        """Slots that nobody uses; a list, whose ends any thread may take from and add to."""
        self.arrays: dict[str, NDArray[np.float32]] = {}
        """For each part (arrays, slots, …)."""
        self.values: dict[str, Value] = {}
        """Each array as onnxruntime sees it, by its name."""
        self._resize(_FIRST)

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot."""
        return 4 * sum(len(part.names) * math.prod(part.shape) for part in self._parts.values())

    def take(self) -> Slot:
        """Return an empty slot: zeros. Not while a graph runs on these arrays."""
        if not self.free:
            self._resize(2 * self._slots)
        slot = Slot(self, self.free.pop())
        for array in self.arrays.values():
            array[:, slot.index] = 0
        return slot

    def widen(self, name: str, shape: tuple[int, ...]) -> None:
        """Give the arrays of a part a larger shape, with zeros behind what is there. Not while a graph runs on them."""
        self._parts[name] = Part(self._parts[name].names, shape)
        self._resize(self._slots)

    def _resize(self, slots: int) -> None:
        for name, part in self._parts.items():
            old = self.arrays.get(name)
            if old is not None and old.shape[1:] == (slots, *part.shape):
                continue
            array = np.zeros((len(part.names), slots, *part.shape), np.float32)
            if old is not None:
                array[tuple(slice(size) for size in old.shape)] = old
            self.arrays[name] = array
            self.values |= {key: value_of(array[i]) for i, key in enumerate(part.names)}
        # The lowest ones are taken first: memory that has never been used stays untouched.
        self.free[:0] = range(slots - 1, self._slots - 1, -1)
        self._slots = slots
