"""What a language model adds to a hypothesis for a token; remembered, up to a bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from parastream.model.language.model import LanguageModel, State
from parastream.model.search.lexicon import Lexicon

WEIGHT = 0.3
"""How much the language model counts beside the speech model."""
_REWARD = 0.8
"""What a character is worth, as a share of the weight: without it, short texts win."""
_SPELLED = 0.4
"""How much less the language model counts for letters and numbers."""
_MOST = 30_000
"""Most tokens after states that are remembered: about 8 MB."""

Extension = tuple[float, State]
"""What a token adds, and the state after it."""


class Scorer:
    """A language model as the search sees it."""

    def __init__(self, model: LanguageModel, lexicon: Lexicon, weight: float = WEIGHT) -> None:
        """Prepare to score the tokens of a lexicon.

        Args:
            model: Scores characters.
            lexicon: What the tokens write.
            weight: Factor of its log-probabilities.
        """
        self.start: State = model.start
        self._model = model
        self._texts = lexicon.texts
        self._weights = [weight * (_SPELLED if spelled else 1.0) for spelled in lexicon.spelled]
        self._weight = weight
        self._known: dict[State, dict[int, Extension]] = {}
        self._ends: dict[State, float] = {}
        self._size = 0

    def extensions(self, wanted: Iterable[tuple[State, Sequence[int]]]) -> list[Mapping[int, Extension]]:
        """Return for each of some states what tokens add after it, of which some are wanted.

        What is not yet known is asked of the model at once.
        """
        if self._size >= _MOST:
            self._known.clear()
            self._ends.clear()
            self._size = 0
        found: list[Mapping[int, Extension]] = []
        asked: list[tuple[dict[int, Extension], int]] = []
        states: list[State] = []
        texts: list[str] = []
        for state, tokens in wanted:
            known = self._known.setdefault(state, {})
            found.append(known)
            for token in tokens:
                if token not in known:
                    text = self._texts[token]
                    known[token] = (0.0, state)
                    if text:
                        asked.append((known, token))
                        states.append(state)
                        texts.append(text)
        if asked:
            self._size += len(asked)
            values, after = self._model.advance(states, texts)
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            sums = np.add.reduceat(values, lengths.cumsum() - lengths)
            gains = (sums + _REWARD * lengths).tolist()
            for (known, token), gain, state in zip(asked, gains, after, strict=True):
                known[token] = (self._weights[token] * gain, state)
        return found

    def end(self, state: State) -> float:
        """Return what the end of an utterance adds after a state."""
        found = self._ends.get(state)
        if found is None:
            self._size += 1
            found = self._ends[state] = self._weight * float(self._model.end([state])[0])
        return found
