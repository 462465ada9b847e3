"""Which tokens the decoder means: both forms of the network, in MLX and in graphs, choose here."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""Of MLX or NumPy."""


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
