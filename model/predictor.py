"""CIF predictor: how much of a token each encoded row carries, and the sums that become tokens.

Source: Dong & Xu 2020 (continuous integrate-and-fire); FunASR `CifPredictorV2`.

FunASR walks over the rows one by one in float32. Here the weights are integers, so a plain cumulative sum is
exact, needs no loop, and gives the same tokens however an utterance was cut into windows or batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mlx.core as mx
import mlx.nn as nn

from .config import ChunkSize, PredictorConfig
from .layers import length_mask, pad_time

_BITS = 30
_ONE = 1 << _BITS
"""A whole token, in fixed point. float32 weights below 1 keep all the bits that matter."""


@dataclass(slots=True)
class PredictorState:
    """The token that an utterance has begun but not finished."""

    weight: int
    """What it has gathered so far, in units of 2**-30 tokens."""
    hidden: mx.array
    """Mean of the rows gathered, (size,)."""


@dataclass(frozen=True, slots=True)
class Fired:
    """Tokens of B utterances."""

    embeddings: mx.array
    """(B, U, size), zero beyond each utterance's own count."""
    counts: NDArray[np.int64]
    """(B,) tokens of each."""
    rows: list[NDArray[np.int64]]
    """For each utterance the row in which each token fired, (count,)."""


class Predictor(nn.Module):
    """Weights of rows, and their integration into token embeddings."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.cif_conv1d = nn.Conv1d(config.size, config.size, 3)
        self.cif_output = nn.Linear(config.size, 1)
        self._config = config
        self._tail = round(config.tail_threshold * _ONE)

    def new_state(self) -> PredictorState:
        """State before the first window."""
        return PredictorState(0, mx.zeros((self._config.size,)))

    def weigh(self, hidden: mx.array) -> mx.array:
        """Encoded rows (B, T, size) -> weights (B, T), each from 0 to 1 tokens."""
        x = nn.relu(self.cif_conv1d(pad_time(hidden, 1, 1)))
        weights = mx.sigmoid(self.cif_output(x).astype(mx.float32))[..., 0]
        return mx.maximum(weights * self._config.smooth_factor - self._config.noise_threshold, 0)

    def __call__(self, hidden: mx.array, lengths: NDArray[np.int64]) -> Fired:
        """Whole utterances: rows (B, T, size), zero beyond `lengths` (B,) -> their tokens.

        Each utterance ends with a row of zeros that weighs `tail_threshold`, which completes a last token
        that is at least 0.55 full.
        """
        batch, width, _ = hidden.shape
        weights = _fixed(self.weigh(hidden), length_mask(lengths, width))
        tail = mx.full((batch, 1), self._tail, mx.int64)
        fired, _ = _integrate(pad_time(hidden, 0, 1), mx.concatenate([weights, tail], axis=1))
        return _clip_rows(fired, lengths - 1)

    def step(
        self,
        hidden: mx.array,
        lengths: NDArray[np.int64],
        states: Sequence[PredictorState],
        last: Sequence[bool],
        chunk: ChunkSize,
    ) -> Fired:
        """One window for each of B utterances: rows (B, W, size) of which only the hop counts.

        The last window of an utterance counts its look-ahead too and ends like a whole utterance. The states
        are advanced in place. Rows in the result count from the window's first.
        """
        batch, width, _ = hidden.shape
        places = np.arange(width)
        ends = np.where(last, lengths, np.minimum(lengths, chunk.left + chunk.hop))
        counted = (places >= chunk.left) & (places < ends[:, None])
        weights = _fixed(self.weigh(hidden), counted)
        carried = mx.array([state.weight for state in states], dtype=mx.int64)[:, None]
        tail = mx.array([self._tail if final else 0 for final in last], dtype=mx.int64)[:, None]
        held = mx.stack([state.hidden for state in states])[:, None]
        fired, rest = _integrate(
            mx.concatenate([held, hidden, mx.zeros((batch, 1, hidden.shape[2]))], axis=1),
            mx.concatenate([carried, weights, tail], axis=1),
        )
        for state, weight, mean in zip(states, *rest, strict=True):
            state.weight, state.hidden = weight, mean
        # Row 0 of what was integrated is the carried token.
        shifted = Fired(fired.embeddings, fired.counts, [rows - 1 for rows in fired.rows])
        return _clip_rows(shifted, lengths - 1)


def _fixed(weights: mx.array, counted: NDArray[np.bool_]) -> mx.array:
    """float32 weights -> int64 in units of 2**-30; rows that do not count become 0."""
    return mx.round(weights * _ONE).astype(mx.int64) * mx.array(counted)


def _integrate(hidden: mx.array, weights: mx.array) -> tuple[Fired, tuple[list[int], list[mx.array]]]:
    """Integrates rows (B, T, size) by fixed-point weights (B, T).

    Token k is the sum of the rows, each times the length that [before, after] of its cumulative weight shares
    with [k, k + 1]. Returns the tokens, and weight and mean of what remains in each utterance.
    """
    after = mx.cumsum(weights, axis=1)
    before = after - weights
    totals = np.array(after[:, -1])
    counts = totals >> _BITS
    bounds = mx.arange(int(counts.max()) + 1, dtype=mx.int64)[None, :, None] * _ONE
    shared = mx.minimum(after[:, None], bounds + _ONE) - mx.maximum(before[:, None], bounds)
    parts = mx.maximum(shared, 0).astype(mx.float32) / _ONE
    sums = parts @ hidden.astype(mx.float32)
    fires = np.array(after >> _BITS) > np.array(before >> _BITS)
    rests = [int(total) - (int(count) << _BITS) for total, count in zip(totals, counts, strict=True)]
    means = [
        sums[i, int(count)] * (_ONE / rest) if rest else sums[i, int(count)]
        for i, (count, rest) in enumerate(zip(counts, rests, strict=True))
    ]
    within = mx.array(length_mask(counts, sums.shape[1]))[:, :, None]
    fired = Fired(
        embeddings=(sums * within)[:, :-1].astype(hidden.dtype),
        counts=counts,
        rows=[np.flatnonzero(row) for row in fires],
    )
    return fired, (rests, means)


def _clip_rows(fired: Fired, final_rows: NDArray[np.int64]) -> Fired:
    """A token that the tail completes belongs to the utterance's last row."""
    rows = [np.clip(r, 0, top) for r, top in zip(fired.rows, final_rows, strict=True)]
    return Fired(fired.embeddings, fired.counts, rows)
