"""Stretches of words, or of their characters, that are written in another way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """A text and the range of words, or of characters, that it stands for."""

    text: str
    first: int
    stop: int
    """One past the last."""


def on_words(words: Sequence[str], found: Iterable[Written]) -> list[Written]:
    """Return words with other texts in place of stretches of their characters.

    Args:
        words: None of them empty.
        found: Stretches of the characters of all words, one after the other; they do not overlap.

    Returns:
        The words; those that a stretch has something of make one together.
    """
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    text = "".join(words)
    written: list[Written] = []
    stretches = sorted(found, key=lambda each: each.first)
    place = 0
    while place < len(words):
        first, at, pieces = place, starts[place], list[str]()
        place += 1
        while stretches and stretches[0].first < starts[place]:
            stretch = stretches.pop(0)
            pieces += [text[at : stretch.first], stretch.text]
            at = stretch.stop
            while starts[place] < at:
                place += 1
        written.append(Written("".join([*pieces, text[at : starts[place]]]), first, place))
    return written
