"""The search of a speech model's words, with what all utterances have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from parastream.model.hotwords import Hotwords
from parastream.model.language.model import LanguageModel
from parastream.model.lattice import Wanted
from parastream.model.search.automaton import Automaton
from parastream.model.search.beam import TWICE_IS_ONCE, WITH_MODEL, WITHOUT_MODEL, Piece, SearchState
from parastream.model.search.lexicon import Lexicon
from parastream.model.search.scorer import WEIGHT, Scorer
from parastream.model.search.spelling import words
from parastream.model.tokenizer import Tokenizer, TokenWord
from parastream.model.tokens import Tokens

_LISTS = 64
"""Lists of hotwords that are kept ready."""
_SHARE_SPELLED = 0.5
"""Share of letters and numbers among the words from which on the language model has no say."""
_NO_TOKENS: Wanted = np.zeros(0, np.int32)


class WordSearch:
    """Finds the words of utterances, with or without a language model and hotwords.

    It belongs to the thread that runs the speech model. What it remembers of the language model is bounded.
    """

    def __init__(self, tokenizer: Tokenizer, language: LanguageModel | None = None, weight: float = WEIGHT) -> None:
        """Prepare.

        Args:
            tokenizer: Of the speech model.
            language: Of the same language; None to do without.
            weight: How much that counts beside the speech model.
        """
        self.lexicon = Lexicon(tokenizer.tokens)
        self._tokenizer = tokenizer
        self._scorer = None if language is None else Scorer(language, self.lexicon, weight)
        self._automaton = lru_cache(_LISTS)(self._build)

    def _build(self, hotwords: Hotwords) -> Automaton:
        return Automaton(hotwords, self.lexicon)

    def automaton(self, hotwords: Hotwords) -> Automaton | None:
        """Return what listens for some hotwords; None if there are none."""
        return self._automaton(hotwords) if hotwords else None

    def wanted(self, hotwords: Hotwords, *, searching: bool = False) -> Wanted | None:
        """Return which tokens a lattice must have besides the best; None if no lattice is needed.

        `searching`: it is, for a search that has begun.
        """
        automaton = self.automaton(hotwords)
        if automaton is not None:
            return automaton.tokens
        return _NO_TOKENS if searching or self._scorer is not None else None

    def begin(self, hotwords: Hotwords) -> SearchState:
        """Return the state of an utterance before its first position."""
        options = WITHOUT_MODEL if self._scorer is None else WITH_MODEL
        return SearchState(self.lexicon, self._scorer, options, self.automaton(hotwords))

    def whole(self, tokens: Tokens, hotwords: Hotwords) -> Tokens:
        """Return the tokens of a whole utterance, as they are best with regard to the language model and hotwords.

        Args:
            tokens: With a lattice, if one was wanted; else they are the best already.
            hotwords: Those that were named when it was wanted.
        """
        if tokens.lattice is None:
            return tokens
        state = self.begin(hotwords)
        if self._scorer is not None and self._is_spelled(tokens.ids.tolist()):
            state = SearchState(self.lexicon, None, WITHOUT_MODEL if hotwords else TWICE_IS_ONCE, state.hotwords)
        state.advance(tokens.lattice)
        return as_tokens(state.best(last=True))

    def _is_spelled(self, ids: Sequence[int]) -> bool:
        """Say whether at least half of the words are letters and numbers."""
        last = [token for token in ids if self.lexicon.texts[token].endswith(" ")]
        return bool(last) and sum(self.lexicon.spelled[token] for token in last) >= _SHARE_SPELLED * len(last)

    def words(self, ids: Sequence[int], hotwords: Hotwords) -> list[TokenWord]:
        """Return the words of tokens, with hotwords as they are written."""
        return words(self._tokenizer, ids, self.automaton(hotwords))


def as_pieces(tokens: Tokens) -> list[Piece]:
    """Return tokens as the pieces of a hypothesis."""
    logarithms = np.log(tokens.confidences).tolist()
    return list(zip(tokens.ids.tolist(), tokens.rows.tolist(), logarithms, strict=True))


def as_tokens(pieces: Sequence[Piece]) -> Tokens:
    """Return the pieces of a hypothesis as tokens."""
    ids, rows, values = zip(*pieces, strict=True) if pieces else ((), (), ())
    return Tokens(np.array(ids, np.int32), np.exp(np.array(values, np.float32)), np.array(rows, np.int64))
