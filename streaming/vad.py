"""Voice activity detection with silero's network, batched over sessions whose states are independent.

The network hears each session through an automatic gain of its own; see `gain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from parastream.streaming.gain import Gain
from parastream.streaming.silero import CONTEXT, HIDDEN, Silero
from parastream.streaming.silero import FRAME as FRAME

_BLOCKS = FRAME // CONTEXT
_OWN = np.arange(1, 1 + _BLOCKS)  # blocks of a frame without its context


@dataclass(slots=True)
class VadState:
    """What the detector remembers of one session; `Vad.__call__` updates it."""

    memory: NDArray[np.float32] = field(default_factory=lambda: np.zeros(2 * HIDDEN + CONTEXT, np.float32))
    """Both vectors of the LSTM, and the last samples."""
    gain: Gain = field(default_factory=Gain)


class Vad:
    """The detector: immutable weights that all sessions share. Safe to call from any thread."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take silero's weights, as `parastream.model.silero_weights.load` returns them.

        Raises:
            CheckpointError: They are of another network.
        """
        self._network = Silero(weights)

    def new_state(self) -> VadState:
        """Return the state of a session that begins."""
        return VadState()

    def __call__(self, samples: Sequence[NDArray[np.float32]], states: Sequence[VadState]) -> list[NDArray[np.float32]]:
        """Compute speech probabilities for the next frames of several sessions, and update their states.

        A session gets what it would get alone and frame by frame, except for rounding (see `silero`).

        Args:
            samples: (n · 512,) for the next n frames of each session; n may differ.
            states: The sessions' states.

        Returns:
            The probabilities (n,) of each session.
        """
        if not states:
            return []
        # The longest come first, and all first frames before all second ones: those that share a step of the
        # LSTM lie together.
        counts = [len(run) // FRAME for run in samples]
        order = sorted(range(len(counts)), key=counts.__getitem__, reverse=True)
        live = [sum(count > time for count in counts) for time in range(counts[order[0]])]
        memory = np.concatenate([states[i].memory for i in order]).reshape(len(order), -1)
        hidden, cell, contexts = memory[:, :HIDDEN].copy(), memory[:, HIDDEN:-CONTEXT].copy(), memory[:, -CONTEXT:]

        # A frame is 8 blocks, behind one that is its context.
        joined = [part for i, context in zip(order, contexts, strict=True) for part in (context, samples[i])]
        blocks = np.concatenate(joined).reshape(-1, CONTEXT)
        firsts = list(accumulate((1 + _BLOCKS * counts[i] for i in order), initial=0))
        places = [first + _BLOCKS * time for time, count in enumerate(live) for first in firsts[:count]]
        frames = np.array(places, np.intp)
        gates = self._network.encode(blocks, frames, self._amplify(blocks, frames, [states[i] for i in order], live))

        hidden_after = np.zeros((len(live), *hidden.shape), np.float32)
        start = 0
        for time, count in enumerate(live):
            self._network.step(gates[:, start : start + count], hidden[:count], cell[:count])
            hidden_after[time, :count] = hidden[:count]
            start += count
        memory = np.concatenate((hidden, cell, blocks[np.array(firsts[1:]) - 1]), axis=1)
        results = [memory[0]] * len(order)
        for i, row, probabilities in zip(order, memory, self._network.probabilities(hidden_after).T, strict=True):
            states[i].memory[:] = row
            results[i] = probabilities[: counts[i]]
        return results

    def _amplify(
        self, blocks: NDArray[np.float32], places: NDArray[np.intp], states: Sequence[VadState], live: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return the gain of each frame (N,); frames lie as in `encode`, `live[t]` of them at time t."""
        power = np.vecdot(blocks, blocks)[places[:, None] + _OWN].sum(axis=1)
        levels = iter(np.sqrt(power / FRAME).tolist())
        factors = [state.gain.push(next(levels)) for count in live for state in states[:count]]
        return np.array(factors, np.float32)
