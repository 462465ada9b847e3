"""Token ids to text and back: `@@` pieces, letters that are spelled out, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from parastream.model.bpe import Merges, pieces_of
from parastream.model.text import is_unspaced, join, units

UNKNOWN = "<unk>"
"""Token of all that the others cannot spell."""
SPECIAL = frozenset({"<blank>", "<s>", "</s>", UNKNOWN, "<OOV>"})
"""Tokens that stand for no text."""

_CONTINUES = "@@"
_LETTER = re.compile(r"[A-Za-z]")
_NUMBER = re.compile(r"[0-9]+")
_NUMBER_OR_REST = re.compile(r"[0-9@]|[^0-9@]+")
_SPELLED = re.compile(r"[A-Z]{2,}")


class _Script(Enum):
    """What a token is written in."""

    CHINESE = "chinese"
    NUMBER = "number"
    ALPHABETIC = "alphabetic"
    SIGN = "sign"
    """Such as `&` and `@`."""


@dataclass(frozen=True, slots=True)
class TokenWord:
    """One word of a decoded text and the tokens it was made of."""

    text: str
    first: int
    """Index (into the decoded ids) of its first token."""
    stop: int
    """One past the index of its last token."""
    kept: bool = False
    """Whether it is spelled as somebody wants it, so that nothing may change that."""

    def moved(self, by: int) -> TokenWord:
        """Return it behind so many further tokens."""
        return replace(self, first=self.first + by, stop=self.stop + by)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word before spelled letters, numbers and signs are put together."""

    text: str
    first: int
    stop: int
    script: _Script
    complete: bool = True
    """False for a `@@` piece whose rest never came."""

    @property
    def is_spelled(self) -> bool:
        """Whether it is a part of what is spelled out, such as `R & D`, `M P 3` and `1 . 0`."""
        if self.script is _Script.ALPHABETIC:
            return self.complete and bool(_LETTER.fullmatch(self.text))
        return self.script is not _Script.CHINESE


class Tokenizer:
    """Turns one model's token ids into words and text, and back.

    Follows FunASR's `sentence_postprocess`, except where that loses or garbles text:

    - A `@@` piece whose rest never comes, at the end or before a Chinese character, is a word of its own (FunASR
      drops it or moves it behind the character), and `@@` itself is never shown (FunASR prints it after a digit).
    - A sign between an English word and a Chinese character stays (FunASR deletes it).
    - `text.join` puts the spaces, so that a draft and its punctuated form agree: `用 Python`, `room 5` (FunASR:
      `用Python`, `room5`).
    """

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Merges = MappingProxyType({}),
        cuts: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Make one of the vocabulary, and of how words are cut into its pieces where that is known.

        Args:
            tokens: The vocabulary.
            merges: Those behind the pieces.
            cuts: The pieces of words, such as `hel@@` and `lo`.
        """
        self.tokens = tuple(tokens)
        self._merges = merges
        self._cuts = cuts
        self._ids = {token: index for index, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Languages of the tokens, as ISO 639-1 codes: `zh`, `en`, or both."""
        spoken = [token for token in self.tokens if token not in SPECIAL]
        chinese = any(is_unspaced(character) for token in spoken for character in token)
        english = any(map(_LETTER.search, spoken))
        return ("zh",) * chinese + ("en",) * english

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a whole utterance. Its ids must come at once: a word's pieces may lie in two windows.

        Raises:
            IndexError: An id is not in the token list.
        """
        return join(word.text for word in self.words(ids))

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        """Return the words in order, each with its range of `ids`; together they hold every token that is not special.

        Letters, numbers and signs that follow each other ("a b c", "m p 3", "1 . 0") are spelled out: they make one
        word, in capitals.

        Raises:
            IndexError: An id is not in the token list.
        """
        words: list[TokenWord] = []
        for run in _spelled_runs(self._plain_words(ids)):
            text = "".join(word.text for word in run)
            words.append(TokenWord(text.upper() if len(run) > 1 else text, run[0].first, run[-1].stop))
        return words

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`.

        Words are cut as the training data was, where their pieces or the merges of these are known, else into the
        longest piece that fits, from left to right. A word that the model's pieces cannot spell becomes one `<unk>`
        (nothing, if the list has none). Words in capitals are spelled letter by letter, as `decode` shows spelled
        letters. Other words are looked up in lower case if they are not in the list as written.
        """
        ids: list[int] = []
        runs = (run for part in text.split() for unit in units(part) for run in _NUMBER_OR_REST.findall(unit))
        for run in runs:
            for word in run.lower() if _SPELLED.fullmatch(run) else (run,):
                pieces = self._pieces(word) or self._pieces(word.lower())
                if pieces is None and UNKNOWN in self._ids:
                    pieces = [self._ids[UNKNOWN]]
                ids.extend(pieces or ())
        return ids

    def _pieces(self, word: str) -> list[int] | None:
        names: Sequence[str] = self._cuts.get(word, ())
        if not names and self._merges:
            *inner, last = pieces_of(word, self._merges)
            names = [*(piece + _CONTINUES for piece in inner), last]
        if names and all(name in self._ids for name in names):
            return [self._ids[name] for name in names]
        return self._longest_pieces(word)

    def _longest_pieces(self, word: str) -> list[int] | None:
        ids: list[int] = []
        start = 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                piece = word[start:stop] + (_CONTINUES if stop < len(word) else "")
                if piece in self._ids and piece not in SPECIAL:
                    ids.append(self._ids[piece])
                    start = stop
                    break
            else:
                return None
        return ids

    def _plain_words(self, ids: Sequence[int]) -> Iterator[_Word]:
        stem, first, stop = "", 0, 0  # the pieces of an unfinished word
        for index, token_id in enumerate(ids):
            if not 0 <= token_id < len(self.tokens):
                raise IndexError(f"token id {token_id} is not in the list of {len(self.tokens)} tokens")
            token = self.tokens[token_id]
            if token in SPECIAL:
                continue
            text = token.replace(_CONTINUES, "")
            script = _script(text)
            if script is _Script.ALPHABETIC or (_CONTINUES in token and script is _Script.SIGN):
                if not stem:
                    first = index
                stem, stop = stem + text, index + 1
                if _CONTINUES not in token:
                    yield _Word(stem, first, stop, _Script.ALPHABETIC)
                    stem = ""
                continue
            if stem:
                yield _Word(stem, first, stop, _Script.ALPHABETIC, complete=False)
                stem = ""
            yield _Word(text, index, index + 1, script)
        if stem:
            yield _Word(stem, first, stop, _Script.ALPHABETIC, complete=False)


def _script(text: str) -> _Script:
    if text and all(map(is_unspaced, text)):
        return _Script.CHINESE
    if _NUMBER.fullmatch(text):
        return _Script.NUMBER
    if text and all(char.isalpha() or char == "'" for char in text):
        return _Script.ALPHABETIC
    return _Script.SIGN


def _spelled_runs(words: Iterator[_Word]) -> Iterator[list[_Word]]:
    """Group what is spelled out; any other word stands alone."""
    run: list[_Word] = []
    for word in words:
        if run and not (run[-1].is_spelled and word.is_spelled):
            yield run
            run = []
        run.append(word)
    if run:
        yield run
