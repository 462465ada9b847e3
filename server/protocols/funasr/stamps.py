"""Times of words in the forms that FunASR's clients read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from parastream.model.text import units
from parastream.server.protocols.funasr.messages import Sentence, Span
from parastream.server.wire.messages import Word

MARKS = "，。？！、；：,.?!;:"
"""Punctuation."""
_SEPARATORS = frozenset("。？，、?., ")
"""What FunASR's web page cuts a text at."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word, or a Chinese character of one, with its place in the text."""

    text: str
    first: int
    span: Span


class Spoken:
    """A text, the words that it consists of, and their times."""

    def __init__(self, text: str, words: Sequence[Word]) -> None:
        self.text = text
        self._units = _units(text, words)

    @property
    def timed(self) -> bool:
        """Whether there are times: not if the text has no words, or others than those given."""
        return bool(self._units)

    @property
    def timestamp(self) -> list[Span]:
        """A span for each thing that FunASR's web page counts: runs of English letters, else UTF-16 characters."""
        times: list[Span | None] = [None] * len(self.text)
        for unit in self._units:
            for index, span in enumerate(_shares(unit.span, len(unit.text))):
                times[unit.first + index] = span
        spans: list[Span] = []
        last = (self._units[0].span[0],) * 2 if self._units else (0, 0)
        for apart, run in groupby(range(len(self.text)), key=lambda index: self.text[index] in _SEPARATORS):
            if apart:
                continue
            piece = list(run)
            counted = []
            for index in piece:
                last = times[index] or (last[1], last[1])
                counted += [last] * (len(self.text[index].encode("utf-16-le")) // 2)
            letters = "".join(self.text[index] for index in piece)
            spans += [(counted[0][0], counted[-1][1])] if letters.isascii() and letters.isalpha() else counted
        return spans

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """The text cut at its punctuation."""
        sentences = []
        part: list[_Unit] = []
        for index, unit in enumerate(self._units):
            part.append(unit)
            following = self._units[index + 1].first if index + 1 < len(self._units) else len(self.text)
            marks = "".join(char for char in self.text[unit.first + len(unit.text) : following] if char in MARKS)
            if marks or following == len(self.text):
                text, spans = " ".join(each.text for each in part), tuple(each.span for each in part)
                sentences.append(Sentence(text, marks, spans[0][0], spans[-1][1], spans))
                part = []
        return tuple(sentences)


def _units(text: str, words: Sequence[Word]) -> list[_Unit]:
    """Cut words into units and find them in the text; there are none if it has other words."""
    found, place = list[_Unit](), 0
    for word in words:
        core = word.text.strip(MARKS + " ")
        if not core:
            continue
        place = text.find(core, place)
        if place < 0:
            return []
        spans = _shares((round(word.start * 1000), round(word.end * 1000)), len(core))
        first = 0
        for piece in units(core):
            span = spans[first][0], spans[first + len(piece) - 1][1]
            found.append(_Unit(piece, place + first, span))
            first += len(piece)
        place += len(core)
    return found


def _shares(span: Span, count: int) -> list[Span]:
    """Cut a span into equal parts."""
    start, end = span
    cuts = [start + round((end - start) * index / count) for index in range(count + 1)]
    return list(pairwise(cuts))
