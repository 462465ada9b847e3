"""When each token was spoken, from the rows in which CIF fired.

Source: FunASR `ts_prediction_lfr6_standard`, with weights and peaks the right way round (FunASR issue 3723).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ROW_SECONDS
from parastream.model.tokens import Tokens, Upsampled

_FIRE_DELAY = 1.5
"""Rows by which CIF fires after its token begins."""
_LONGEST_TOKEN = 12
"""Rows after which the rest of a gap counts as silence: 720 ms, or 240 ms of the rows of a timestamp head."""
_LONGEST_END = 5
"""Rows behind the last token that belong to it; of more, half do."""
_FULL = 1 - 1e-4
"""Weight at which the timestamp head fires."""
_SPECIAL = 3
"""FunASR leaves the first tokens of each list out: `<blank>`, `<s>`, `</s>`."""

Times = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Starts and ends (n,), in seconds from the utterance's first sample."""


def token_times(rows: NDArray[np.int64], total_rows: int) -> Times:
    """Estimate when each token was spoken.

    A token lasts at least one row, so tokens that fire together at the very end overlap.

    Args:
        rows: (n,) row in which each token fired.
        total_rows: Number of rows of the utterance; the last token ends by then.
    """
    fires = np.clip(rows - _FIRE_DELAY, 0, max(0, total_rows - 1))
    following = np.append(fires[1:], total_rows)
    ends = np.clip(following, fires + 1, fires + _LONGEST_TOKEN)
    return fires * ROW_SECONDS, ends * ROW_SECONDS


def upsampled_token_times(rows: NDArray[np.int64], upsampled: Upsampled) -> Times:
    """Estimate the same from what a timestamp head says, which fires where a token begins.

    Args:
        rows: (n,) finer row in which each token fired, as `timed_finely` gave them; some tokens may be left out.
        upsampled: What else is known of them.
    """
    fires = rows - _FIRE_DELAY
    end = upsampled.end - _FIRE_DELAY
    following = np.append(fires[1:], end)
    ends = np.minimum(following, fires + _LONGEST_TOKEN)
    last = np.flatnonzero(rows < upsampled.end)[-1:]
    if len(last) and end - fires[last[0]] <= _LONGEST_TOKEN:
        ends[last] = (upsampled.total + end) / 2 if upsampled.total - end > _LONGEST_END else upsampled.total
    unit = ROW_SECONDS / upsampled.times
    return np.maximum(fires, 0) * unit, np.maximum(ends, 0) * unit


def timed_finely(tokens: Tokens, weights: NDArray[np.float32], times: int) -> Tokens:
    """Replace the rows of a whole utterance's tokens by the finer ones in which a timestamp head fires.

    The weights are scaled so that it fires once for each token that stands for something, and once more where the last
    one is over.

    Args:
        tokens: With or without a lattice.
        weights: Of the finer rows, (T times,).
        times: Finer rows for each row.
    """
    counted = tokens.ids >= _SPECIAL
    fires = _fires(weights, int(counted.sum()) + 1)
    # A token that stands for nothing is where the next one is that does.
    rows = fires[np.cumsum(counted) - counted]
    lattice = None if tokens.lattice is None else replace(tokens.lattice, rows=rows)
    upsampled = Upsampled(times, len(weights), int(fires[-1]))
    return replace(tokens, rows=rows, lattice=lattice, upsampled=upsampled)


def _fires(weights: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows in which weights, scaled to a sum of `count`, complete a whole one."""
    if not weights.any():
        weights = np.ones_like(weights)  # the head knows nothing
    found, gathered = [], 0.0
    for row, weight in enumerate((weights * (count / weights.sum(dtype=np.float64))).tolist()):
        gathered += weight
        if gathered >= _FULL:
            gathered -= _FULL
            found.append(row)
    return np.array([*found, *[len(weights)] * count][:count], np.int64)
