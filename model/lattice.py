"""Candidates: what a network offers at each position besides its best token.

A search over them (`parastream.model.search`) finds better words than the best tokens make.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wanted = NDArray[np.int32]
"""(W,) tokens whose log-probabilities are wanted besides those of the best, for example the pieces of hotwords."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Candidates at n positions, at each of which CIF fired once."""

    ids: NDArray[np.int32]
    """(n, K) the best tokens, best first."""
    log_probabilities: NDArray[np.float32]
    """Theirs, (n, K)."""
    wanted: Wanted
    wanted_log_probabilities: NDArray[np.float32]
    """(n, W)."""
    rows: NDArray[np.int64]
    """(n,) row of the utterance's features in which each position fired; a row lasts 60 ms."""

    def __len__(self) -> int:
        return len(self.ids)
