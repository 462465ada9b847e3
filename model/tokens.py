"""What the network recognises: tokens with their confidences and times, before they become text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from parastream.model.lattice import Lattice


@dataclass(frozen=True, slots=True)
class Upsampled:
    """What a timestamp head knows of the tokens of a whole utterance; their `rows` are places of its finer rows."""

    times: int
    """Finer rows for each row."""
    total: int
    """Finer rows of the utterance."""
    end: int
    """Where the last token is over. Tokens that stand for nothing behind it are there, too."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens recognised in an utterance or in one of its windows, special ones included."""

    ids: NDArray[np.int32]
    """(n,) indices into the token list."""
    confidences: NDArray[np.float32]
    """(n,) probability that the decoder gave to each, 0 to 1."""
    rows: NDArray[np.int64]
    """(n,) row of the utterance's features in which each fired; a row lasts 60 ms."""
    lattice: Lattice | None = None
    """What else these positions may be, where that was asked for."""
    upsampled: Upsampled | None = None
    """Of models with a timestamp head."""

    @classmethod
    def none(cls) -> Tokens:
        """Return no tokens."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Tokens) -> Tokens:
        """Return the tokens of both, without a lattice."""
        return Tokens(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.confidences, other.confidences]),
            np.concatenate([self.rows, other.rows]),
        )
