"""What an utterance carries from window to window.

What is large of it lies in a pool: side by side with what other utterances remember, in a few large arrays. A batch
names the slots of its utterances, so nothing of theirs is handled one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from parastream.model.cif import PredictorState
from parastream.model.config import ChunkSize
from parastream.model.rows import Embedding

Float32 = NDArray[np.float32]


class Slotted(Protocol):
    """A pool, as its slots know it."""

    free: list[int]
    """Slots that nobody uses; a list, whose ends any thread may take from and add to."""

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot."""


class Slot:
    """One utterance's place in a pool, its own until nobody refers to it any more."""

    def __init__(self, pool: Slotted, index: int) -> None:
        self._pool = pool
        self.index = index

    def __del__(self) -> None:
        self._pool.free.append(self.index)

    @property
    def nbytes(self) -> int:
        """Bytes of its share of the arrays."""
        return self._pool.slot_bytes


@dataclass(slots=True)
class StreamState:
    """All that one utterance carries from window to window; what it remembers is in its network's pool."""

    slot: Slot
    predictor: PredictorState
    overlap: Float32
    """Scaled and position-encoded rows (overlap, input_size) that the next window begins with.

    They start as zeros that take part in attention, as in FunASR.
    """
    rows: int = 0
    """Rows of features fed so far; also the position of the next one."""
    filled: int = 0
    """Rows that the encoder can look back at."""
    head: int = 0
    """Row of the encoder's ring that is overwritten next."""
    decoder_filled: int = 0
    """Rows that the decoder can look back at."""
    begun: bool = False
    """Whether a token has been decoded."""

    def copy(self) -> StreamState:
        """Return a state that can be advanced in place of this one.

        What it remembers of earlier rows is shared: a step may overwrite the oldest of them.
        """
        return replace(self, predictor=replace(self.predictor))

    def make_room(self, fresh: int, capacity: int, *, unlimited: bool) -> tuple[int, int]:
        """Advance the ring of `capacity` rows, which is no ring if it is unlimited, by the rows of a window.

        Attention does not depend on the order of its keys, so new rows take the places of the oldest ones.

        Returns:
            How many of the `fresh` rows are kept, which are the last ones, and the place of the first of these.
        """
        count = min(fresh, capacity)
        start = self.filled if unlimited else (self.head + fresh - count) % max(1, capacity)
        self.head = (start + count) % max(1, capacity)
        self.filled = min(capacity, self.filled + count)
        return count, start

    def decode(self, rows: int, capacity: int) -> None:
        """Take note that a token has been decoded in a window of so many rows."""
        self.decoder_filled = min(capacity, self.decoder_filled + rows)
        self.begun = True


def take_windows(
    features: Sequence[Float32], states: Sequence[StreamState], embed: Embedding, chunk: ChunkSize, batch: int
) -> tuple[Float32, NDArray[np.int64], list[int]]:
    """Put together the next window of each of some utterances, and advance their states' rows.

    Args:
        features: New rows (n, row_size) of each, n at most a hop.
        states: The utterances' states.
        embed: Scales rows and adds the encodings of their positions.
        chunk: Shape of the windows.
        batch: B; what is beyond the utterances is full windows of zeros.

    Returns:
        Embedded rows (B, W, input), overlap included, with zeros behind a window that is shorter; how many of them are
        real, (B,); and the row of each utterance with which its window begins.
    """
    x = np.zeros((batch, chunk.window, states[0].overlap.shape[1]), np.float32)
    lengths, first_rows = np.full(batch, chunk.window), []
    for i, (rows, state) in enumerate(zip(features, states, strict=True)):
        window = np.concatenate([state.overlap, embed(rows, state.rows)])
        x[i, : len(window)] = window
        lengths[i] = len(window)
        first_rows.append(state.rows - chunk.overlap)
        state.rows += len(rows)
        state.overlap = window[len(window) - chunk.overlap :]
    return x, lengths, first_rows
