"""When each token was spoken, from the rows in which CIF fired.

Source: FunASR `ts_prediction_lfr6_standard`, with weights and peaks the right way round (FunASR issue 3723).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ROW_SECONDS

_FIRE_DELAY = 1.5
"""Rows by which CIF fires after its token begins."""
_LONGEST_TOKEN = 12
"""Rows after which the rest of a gap counts as silence (720 ms)."""


def token_times(rows: NDArray[np.int64], total_rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate when each token was spoken.

    A token lasts at least one row, so tokens that fire together at the very end overlap.

    Args:
        rows: (n,) row in which each token fired.
        total_rows: Number of rows of the utterance; the last token ends by then.

    Returns:
        Starts and ends (n,), in seconds from the utterance's first sample.
    """
    fires = np.clip(rows - _FIRE_DELAY, 0, max(0, total_rows - 1))
    following = np.append(fires[1:], total_rows)
    ends = np.clip(following, fires + 1, fires + _LONGEST_TOKEN)
    return fires * ROW_SECONDS, ends * ROW_SECONDS
