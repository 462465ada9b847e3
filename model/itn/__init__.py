"""Inverse text normalisation: numbers, dates, times, money and addresses as people write them.

`normalise` takes the words of an utterance and says which of them are written together, and how. So a written word
keeps the times of those it stands for. Numbers below ten stay words unless they belong to a date, a time, an amount or
the like, and what is ambiguous stays as it was spoken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from parastream.model.itn import english, mandarin
from parastream.model.spans import Written, on_words
from parastream.model.text import is_unspaced

LANGUAGES = ("en", "zh")
"""Those that there are rules for, as ISO 639-1 codes."""


def normalise(words: Sequence[str], language: str | None = None) -> list[Written]:
    """Write the numbers in an utterance.

    Args:
        words: Its words, spelled as they are, with marks and capitals or without.
        language: What is spoken, as an ISO 639-1 code; None: English or Mandarin, by the script of each word.

    Returns:
        The written words, each with the range of `words` that it stands for. Together they hold every word, in order.
        A language without rules changes nothing.
    """
    if language not in (None, *LANGUAGES):
        return [Written(word, place, place + 1) for place, word in enumerate(words)]
    return list(_runs(words))


def _runs(words: Sequence[str]) -> Iterator[Written]:
    first = 0
    for chinese, run in groupby(words, key=lambda word: any(map(is_unspaced, word))):
        part = list(run)
        found = on_words(part, mandarin.find("".join(part))) if chinese else english.normalise(part)
        yield from (Written(each.text, first + each.first, first + each.stop) for each in found)
        first += len(part)


def normalise_line(line: str, language: str) -> str:
    """Write the numbers in a line of text in one of `LANGUAGES`; English words come out with one space between."""
    if language == "en":
        return " ".join(each.text for each in english.normalise(line.split()))
    return "".join(each.text for each in on_words(list(line), mandarin.find(line)))
