"""Whisper's tokens: byte-level BPE, special tokens, and those that are never to be said.

Source: openai/whisper `tokenizer.py`. Ids from the vocabulary's length on are special; their order is fixed, and how
many languages there are follows from the number of ids.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import ModelConfigError
from parastream.model.languages import WHISPER
from parastream.model.whisper.config import read_json
from parastream.model.whisper.files import VOCABULARIES, VOCABULARY

_SHIPPED = {51864: Path(__file__).parents[1] / "assets" / "whisper-tiny-en" / VOCABULARY}
"""Vocabularies by number of ids, for directories without one, as mlx-community's. All English models share one."""

_ENGLISH_TOKENS = 50256
_OTHERS = 1501 + 8
"""Special tokens besides the languages: 1501 timestamps, the end, the start, and six that say what to do."""

# Bytes that GPT-2's alphabet writes as themselves; the others follow from code point 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE)
}
_LETTERS = {byte: letter for letter, byte in _BYTES.items()}
_AS_LATIN_1 = str.maketrans({letter: chr(byte) for letter, byte in _BYTES.items()})
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
_SPECIAL = re.compile(r"<\|.*\|>")

_SYMBOLS = """
" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 << >> <<< >>> -- --- -( -[ (' (" (( )) ((( ))) [[ ]] {{ }}
♪♪ ♪♪♪
"""
_MUSIC = "♩♪♫♬♭♮♯"


class Vocabulary:
    """The tokens of one model."""

    def __init__(self, tokens: Sequence[bytes], size: int) -> None:
        """Lay out the special tokens behind `tokens`.

        Args:
            tokens: What each ordinary token stands for; an id is an index into it.
            size: Number of all ids.

        Raises:
            ModelConfigError: The numbers are not those of a Whisper model.
        """
        self.size = size
        self._tokens = tuple(tokens)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self.end = len(self._tokens)
        self.start = self.end + 1
        self.multilingual = self.end > _ENGLISH_TOKENS
        # Models for English have 99 tokens of languages, too, but one id less.
        languages = size - self.end - _OTHERS
        if self.end not in (_ENGLISH_TOKENS, _ENGLISH_TOKENS + 1) or not 99 <= languages <= len(WHISPER):
            raise ModelConfigError(f"{self.end} tokens of {size} ids are not a Whisper model's")
        self._first_language = self.start + 1
        self.languages: tuple[str, ...] = tuple(WHISPER[:languages]) if self.multilingual else ("en",)
        behind = self._first_language + languages
        self.transcribe = behind + 1  # behind "translate"
        self.no_speech = behind + 4
        self.no_timestamps = behind + 5
        self._suppressed = self._mask([*self._unspeakable(), *range(self.start, size)])
        self._suppressed_first = self._suppressed + self._mask([*self.encode(" "), self.end])

    @classmethod
    def from_directory(cls, directory: Path, size: int) -> Vocabulary:
        """Read a model directory's vocabulary; see `read`.

        Raises:
            ModelConfigError: It is damaged, or not a Whisper model's.
        """
        try:
            return cls(read(directory, size), size)
        except ModelConfigError as error:
            raise ModelConfigError(f"{directory}: {error}") from None

    def language_id(self, language: str) -> int:
        """Return the token of a language, one of `languages`."""
        return self._first_language + self.languages.index(language)

    @property
    def language_ids(self) -> slice:
        """The tokens of `languages`, in order."""
        return slice(self._first_language, self._first_language + len(self.languages))

    def prompt(self, language: str) -> list[int]:
        """Return what follows the start token: transcribe this language, without timestamps."""
        task = [self.language_id(language), self.transcribe] if self.multilingual else []
        return [*task, self.no_timestamps]

    def suppressed(self, *, first: bool) -> NDArray[np.float32]:
        """Return minus infinity for each token that must not be said, else 0: (size,); `first` for the first token."""
        return self._suppressed_first if first else self._suppressed

    def token(self, token_id: int) -> bytes:
        """Return what an ordinary token stands for; not always whole characters.

        Raises:
            IndexError: There is no such token, or it is special.
        """
        return self._tokens[token_id]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text.

        The pair of neighbours that makes the token with the lowest id is merged first, as tiktoken does.
        """
        ids: list[int] = []
        for piece in _PIECES.findall(text):
            parts = [bytes([byte]) for byte in piece.encode()]
            while True:
                pairs = (
                    (self._ids[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in self._ids
                )
                best = min(pairs, default=None)
                if best is None:
                    break
                parts[best[1] : best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]
            ids += [self._ids[part] for part in parts]
        return ids

    def _unspeakable(self) -> set[int]:
        """Return the tokens that transcripts of speech do not have: symbols, brackets, musical notes."""
        found = {self.encode(" -")[0], self.encode(" '")[0]}  # allowed between words, not in front of them
        for symbol in (*_SYMBOLS.split(), *_MUSIC):
            for ids in (self.encode(symbol), self.encode(f" {symbol}")):
                if len(ids) == 1 or symbol in _MUSIC:
                    found.add(ids[0])
        return found

    def _mask(self, ids: Sequence[int]) -> NDArray[np.float32]:
        mask = np.zeros(self.size, np.float32)
        mask[list(ids)] = -np.inf
        return mask


def read(directory: Path, size: int) -> list[bytes]:
    """Read the ordinary tokens of a model directory, or those that come with parastream where it has none.

    Args:
        directory: It may have any of `VOCABULARIES`.
        size: Number of all ids, by which published models are known.

    Raises:
        ModelConfigError: There is none, or it is damaged.
    """
    path = next((directory / name for name in VOCABULARIES if (directory / name).is_file()), _SHIPPED.get(size))
    if path is None:
        raise ModelConfigError(
            f"has no vocabulary: looked for {', '.join(VOCABULARIES)}; the tokenizer.json of any openai/whisper model"
            " with as many ids will do"
        )
    try:
        names = path.read_text("utf-8").split("\n") if path.suffix == ".txt" else _names(read_json(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelConfigError(f"{path.name} is not a text file in UTF-8: {error}") from None
    if strange := set("".join(names)) - _BYTES.keys():
        raise ModelConfigError(f"{path.name}: {min(strange)!r} stands for no byte in GPT-2's alphabet")
    return [name.translate(_AS_LATIN_1).encode("latin-1") for name in names]


def _names(content: Mapping[str, Any]) -> list[str]:
    """Take the ordinary tokens from a parsed `vocab.json` or `tokenizer.json`."""
    model = content.get("model")  # a number where it is a token of `vocab.json`
    table = model.get("vocab") if isinstance(model, Mapping) else content
    if not isinstance(table, Mapping):
        raise ModelConfigError("the tokenizer.json has no table of tokens under model.vocab")
    if not all(isinstance(index, int) for index in table.values()):
        raise ModelConfigError("the ids of the vocabulary must be integers")
    ordinary = {index: name for name, index in table.items() if not _SPECIAL.fullmatch(name)}
    if sorted(ordinary) != list(range(len(ordinary))):
        raise ModelConfigError("the ids of the vocabulary have gaps")
    return [ordinary[index] for index in range(len(ordinary))]


def written(tokens: Iterable[bytes]) -> bytes:
    """Return the content of a `vocabulary.txt`."""
    return "\n".join(token.decode("latin-1").translate(_LETTERS) for token in tokens).encode()
