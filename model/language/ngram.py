"""Character n-grams with back-off, in sorted arrays: ten bytes for each, and many contexts looked up at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from parastream.model.language.alphabet import BOUNDARY, Alphabet

_STEPS = 16
"""Steps of a stored natural logarithm in a unit."""
_LARGEST = 3.9375
"""Largest logarithm that can be stored; the smallest is -12."""
_VALUES = (_LARGEST - np.arange(256) / _STEPS).astype(np.float32)
Stored = NDArray[np.uint8] | NDArray[np.float64]
"""Natural logarithms, quantised or, while a model is trained, not."""
UNSEEN = -12.0
"""Log-probability of a character that is not in the alphabet."""


def quantised(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Store natural logarithms in eight bits."""
    return np.clip(np.round((_LARGEST - values) * _STEPS), 0, 255).astype(np.uint8)


def _logarithms(stored: Stored) -> NDArray[np.float32]:
    values: NDArray[np.float32] = _VALUES[stored] if stored.dtype == np.uint8 else stored.astype(np.float32)
    return values


@dataclass(frozen=True)
class Table:
    """N-grams of all lengths. A key is a one and then the symbols of the n-gram, so that keys sort by length first."""

    keys: NDArray[np.uint64]
    """(n,) sorted."""
    probabilities: Stored
    """(n,) log-probability of the last character after the others."""
    backoffs: Stored
    """(n,) logarithm of the weight of shorter contexts after this one."""


class CharacterModel:
    """What characters are likely after others.

    A state is the key of a context: the longest one that the model knows anything about.
    """

    def __init__(self, alphabet: Alphabet, table: Table, order: int) -> None:
        """Put the parts together.

        Args:
            alphabet: Of the characters.
            table: Its n-grams; with each, the one without its last character, unless that ends in an unknown one.
            order: Characters of the longest.
        """
        self.alphabet = alphabet
        self.table = table
        self.order = order
        bits = alphabet.bits
        lengths = range(order, 0, -1)
        self._ones = np.array([[1 << length * bits] for length in lengths], np.uint64)
        self._masks = self._ones - np.uint64(1)

    @property
    def start(self) -> int:
        """State at the beginning of a sentence."""
        return 1 << self.alphabet.bits | BOUNDARY

    def advance(self, states: Sequence[int], texts: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        """Go on from several states, with a text each.

        Returns:
            The log-probabilities of all characters of all texts in a row, and the states after the texts.
        """
        bits, symbols = self.alphabet.bits, self.alphabet.symbols
        full = 1 << self.order * bits
        cut, one = (full >> bits) - 1, full >> bits
        keys: list[int] = []  # of each state, and then of each character of its text with those before it
        lasts: list[int] = []
        given: list[int] = []
        for state, text in zip(states, texts, strict=True):
            given.append(len(keys))
            keys.append(state)
            key = state
            for symbol in symbols(text):
                if key >= full:
                    key = key & cut | one
                key = key << bits | symbol
                keys.append(key)
            lasts.append(len(keys) - 1)
        matches = self._match(np.array(keys, np.uint64))
        found = np.delete(matches.log_probabilities(np.arange(len(keys)) - 1), given)
        return found, matches.contexts(np.array(lasts, np.int64))

    def end(self, states: Sequence[int]) -> NDArray[np.float32]:
        """Return the log-probability that a sentence ends, for each state."""
        contexts = np.array(states, np.uint64)
        return self.log_probabilities(contexts << np.uint64(self.alphabet.bits) | np.uint64(BOUNDARY))

    def log_probabilities(self, keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return the log-probability of the last character of each n-gram after the others."""
        both = np.concatenate([keys, keys >> np.uint64(self.alphabet.bits)])
        return self._match(both).log_probabilities(np.arange(len(both)) + len(keys), len(keys))

    def _match(self, keys: NDArray[np.uint64]) -> _Matches:
        suffixes = (keys & self._masks) | self._ones
        places = self.table.keys.searchsorted(suffixes.ravel())
        np.minimum(places, len(self.table.keys) - 1, out=places)
        places = places.reshape(suffixes.shape)
        known = (self.table.keys[places] == suffixes) & (keys >= self._ones)
        return _Matches(self.table, suffixes, places, known)


@dataclass(frozen=True)
class _Matches:
    """What a table has of n keys: for each length (a row, the longest first) the end of the key."""

    table: Table
    suffixes: NDArray[np.uint64]
    """(order, n)."""
    places: NDArray[np.int64]
    """(order, n) where the table has it, if it does."""
    known: NDArray[np.bool_]
    """(order, n)."""

    def log_probabilities(self, contexts: NDArray[np.int64], count: int | None = None) -> NDArray[np.float32]:
        """Return the log-probability of the last character of the first `count` keys.

        `contexts` (n,) says which key is the context of each.
        """
        known, places = self.known[:, :count], self.places[:, :count]
        columns = np.arange(known.shape[1])
        longest = known.argmax(axis=0)
        own = _logarithms(self.table.probabilities[places[longest, columns]])
        backoffs = np.where(self.known, _logarithms(self.table.backoffs[self.places]), np.float32(0)).cumsum(axis=0)
        found = own + backoffs[longest, contexts[columns]]
        return np.where(known[longest, columns], found, np.float32(UNSEEN))

    def contexts(self, columns: NDArray[np.int64]) -> list[int]:
        """Return the longest end of some keys that the table has as a context, as states; 1 stands for none."""
        known = self.known[1:, columns]
        longest = known.argmax(axis=0)
        picked = np.arange(len(columns))
        found = np.where(known[longest, picked], self.suffixes[1:, columns][longest, picked], np.uint64(1))
        states: list[int] = found.tolist()
        return states
