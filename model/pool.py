"""What many utterances remember, in a few large MLX arrays on the device that computes.

A batch takes what its utterances remember in an array with one operation, and stores what its windows add with
another, however many utterances there are: each operation costs time of the CPU that hands it to a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.batches import rounded
from parastream.model.errors import NoRoomError
from parastream.model.stream_state import Slot

Indices = NDArray[np.int32]

SCRATCH = 0
"""A slot of nobody: what comes of padding is written there."""
_FIRST = 8
"""Slots of a new pool."""
_WORD = 4
"""Bytes of an element of the arrays. A GPU moves one with each thread, whatever its size; MLX scatters none of 8."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a slot has of one kind: `rows` of `width` numbers each."""

    rows: int
    width: int


class Pool:
    """Arrays with a slot for each utterance."""

    def __init__(self, parts: Mapping[str, Part], dtype: mx.Dtype) -> None:
        """Make room for a few utterances.

        Args:
            parts: What a slot has, by name. The bytes of a row are a multiple of 4.
            dtype: Type of the numbers.
        """
        self._parts = dict(parts)
        self._dtype = dtype
        self._slots = 0
        self.free: list[int] = []
        """Slots that nobody uses; a list, whose ends any thread may take from and add to."""
        self._arrays: dict[str, mx.array] = {}  # (slots, rows, words)
        self._taken: list[int] = []  # slots that have to be emptied yet
        self._resize(_FIRST)
        self.free.remove(SCRATCH)

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot."""
        return self._dtype.size * sum(part.rows * part.width for part in self._parts.values())

    def rows(self, name: str) -> int:
        """Return how many rows a slot has of one kind."""
        return self._parts[name].rows

    def take(self) -> Slot:
        """Return a slot, which `prepare` empties.

        Raises:
            NoRoomError: None is free, and there is no memory for more.
        """
        if not self.free:
            try:
                self._resize(rounded(self._slots + 1))
            except (RuntimeError, MemoryError) as error:
                raise NoRoomError(f"there is memory for {self._slots - 1} utterances, and no more: {error}") from error
        slot = Slot(self, self.free.pop())
        self._taken.append(slot.index)
        return slot

    def prepare(self) -> None:
        """Fill slots that were taken since with zeros; before they are read."""
        if self._taken:
            taken = mx.array(self._taken)
            for array in self._arrays.values():
                array[taken] = 0
            self._taken.clear()

    def widen(self, names: Iterable[str], rows: int) -> None:
        """Give each slot so many rows of some kinds, with zeros behind what is there; of all of them or of none."""
        parts = {name: Part(rows, self._parts[name].width) for name in names}
        self._arrays |= {name: self._resized(name, part, self._slots) for name, part in parts.items()}
        self._parts |= parts

    def read(self, name: str, slots: Indices) -> mx.array:
        """Return what B slots have of one kind, of which there are rows: (B, rows, width)."""
        return mx.take(self._arrays[name], mx.array(slots), axis=0).view(self._dtype)

    def write(self, name: str, slots: Indices, rows: Indices, values: mx.array) -> None:
        """Store values (B, n, width) in these rows (B, n) of B slots, when they are next evaluated."""
        if rows.size:
            words = mx.contiguous(values.astype(self._dtype)).view(mx.uint32)
            self._arrays[name][mx.array(slots)[:, None], mx.array(rows)] = words

    @property
    def arrays(self) -> list[mx.array]:
        """The arrays, with all that was written."""
        return list(self._arrays.values())

    def _resize(self, slots: int) -> None:
        for name, part in self._parts.items():
            if part.rows:
                self._arrays[name] = self._resized(name, part, slots)
        # The lowest ones are taken first.
        self.free[:0] = range(slots - 1, self._slots - 1, -1)
        self._slots = slots

    def _resized(self, name: str, part: Part, slots: int) -> mx.array:
        """Return a larger array for a part, with what is there."""
        array = mx.zeros((slots, part.rows, part.width * self._dtype.size // _WORD), mx.uint32)
        old = self._arrays.get(name)
        if old is not None:
            array[: old.shape[0], : old.shape[1]] = old[:slots]  # which has more if there was no memory for all of them
        mx.eval(array)
        return array
