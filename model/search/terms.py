"""Hotwords for a network that listens for them by itself: those that it can take in, as its tokens.

They must not count twice. What the network can take in, the search does not look for: it finds what the network has
heard among the candidates, as it finds any other word. Weights are the search's alone.
"""

from __future__ import annotations

from functools import lru_cache

from parastream.model.hotword_terms import Terms
from parastream.model.hotwords import Hotwords
from parastream.model.search.lexicon import Lexicon
from parastream.model.search.spoken import spoken_forms
from parastream.model.tokenizer import UNKNOWN, Tokenizer

_LISTS = 64
"""Lists of hotwords that are kept ready."""


class TermFinder:
    """Cuts hotwords into tokens."""

    def __init__(self, tokenizer: Tokenizer, lexicon: Lexicon) -> None:
        """Take the model's tokenizer, and what its tokens write."""
        self._tokenizer = tokenizer
        self._lexicon = lexicon
        self.split = lru_cache(_LISTS)(self._split)

    def _split(self, hotwords: Hotwords) -> tuple[Terms | None, Hotwords]:
        """Return the terms of a list for the network, None if there are none, and the hotwords that have none."""
        terms: dict[tuple[int, ...], None] = {}
        others = []
        for hotword in hotwords:
            ways = [tuple(self._tokenizer.encode(form)) for form in spoken_forms(hotword, self._lexicon)]
            known = [ids for ids in ways if ids and not any(self._tokenizer.tokens[i] == UNKNOWN for i in ids)]
            terms |= dict.fromkeys(known)
            if not known:
                others.append(hotword)
        return tuple(terms) or None, tuple(others)
