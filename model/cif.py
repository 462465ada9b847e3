"""Continuous integrate-and-fire: weights of rows become tokens.

Source: Dong & Xu 2020; FunASR `CifPredictorV2`.

FunASR adds up the weights row by row in float32. Here they are integers, so a cumulative sum is exact and needs no
loop. The tokens do not depend on how an utterance was cut into windows or batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ChunkSize, PredictorConfig
from parastream.model.rows import length_mask

_BITS = 30
_ONE = 1 << _BITS
"""A whole token, in fixed point. float32 weights below 1 keep all the bits that matter."""


@dataclass(slots=True)
class PredictorState:
    """The token that an utterance has begun but not finished."""

    weight: int
    """What it has gathered so far, in units of 2**-30 tokens."""
    hidden: NDArray[np.float32]
    """Mean of the rows gathered, (size,)."""


@dataclass(frozen=True, slots=True)
class Fired:
    """When the tokens of B utterances fired."""

    shares: NDArray[np.float32]
    """(B, U + 1, T): how much of each row goes into each token; zero beyond each utterance's own tokens. The last entry
    is an exception: the mean of the rows gathered for the token that has not fired."""
    counts: NDArray[np.int64]
    """(B,) number of tokens of each."""
    rows: list[NDArray[np.int64]]
    """For each utterance the row in which each token fired, (count,)."""
    rest: NDArray[np.int64]
    """(B,) weight of the token that has not fired, in units of 2**-30 tokens."""


class Integrator:
    """Integrates the weights of rows into tokens."""

    def __init__(self, config: PredictorConfig) -> None:
        self._size = config.size
        self._tail = round(config.tail_threshold * _ONE)

    def new_state(self) -> PredictorState:
        """Return the state before the first window."""
        return PredictorState(0, np.zeros(self._size, np.float32))

    def fire(self, weights: NDArray[np.float32], lengths: NDArray[np.int64]) -> Fired:
        """Form the tokens of whole utterances from the weights (B, T) of their rows; `lengths` (B,) rows are real.

        A row of zeros that weighs `tail_threshold` ends each utterance. It completes a last token that is at least
        0.55 full.
        """
        batch, width = weights.shape
        fixed = np.zeros((batch, width + 1), np.int64)
        fixed[:, :-1] = _fixed(weights, length_mask(lengths, width))
        fixed[:, -1] = self._tail
        fired = _integrate(fixed)
        return replace(fired, shares=fired.shares[:, :, :-1], rows=_clip_rows(fired.rows, lengths - 1))

    def fire_in_window(
        self,
        weights: NDArray[np.float32],
        lengths: NDArray[np.int64],
        states: Sequence[PredictorState],
        last: Sequence[bool],
        chunk: ChunkSize,
    ) -> Fired:
        """Form the tokens of one window of each of B utterances; only the weights (B, W) of the hop's rows count.

        The last window of an utterance counts its look-ahead too and ends like a whole utterance. The states' weights
        advance; the caller sets their `hidden`. The shares have one more row in front, for `hidden` as it was.
        """
        batch, width = weights.shape
        places = np.arange(width)
        ends = np.where(last, lengths, np.minimum(lengths, chunk.left + chunk.hop))
        fixed = np.zeros((batch, width + 2), np.int64)
        fixed[:, 0] = [state.weight for state in states]
        fixed[:, 1:-1] = _fixed(weights, (places >= chunk.left) & (places < ends[:, None]))
        fixed[:, -1] = np.where(last, self._tail, 0)
        fired = _integrate(fixed)
        for state, rest in zip(states, fired.rest, strict=True):
            state.weight = int(rest)
        rows = [rows - 1 for rows in fired.rows]  # row 0 was the token carried over
        return replace(fired, shares=fired.shares[:, :, :-1], rows=_clip_rows(rows, lengths - 1))


def _fixed(weights: NDArray[np.float32], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Convert float32 weights to units of 2**-30; set those of rows that do not count to 0."""
    return np.where(counted, np.rint(weights * np.float32(_ONE)), 0).astype(np.int64)


def _integrate(weights: NDArray[np.int64]) -> Fired:
    """Integrate the fixed-point weights (B, T) of rows.

    Token k's share of a row is the overlap of [k, k + 1] with the row's interval of cumulative weight.
    """
    after = weights.cumsum(axis=1)
    before = after - weights
    counts, rest = after[:, -1] >> _BITS, after[:, -1] & (_ONE - 1)
    most = int(counts.max())
    bounds = np.arange(most + 1)[None, :, None] << _BITS
    shared = np.minimum(after[:, None], bounds + _ONE) - np.maximum(before[:, None], bounds)
    shares = np.maximum(shared, 0).astype(np.float32) / np.float32(_ONE)
    utterances = np.arange(len(counts))
    unfinished = shares[utterances, counts]
    shares[utterances, counts] = 0
    # A mean, not a sum; without a rest its shares are zero.
    shares[:, most] = unfinished * (_ONE / np.maximum(rest, 1))[:, None].astype(np.float32)
    fires = (after >> _BITS) > (before >> _BITS)
    return Fired(shares, counts, [np.flatnonzero(row) for row in fires], rest)


def _clip_rows(rows: list[NDArray[np.int64]], final_rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Assign tokens that the tail completes to the utterance's last row."""
    return [np.clip(r, 0, top) for r, top in zip(rows, final_rows, strict=True)]
