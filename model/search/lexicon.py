"""What each token of a speech model writes, character by character."""

from __future__ import annotations

from collections.abc import Sequence

from parastream.model.text import is_unspaced
from parastream.model.tokenizer import SPECIAL

_CONTINUES = "@@"
_DIGITS = frozenset(
    ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "double")
)
_NUMBERS = _DIGITS | {"ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"}
_NUMBERS |= {"nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred"}
_NUMBERS |= {"thousand", "first", "second", "third"}
_WORDS = frozenset("ai")  # letters that are words as well


class Lexicon:
    """The tokens of a model as text in which a word ends with a space; special tokens have none."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.texts = tuple(map(_text, tokens))
        self.characters = frozenset(character for text in self.texts for character in text)
        """All that can be written."""
        self.spelled = tuple(_is_letter(token) or token in _NUMBERS for token in tokens)
        """Letters and numbers, which nothing before them foretells."""
        self.repeatable = tuple(
            bool(text) and not (_is_letter(token) or token in _DIGITS or is_unspaced(text[0]))
            for token, text in zip(tokens, self.texts, strict=True)
        )
        """Whether a token in two places may have been said once: not letters, digits and Mandarin characters, of which
        people do say the same twice."""

        self._by_beginning: dict[str, list[int]] = {}
        for token, text in enumerate(self.texts):
            self._by_beginning.setdefault(text[:1], []).append(token)

    def __len__(self) -> int:
        return len(self.texts)

    def beginning_with(self, character: str) -> Sequence[int]:
        """Return the tokens whose text begins with a character."""
        return self._by_beginning.get(character, ())


def _text(token: str) -> str:
    if token in SPECIAL:
        return ""
    if token.endswith(_CONTINUES):
        return token[: -len(_CONTINUES)]
    return token if is_unspaced(token[-1]) else token + " "


def _is_letter(token: str) -> bool:
    return len(token) == 1 and token.isalpha() and not is_unspaced(token) and token not in _WORDS
