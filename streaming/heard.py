"""What the streaming pass has heard of an utterance: tokens as they came, or the hypotheses of a search."""

from __future__ import annotations

from collections.abc import Sequence

from parastream.model.final_pass import TimedWord
from parastream.model.hotwords import Hotwords
from parastream.model.lattice import Wanted
from parastream.model.paraformer_pass import timed_words
from parastream.model.search.search import WordSearch, as_pieces, as_tokens
from parastream.model.search.spelling import open_from
from parastream.model.tokenizer import TokenWord
from parastream.model.tokens import Tokens


class Heard:
    """One utterance, window by window.

    Its words are made anew of all tokens each time, so that none is cut where two windows meet.
    """

    def __init__(self, search: WordSearch, hotwords: Hotwords) -> None:
        """Begin an utterance."""
        self._search = search
        self._hotwords = hotwords
        self._state = None if search.wanted(hotwords) is None else search.begin(hotwords)
        self._heard = Tokens.none()  # without a search
        self._frozen: list[TokenWord] = []  # words that are spelled for good
        self._frozen_tokens = 0

    @property
    def wanted(self) -> Wanted | None:
        """What the lattice of the next window must have; None if it needs no lattice."""
        return None if self._state is None else self._search.wanted(self._hotwords, searching=True)

    def take(self, tokens: Tokens) -> None:
        """Take the tokens of the next window, with the lattice that was wanted."""
        if self._state is None:
            self._heard += tokens
        elif tokens.lattice is not None:
            self._state.advance(tokens.lattice)
            self._state.settle()

    def leave_model(self) -> None:
        """Go on without the language model until the utterance ends."""
        if self._state is not None:
            self._state.leave_model()

    def expect(self, hotwords: Hotwords) -> None:
        """Go on with other hotwords. Words that are settled keep their spelling."""
        words = self._words(self._tokens(last=False))
        self._frozen = words[: self._settled(words)]
        self._frozen_tokens = self._frozen[-1].stop if self._frozen else 0
        if self._state is None and hotwords:
            self._state = self._search.begin(())
            self._state.settled = as_pieces(self._heard)
        self._hotwords = hotwords
        if self._state is not None:
            self._state.expect(self._search.automaton(hotwords))

    def words(self, seconds: float) -> tuple[TimedWord, ...]:
        """Return the words of an utterance that has ended, and lasts so many seconds."""
        tokens = self._tokens(last=True)
        return timed_words(self._words(tokens), tokens, seconds)

    def shown(self, seconds: float) -> tuple[tuple[TimedWord, ...], int]:
        """Return the words of an utterance that lasts so many seconds so far, and how many of them are settled."""
        tokens = self._tokens(last=False)
        words = self._words(tokens)
        return timed_words(words, tokens, seconds), self._settled(words)

    def _settled(self, words: Sequence[TokenWord]) -> int:
        """Return how many words further tokens cannot change. The last one may still grow."""
        if self._state is None:
            return max(0, len(words) - 1)
        tokens = as_tokens(self._state.settled)
        ids = tokens.ids.tolist()[self._frozen_tokens :]
        most = self._frozen_tokens + open_from(ids, self._search.automaton(self._hotwords))
        return sum(word.stop <= most for word in self._words(tokens)[:-1])

    def _tokens(self, *, last: bool) -> Tokens:
        return self._heard if self._state is None else as_tokens(self._state.best(last=last))

    def _words(self, tokens: Tokens) -> list[TokenWord]:
        begun: Sequence[TokenWord] = self._frozen
        rest = self._search.words(tokens.ids.tolist()[self._frozen_tokens :], self._hotwords)
        return [*begun, *(word.moved(self._frozen_tokens) for word in rest)]
