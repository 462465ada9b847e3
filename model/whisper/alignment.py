"""When each token was spoken: the path of dynamic time warping through the decoder's cross-attention.

Source: openai/whisper `timing.py`; but the start of the transcript has a row of its own, which takes up the silence in
front of the first word. On recordings of AN4 that word begins 50 ms behind its onset then, and else 315 ms before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.02
"""Seconds of an encoder frame."""
_MEDIAN = 7
"""Frames of the median filter."""


def token_starts(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Align tokens with audio.

    Args:
        scores: What the alignment heads gave each frame when the transcript was started and when each token was said,
            (1 + tokens, heads, frames), before softmax.

    Returns:
        (tokens,) seconds at which each token begins.
    """
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    weights -= weights.mean(0)
    weights /= weights.std(0) + 1e-6
    smooth = np.median(_windows(weights), axis=-1).mean(1)
    return np.asarray(path_starts(-smooth.astype(np.float64))[1:] * FRAME_SECONDS)


def _windows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each value of the last axis among its neighbours: (…, n) -> (…, n, 7)."""
    half = min(_MEDIAN // 2, values.shape[-1] - 1)
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=-1)


def path_starts(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the first column in each row of the cheapest path from the first cell to the last: (rows,).

    A step goes to the next row, the next column, or both.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for i in range(rows):
        # total[j] = cost[j] + min(entry[j], total[j - 1]), for all j at once: with the sums of costs taken off, what
        # is left is a running minimum.
        entry = np.minimum(total[i, :-1], total[i, 1:])
        sums = np.cumsum(costs[i])
        total[i + 1, 1:] = sums + np.minimum.accumulate(entry - (sums - costs[i]))
    starts = np.zeros(rows, np.int64)
    i, j = rows, columns
    while i > 0:
        diagonal, up, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        if left < diagonal and left <= up:
            j -= 1
            continue
        starts[i - 1] = j - 1
        i -= 1
        if diagonal <= up:
            j -= 1
    return starts
