"""What a language model is, and how two are mixed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = Any
"""What a model remembers of the text so far; hashable. Equal states have the same future."""


class LanguageModel(Protocol):
    """Says how likely text is, character by character; immutable, and shared by all sessions.

    Text has the form of `alphabet.normalised`: a space behind each word.
    """

    @property
    def start(self) -> Hashable:
        """State at the beginning of a sentence."""

    def advance(self, states: Sequence[State], texts: Sequence[str]) -> tuple[NDArray[np.float32], Sequence[State]]:
        """Go on from several states at once, with a text each, which is not empty.

        Returns:
            The log-probabilities of all characters of all texts in a row, and the states after the texts.
        """

    def end(self, states: Sequence[State]) -> NDArray[np.float32]:
        """Return the log-probability that a sentence ends, for each state."""


class Mixed:
    """Two models over characters, interpolated.

    A model of one subject alone ruins all that is not about it; with a general one beside it, it does not.
    """

    def __init__(self, model: LanguageModel, general: LanguageModel, share: float) -> None:
        """Mix `share` (above 0, below 1) of a model with the rest of a general one."""
        self._models = model, general
        self._logarithms = np.float32(math.log(share)), np.float32(math.log1p(-share))

    @property
    def start(self) -> Hashable:
        """See `LanguageModel`."""
        return tuple(model.start for model in self._models)

    def advance(self, states: Sequence[State], texts: Sequence[str]) -> tuple[NDArray[np.float32], Sequence[State]]:
        """See `LanguageModel`."""
        found, after = zip(
            *(model.advance([state[k] for state in states], texts) for k, model in enumerate(self._models)), strict=True
        )
        return self._mix(*found), list(zip(*after, strict=True))

    def end(self, states: Sequence[State]) -> NDArray[np.float32]:
        """See `LanguageModel`."""
        return self._mix(*(model.end([state[k] for state in states]) for k, model in enumerate(self._models)))

    def _mix(self, own: NDArray[np.float32], general: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed: NDArray[np.float32] = np.logaddexp(own + self._logarithms[0], general + self._logarithms[1])
        return mixed
