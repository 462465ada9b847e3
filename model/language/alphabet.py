"""The characters of a language model, and the form in which text has them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from parastream.model.text import is_unspaced, units

BOUNDARY = 0
"""Symbol before and after each sentence."""
UNKNOWN = 1
"""Symbol of all characters that are not in the alphabet."""
_FIRST = 2
MOST = 8000
"""Most characters of an alphabet: Mandarin text has about 6,000."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?|'[^\W_]+")


def normalised(text: str) -> str:
    """Return a sentence as a speech model would write it: small letters, no marks, a space behind each word.

    Characters of scripts that are written without spaces have none behind them.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    pieces: list[str] = []
    for word in _WORD.findall(plain):
        pieces += (unit if is_unspaced(unit[0]) else unit + " " for unit in units(word))
    return "".join(pieces)


class Alphabet:
    """Numbers for characters, from 2 on: 0 and 1 stand for the boundary of a sentence and for unknown characters."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = tuple(characters)
        self._symbols = {character: symbol for symbol, character in enumerate(self.characters, _FIRST)}

    @classmethod
    def of(cls, sentences: Iterable[str]) -> Alphabet:
        """Return that of some text: its most frequent characters."""
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(sentence)
        return cls(sorted(character for character, _ in counts.most_common(MOST)))

    def __len__(self) -> int:
        return len(self.characters) + _FIRST

    @property
    def bits(self) -> int:
        """Bits of a symbol."""
        return (len(self) - 1).bit_length()

    def symbols(self, text: str) -> list[int]:
        """Return the symbol of each character."""
        get = self._symbols.get
        return [get(character, UNKNOWN) for character in text]

    def encode(self, sentences: Iterable[str]) -> NDArray[np.uint64]:
        """Return the symbols of sentences in a row, a boundary before and after each."""
        text = "\n" + "".join(f"{sentence}\n" for sentence in sentences)
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        table = np.full(0x110000, UNKNOWN, np.uint64)
        table[ord("\n")] = BOUNDARY
        for character, symbol in self._symbols.items():
            table[ord(character)] = symbol
        encoded: NDArray[np.uint64] = table[codes]
        return encoded
