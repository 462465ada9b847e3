"""Which tokens the decoder means, or may mean: both forms of the network, in MLX and in graphs, choose here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.lattice import Lattice, Wanted
from parastream.model.tokens import Tokens

Array = Any
"""Of MLX or NumPy."""

CANDIDATES = 32
"""Best tokens of a position that a lattice has."""


class Selection:
    """The tokens of B utterances, and lattices of those that want one."""

    def __init__(
        self,
        log_probabilities: Array,
        xp: ModuleType,
        wanted: Sequence[Wanted | None] | None = None,
        *,
        on_device: bool = False,
    ) -> None:
        """Choose.

        Args:
            log_probabilities: Of the vocabulary at each position, (B, U, V), in float32.
            xp: The module of the array, `mlx.core` or `numpy`.
            wanted: The tokens that each utterance wants in its lattice besides the best; None: it wants no lattice, and
                so for all if left out.
            on_device: Whether candidates are chosen where the array is, so that no more than they leave a GPU. On a CPU
                NumPy chooses them, which takes a tenth of MLX's time.
        """
        self._best = best(log_probabilities, xp)
        self._wanted = list(wanted or ())
        tokens = [w for w in self._wanted if w is not None]
        self._columns = np.unique(np.concatenate(tokens)) if tokens else np.zeros(0, np.int32)
        self._on_device = on_device
        self._scores: tuple[Array, ...] = ()
        if tokens:
            self._scores = candidates(log_probabilities, xp, self._columns) if on_device else (log_probabilities,)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What has to be evaluated before `tokens` is called."""
        return (*self._best, *self._scores)

    def tokens(self, counts: NDArray[np.int64], rows: Sequence[NDArray[np.int64]]) -> list[Tokens]:
        """Return the tokens of each utterance: `counts` (B,) of them are real, and fired in these `rows`."""
        lattices = self._lattices(counts, rows) if self._scores else [None] * len(rows)
        return [
            Tokens(*found, fired, lattice)
            for found, fired, lattice in zip(of_each(self._best, counts), rows, lattices, strict=True)
        ]

    def _lattices(self, counts: NDArray[np.int64], rows: Sequence[NDArray[np.int64]]) -> list[Lattice | None]:
        found: list[Lattice | None] = []
        scores = [np.array(values, copy=False) for values in self._scores]
        for k, (wanted, count) in enumerate(zip(self._wanted, counts, strict=True)):
            if wanted is None:
                found.append(None)
                continue
            own = [values[k, :count] for values in scores]
            if self._on_device:
                ids, values, columns = own
                columns = columns[:, np.searchsorted(self._columns, wanted)]
            else:
                ids, values, columns = candidates(own[0], np, wanted)
            order = np.argsort(-values, axis=-1, kind="stable")
            ids, values = np.take_along_axis(ids, order, -1), np.take_along_axis(values, order, -1)
            found.append(Lattice(ids.astype(np.int32), values, wanted, columns, rows[k]))
        return found


def candidates(log_probabilities: Array, xp: ModuleType, wanted: Wanted) -> tuple[Array, Array, Array]:
    """Find candidates among the log-probabilities (…, V) of a vocabulary.

    Returns:
        The best tokens, in no order, and theirs, (…, up to `CANDIDATES`); and those of the tokens wanted, (…, W).
    """
    count = min(CANDIDATES, log_probabilities.shape[-1])
    ids = xp.argpartition(-log_probabilities, count - 1, -1)[..., :count]
    columns = xp.take(log_probabilities, xp.array(wanted), -1)
    return ids, xp.take_along_axis(log_probabilities, ids, -1), columns


def best(log_probabilities: Array, xp: ModuleType) -> tuple[Array, Array]:
    """Find the best tokens of B utterances.

    Args:
        log_probabilities: Of the vocabulary at each position, (B, U, V), in float32.
        xp: The module of the array, `mlx.core` or `numpy`.

    Returns:
        Ids and probabilities, (B, U) each.
    """
    ids = xp.argmax(log_probabilities, axis=-1).astype(xp.int32)
    return ids, xp.exp(xp.max(log_probabilities, axis=-1))


def of_each(
    found: tuple[Array, Array], counts: NDArray[np.int64]
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Return ids and probabilities of the real tokens of each utterance, `counts` (B,) in number."""
    ids, confidences = (np.array(values) for values in found)
    return [
        (row_ids[:n], row_confidences[:n]) for row_ids, row_confidences, n in zip(ids, confidences, counts, strict=True)
    ]
