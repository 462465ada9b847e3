"""Hotwords as an automaton over characters: bonuses for what they have in common with a hypothesis.

Source: Aho & Corasick 1975, restricted to the beginnings of words; bonuses as in FunASR's `BiasLm`: each character of a
hotword earns one, which is taken back where the word breaks off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from parastream.model.hotwords import Hotwords
from parastream.model.search.lexicon import Lexicon
from parastream.model.search.spoken import spoken_forms
from parastream.model.text import is_unspaced

OUTSIDE = -1
"""State within a word that is no hotword."""
ROOT = 0
"""State before a word."""
BONUS = 1.0
"""Natural logarithm by which each character of a hotword becomes likelier, and ..."""
BONUS_UNSPACED = 2.0
"""... the same of a character of a script without spaces, which says more."""
_MOST_CACHED = 30_000


class Automaton:
    """Some hotwords. A state is the place in them that the characters so far have reached."""

    def __init__(self, hotwords: Hotwords, lexicon: Lexicon) -> None:
        """Build it.

        Args:
            hotwords: Those that the model can write; the others are left out.
            lexicon: What its tokens write.
        """
        self.lexicon = lexicon
        self._next: list[dict[str, int]] = [{}]
        self._strings = [""]
        self._written: dict[int, str] = {}  # by the node at which a hotword is complete
        bonuses = [0.0]  # of the last character of each node
        for hotword in hotwords:
            for form in spoken_forms(hotword, lexicon):
                node = ROOT
                for place, character in enumerate(form):
                    node = self._child(node, form[: place + 1], bonuses)
                    bonus = hotword.weight * (BONUS_UNSPACED if is_unspaced(character) else BONUS)
                    bonuses[node] = max(bonuses[node], bonus)
                self._written.setdefault(node, hotword.term)
        self._grant(bonuses, -0.5 * math.log(max(1, len(hotwords))))
        self._fail = [self._longest_end(string) for string in self._strings]
        self._advanced: dict[tuple[int, int], tuple[float, int]] = {}
        self._going_on: dict[int, frozenset[int]] = {}

    def _child(self, node: int, string: str, bonuses: list[float]) -> int:
        following = self._next[node]
        if string[-1] not in following:
            following[string[-1]] = len(self._next)
            self._next.append({})
            self._strings.append(string)
            bonuses.append(0.0)
        return following[string[-1]]

    def _grant(self, bonuses: Sequence[float], offset: float) -> None:
        """Compute for each node what it has been granted in all, and what it owes until a hotword is complete."""
        self.owed = [0.0] * len(bonuses)
        """What each state has to give back if the word breaks off; `OUTSIDE` is the last."""
        self._granted = [0.0] * len(bonuses)
        for node, following in enumerate(self._next):  # parents come before their children
            for child in following.values():
                self.owed[child] = self.owed[node] + bonuses[child]
                self._granted[child] = self._granted[node] + bonuses[child]
                if child in self._written:
                    kept = self._granted[node] - self.owed[node]  # for a hotword that this one begins with
                    self._granted[child] = max(self._granted[child] + (0.0 if kept else offset), kept)
                    self.owed[child] = 0.0
        self.owed.append(0.0)
        self._granted.append(0.0)

    def _longest_end(self, string: str) -> int:
        """Return the node of the longest proper end of a string that begins with a word."""
        for place in range(1, len(string)):
            if begins_word(string[place - 1]) or is_unspaced(string[place]):
                node = self._walk(ROOT, string[place:])
                if node is not None:
                    return node
        return ROOT if not string or begins_word(string[-1]) else OUTSIDE

    def _walk(self, node: int, text: str) -> int | None:
        for character in text:
            found = self._next[node].get(character)
            if found is None:
                return None
            node = found
        return node

    def advance(self, state: int, token: int) -> tuple[float, int]:
        """Return the bonus of a token after a state, which may be negative, and the state after it."""
        key = (state, token)
        found = self._advanced.get(key)
        if found is None:
            if len(self._advanced) >= _MOST_CACHED:
                self._advanced.clear()
            found = self._advanced[key] = self._advance(state, self.lexicon.texts[token])
        return found

    def _advance(self, state: int, text: str) -> tuple[float, int]:
        score = 0.0
        for character in text:
            if state == OUTSIDE and is_unspaced(character):
                state = ROOT
            after = None if state == OUTSIDE else self._next[state].get(character)
            while after is None and state > ROOT:
                score += self._given_up(state)
                state = self._fail[state]
                if state == OUTSIDE and is_unspaced(character):
                    state = ROOT
                after = None if state == OUTSIDE else self._next[state].get(character)
            if after is None:
                state = ROOT if begins_word(character) else OUTSIDE
                continue
            score += self._granted[after] - self._granted[state]
            state = after
            if not self._next[state]:  # nothing longer can follow
                score += self._given_up(state)
                state = self._fail[state]
        return score, state

    def _given_up(self, state: int) -> float:
        """Return what a state's score changes by when it becomes the one that it fails to."""
        return self._granted[self._fail[state]] - self.owed[state]

    def end(self, state: int) -> float:
        """Return the bonus at the end of an utterance, where a last word may have broken off."""
        after = self._next[state].get(" ") if state > ROOT else None
        if after in self._written:
            return self._granted[after] - self._granted[state]
        return -self.owed[state]

    def going_on(self, state: int) -> frozenset[int]:
        """Return the tokens that go on with a hotword from a state."""
        if state == OUTSIDE:
            return _NONE
        found = self._going_on.get(state)
        if found is None:
            if len(self._going_on) >= _MOST_CACHED:
                self._going_on.clear()
            beginnings = map(self.lexicon.beginning_with, self._next[state])
            found = self._going_on[state] = frozenset(
                token for tokens in beginnings for token in tokens if self._walk(state, self.lexicon.texts[token])
            )
        return found

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """All tokens that may be a part of a hotword."""
        parts = {string[begin:] for string in self._strings for begin in range(len(string))}
        return np.array([token for token, text in enumerate(self.lexicon.texts) if text in parts], np.int32)

    def longest(self, text: str, start: int) -> tuple[int, str, bool]:
        """Find the longest hotword in a text from a place on.

        Returns:
            Where it ends (`start` if there is none), how it is written, and whether more text could make a longer one.
        """
        node, stop, written = ROOT, start, ""
        for place in range(start, len(text)):
            following = self._next[node].get(text[place])
            if following is None:
                return stop, written, False
            node = following
            if node in self._written:
                stop, written = place + 1, self._written[node]
        return stop, written, bool(self._next[node])


_NONE: frozenset[int] = frozenset()


def begins_word(character: str) -> bool:
    """Say whether a word may begin behind a character."""
    return character == " " or is_unspaced(character)
