"""Language models whose units are words, or characters of their own: ARPA and KenLM files, made to score characters."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from parastream.model.language.model import LanguageModel, State
from parastream.model.text import is_unspaced

SPACES = ("<space>", "▁", "|", "<sp>", "<blank>")
"""Units that stand for the space in models of characters."""
UNKNOWN_CHARACTER = -math.log(30)
"""Log-probability of each character of a word that a model does not know."""


class Units(Protocol):
    """A model of units. Its probabilities are natural logarithms."""

    @property
    def start(self) -> Hashable:
        """History at the beginning of a sentence."""

    @property
    def space(self) -> str | None:
        """The unit that stands for a space, if the units are characters."""

    def score(self, history: State, unit: str) -> tuple[float, Hashable]:
        """Return the log-probability of a unit, and the history with it."""

    def end(self, history: State) -> float:
        """Return the log-probability that a sentence ends."""


class _State(NamedTuple):
    """Where a text is."""

    history: Hashable
    begun: str
    """The unit that is not complete yet."""
    general: Hashable
    """State of the general model before that."""


class UnitModel:
    """Scores characters with a model of units: each unit when it is complete.

    Units are words with the space behind them, and characters of scripts without spaces; or all characters, where the
    model has a unit for the space. A general model beside it scores the characters until then. The two are mixed unit
    by unit.
    """

    def __init__(self, units: Units, general: LanguageModel | None = None, share: float = 1.0) -> None:
        """Mix `share` (above 0, at most 1) of a model of units with the rest of a general one."""
        self._units = units
        self._general = general
        self._share = share if general is not None else 1.0

    @property
    def start(self) -> _State:
        """See `LanguageModel`."""
        return _State(self._units.start, "", None if self._general is None else self._general.start)

    def advance(self, states: Sequence[_State], texts: Sequence[str]) -> tuple[NDArray[np.float32], list[_State]]:
        """See `LanguageModel`."""
        found = [np.zeros(0, np.float32)]
        after = []
        for state, text in zip(states, texts, strict=True):
            for piece in self._pieces(text):
                scores, state = self._take(state, piece)
                found.append(scores)
            after.append(state)
        return np.concatenate(found), after

    def end(self, states: Sequence[_State]) -> NDArray[np.float32]:
        """See `LanguageModel`."""
        own = np.array([self._units.end(state.history) for state in states], np.float32)
        if self._general is None:
            return own
        general = self._general.end([state.general for state in states])
        return np.array([self._mixed(a, b) for a, b in zip(own, general, strict=True)], np.float32)

    def _pieces(self, text: str) -> Iterator[str]:
        """Cut a text where units end."""
        begun = ""
        for character in text:
            begun += character
            if self._is_complete(begun):
                yield begun
                begun = ""
        if begun:
            yield begun

    def _is_complete(self, begun: str) -> bool:
        return begun[-1] == " " or is_unspaced(begun[-1]) or self._units.space is not None

    def _take(self, state: _State, piece: str) -> tuple[NDArray[np.float32], _State]:
        whole = state.begun + piece
        scores = np.zeros(len(piece), np.float32)
        general, theirs = state.general, 0.0
        if self._general is not None:
            # What is left of `theirs` was told when those characters came.
            values, (general,) = self._general.advance([state.general], [whole])
            scores, theirs = values[len(state.begun) :], float(values.sum())
        if not self._is_complete(whole):
            return scores, _State(state.history, whole, state.general)
        unit = (self._units.space or "") if whole == " " else whole.rstrip(" ")
        if not unit:  # a space behind nothing
            return scores, _State(state.history, "", general)
        own, history = self._units.score(state.history, unit)
        correction = np.zeros(len(piece), np.float32)
        correction[-1] = self._mixed(own, theirs) - theirs if self._general is not None else own
        return scores + correction, _State(history, "", general)

    def _mixed(self, own: float, general: float) -> float:
        if self._share == 1.0:
            return own
        return float(np.logaddexp(own + math.log(self._share), general + math.log1p(-self._share)))
