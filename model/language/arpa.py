"""ARPA files: n-grams of words or characters in plain text.

Source: the ARPA-MIT format as SRILM's ngram-format(5) describes it.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from parastream.model.errors import LanguageModelError
from parastream.model.language.words import SPACES, UNKNOWN_CHARACTER

MOST = 5_000_000
"""Most n-grams that are read: each takes about 250 bytes."""
_LN10 = math.log(10)
_ABSENT = -16.0
"""Log-probability of a word that a model without `<unk>` does not have."""
_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"
_GZIP = b"\x1f\x8b"

Gram = tuple[int, ...]


class ArpaModel:
    """A back-off model of units; see `words.Units`."""

    def __init__(self, names: Iterable[str], grams: dict[Gram, tuple[float, float]], order: int) -> None:
        """Put the parts together.

        Args:
            names: Of the units, by number.
            grams: Log-probability and back-off weight of each n-gram, as natural logarithms.
            order: Units of the longest.
        """
        numbers = {name: number for number, name in enumerate(names)}
        # Speech models write small letters; many language models are in capitals.
        self._numbers = {name.casefold(): number for name, number in numbers.items()} | numbers
        self._grams = grams
        self._order = order
        self.space = next((space for space in SPACES if space in numbers), None)
        self.start: Gram = (numbers[_BEGIN],) if _BEGIN in numbers else ()

    def score(self, history: Gram, unit: str) -> tuple[float, Gram]:
        """See `Units`."""
        number = self._numbers.get(unit)
        spelled = 0.0
        if number is None:
            number = self._numbers.get(_UNKNOWN)
            spelled = len(unit) * UNKNOWN_CHARACTER
        if number is None:
            return _ABSENT + spelled, ()
        return self._probability(history, number) + spelled, self._kept((*history, number))

    def end(self, history: Gram) -> float:
        """See `Units`."""
        number = self._numbers.get(_END)
        return 0.0 if number is None else self._probability(history, number)

    def _probability(self, history: Gram, number: int) -> float:
        backed_off = 0.0
        for begin in range(len(history) + 1):
            context = history[begin:]
            found = self._grams.get((*context, number))
            if found is not None:
                return backed_off + found[0]
            backed_off += self._grams.get(context, (0.0, 0.0))[1]
        return backed_off + _ABSENT

    def _kept(self, history: Gram) -> Gram:
        """Return the longest end of a history that the model knows."""
        history = history[len(history) - self._order + 1 :] if len(history) >= self._order else history
        while history and history not in self._grams:
            history = history[1:]
        return history


def is_arpa(path: Path) -> bool:
    """Say whether a file begins as ARPA files do; it may be compressed with gzip.

    Raises:
        OSError: It cannot be read.
    """
    try:
        with _opened(path) as file:
            return any(line.strip() == "\\data\\" for line, _ in zip(file, range(100), strict=False))
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile):
        return False


def read_arpa(path: Path) -> ArpaModel:
    """Read a model.

    Raises:
        LanguageModelError: The file is damaged, or too large to be read into memory.
        OSError: It cannot be read.
    """
    with _opened(path) as file:
        try:
            return _parsed(path, file)
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise LanguageModelError(f"{path}: damaged ({error})") from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        with (
            gzip.open(file, "rt", encoding="utf-8") if compressed else io.TextIOWrapper(file, encoding="utf-8") as text
        ):
            yield text


def _parsed(path: Path, file: TextIO) -> ArpaModel:
    numbers: dict[str, int] = {}
    grams: dict[Gram, tuple[float, float]] = {}
    order = 0
    for place, line in enumerate(file, 1):
        fields = line.split()
        if not fields or (not order and not fields[0].endswith("-grams:")):
            continue
        if fields[0] == "\\end\\":
            break
        if fields[0].startswith("\\") and fields[0].endswith("-grams:"):
            order = int(_number(path, place, fields[0][1:-7], int))
            continue
        if len(fields) not in (order + 1, order + 2):
            raise LanguageModelError(
                f"{path}, line {place}: has {len(fields)} fields; an n-gram of {order} has {order + 1} or {order + 2}"
            )
        values = [_number(path, place, text, float) * _LN10 for text in (fields[0], *fields[order + 1 :])]
        units = fields[1 : order + 1]
        if order == 1:
            numbers.setdefault(units[0], len(numbers))
        try:
            gram = tuple(numbers[unit] for unit in units)
        except KeyError as error:
            raise LanguageModelError(f"{path}, line {place}: {error} is not among the 1-grams") from error
        grams[gram] = (values[0], values[1] if len(values) > 1 else 0.0)
        if len(grams) > MOST:
            raise LanguageModelError(f"{path}: has more than {MOST} n-grams; KenLM's binaries may be larger")
    else:
        raise LanguageModelError(f"{path}: ends before \\end\\: it is incomplete")
    if not grams:
        raise LanguageModelError(f"{path}: has no n-grams")
    if any(name.endswith("@@") for name in numbers):
        raise LanguageModelError(f"{path}: its units are pieces of words (@@); allowed are words, or characters")
    return ArpaModel(numbers, grams, order)


def _number(path: Path, place: int, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError as error:
        raise LanguageModelError(f"{path}, line {place}: {text!r} is no number") from error
