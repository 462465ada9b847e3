"""Token ids to text and back: `@@` pieces, spacing of Chinese beside English, letters that are spelled out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from parastream.model.errors import ModelConfigError

SPECIAL = frozenset({"<blank>", "<s>", "</s>", "<unk>", "<OOV>"})
"""Tokens that stand for no text."""

_CONTINUES = "@@"
_HAN = "\u4e00-\u9fff0-9@"  # what FunASR sets without spaces: Chinese characters, digits and the at sign
_IS_HAN = re.compile(f"[{_HAN}]+")
_HAN_OR_RUN = re.compile(f"[{_HAN}]|[^\\s{_HAN}]+")
_CHINESE = re.compile("[\u4e00-\u9fff]")
_LETTER = re.compile(r"[A-Za-z]")
_SPELLED = re.compile(r"[A-Z]{2,}")


class _Script(Enum):
    """How a word is set beside its neighbours."""

    HAN = "han"
    """No space on either side."""
    ALPHABETIC = "alphabetic"
    """A space before whatever follows, unless that is Chinese."""
    OTHER = "other"
    """Signs such as `&`: they add no space of their own."""


@dataclass(frozen=True, slots=True)
class TokenWord:
    """One word of a decoded text and the tokens it was made of."""

    text: str
    first: int
    """Index (into the decoded ids) of its first token."""
    stop: int
    """One past the index of its last token."""
    glue: bool
    """No space stands between this word and the one before it."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A word before spelled letters are joined."""

    text: str
    first: int
    stop: int
    script: _Script
    complete: bool = True
    """False for a `@@` piece whose rest never came."""

    @property
    def is_letter(self) -> bool:
        return self.complete and self.script is _Script.ALPHABETIC and bool(_LETTER.fullmatch(self.text))


def read_tokens(path: Path) -> list[str]:
    """Reads a FunASR `tokens.json`: a JSON list of different strings; an id is an index into it.

    Raises:
        ModelConfigError: the file is missing, damaged, or not such a list.
    """
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelConfigError(f"{path}: cannot read the token list ({error.strerror})") from error
    except ValueError as error:
        raise ModelConfigError(f"{path}: not a JSON file in UTF-8 ({error})") from error
    if not isinstance(tokens, list) or not tokens:
        raise ModelConfigError(f"{path}: must be a list of tokens, got {type(tokens).__name__} without any")
    for index, token in enumerate(tokens):
        if not isinstance(token, str) or not token:
            raise ModelConfigError(f"{path}: token {index} must be a string with text in it, got {token!r}")
    if len(set(tokens)) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if token in tokens[:index])
        raise ModelConfigError(f"{path}: token {twice!r} is listed twice")
    return tokens


def join(words: Sequence[TokenWord]) -> str:
    """The text of `words`, spaced as `Tokenizer.decode` spaces it."""
    return "".join(word.text if index == 0 or word.glue else f" {word.text}" for index, word in enumerate(words))


class Tokenizer:
    """Turns the token ids of one model into words and text.

    Follows FunASR's `sentence_postprocess`, except where that loses or garbles text: a `@@` piece whose rest
    never comes, at the end or before a Chinese character, is a word of its own (FunASR drops it or moves it
    behind the character), `@@` itself is never shown (FunASR prints it after a digit), and a sign between an
    English word and a Chinese character stays (FunASR deletes it).
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self._ids = {token: index for index, token in enumerate(self.tokens)}

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Reads `tokens.json`.

        Raises:
            ModelConfigError: the file is missing, damaged, or not a list of different strings.
        """
        return cls(read_tokens(Path(path)))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def languages(self) -> tuple[str, ...]:
        """What the tokens are written in, as ISO 639-1 codes: `zh`, `en`, or both."""
        scripts = {"zh": _CHINESE, "en": _LETTER}
        spoken = [token for token in self.tokens if token not in SPECIAL]
        return tuple(code for code, script in scripts.items() if any(map(script.search, spoken)))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a whole utterance. Give all its ids at once: pieces of one word may lie in two windows.

        Raises:
            IndexError: an id is not in the token list.
        """
        return join(self.words(ids))

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        """Words in order, each with its range of `ids`; the ranges hold every token that is not special.

        Letters that follow each other ("a b c") are spelled out: they make one word, in capitals.

        Raises:
            IndexError: an id is not in the token list.
        """
        words: list[TokenWord] = []
        before: _Word | None = None
        for run in _spelled_runs(self._plain_words(ids)):
            text = "".join(word.text for word in run)
            words.append(
                TokenWord(
                    text=text.upper() if len(run) > 1 else text,
                    first=run[0].first,
                    stop=run[-1].stop,
                    glue=before is not None and not _spaced(before, run[0]),
                )
            )
            before = run[-1]
        return words

    def encode(self, text: str) -> list[int]:
        """Ids of `text`: the longest piece that fits, from left to right.

        A word that cannot be written with the model's pieces becomes one `<unk>` (nothing, if the list has
        none). Words in capitals are spelled letter by letter, as `decode` shows spelled letters; other words
        are looked up in lower case when they are not in the list as written.
        """
        ids: list[int] = []
        for part in _HAN_OR_RUN.findall(text):
            for word in part.lower() if _SPELLED.fullmatch(part) else (part,):
                pieces = self._pieces(word) or self._pieces(word.lower())
                if pieces is None and "<unk>" in self._ids:
                    pieces = [self._ids["<unk>"]]
                ids.extend(pieces or ())
        return ids

    def _pieces(self, word: str) -> list[int] | None:
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
            if script is _Script.ALPHABETIC or (_CONTINUES in token and script is _Script.OTHER):
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
    if _IS_HAN.fullmatch(text):
        return _Script.HAN
    if text and all(char.isalpha() or char == "'" for char in text):
        return _Script.ALPHABETIC
    return _Script.OTHER


def _spaced(left: _Word, right: _Word) -> bool:
    return left.script is _Script.ALPHABETIC and right.script is not _Script.HAN


def _spelled_runs(words: Iterator[_Word]) -> Iterator[list[_Word]]:
    """Groups letters that follow each other; any other word stands alone."""
    run: list[_Word] = []
    for word in words:
        if run and not (run[-1].is_letter and word.is_letter):
            yield run
            run = []
        run.append(word)
    if run:
        yield run
