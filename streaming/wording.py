"""From the words that were heard to those that are shown: replaced by rules, and with numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from parastream.model import itn
from parastream.model.final_pass import TimedWord
from parastream.model.replacements import Replacements


def with_numbers(words: Sequence[TimedWord], language: str | None) -> list[TimedWord]:
    """Write numbers as people write them; a written word lasts as long as all that it stands for.

    Args:
        words: Spelled as they would be shown otherwise.
        language: See `parastream.model.itn.normalise`.
    """
    written = itn.normalise([word.text for word in words], language)
    return [_between(words, each.text, each.first, each.stop) for each in written]


def replaced(words: Sequence[TimedWord], rules: Replacements) -> list[TimedWord]:
    """Replace words of an utterance that has ended; what takes their place shares their time."""
    return _apply(words, rules, None)[0]


def replaced_so_far(words: Sequence[TimedWord], rules: Replacements, settled: int) -> tuple[list[TimedWord], int]:
    """Replace words of an utterance that goes on.

    Args:
        words: What has been heard.
        rules: What is to be replaced.
        settled: How many of the words cannot change any more.

    Returns:
        The words that are shown, and how many of these cannot change. They are a beginning of those that a longer
        utterance has.
    """
    return _apply(words, rules, settled)


def _apply(words: Sequence[TimedWord], rules: Replacements, settled: int | None) -> tuple[list[TimedWord], int]:
    if not rules:
        return list(words), len(words) if settled is None else settled
    found, certain = rules.apply([word.text for word in words], settled)
    return [_between(words, each.text, each.begin, each.end) for each in found], certain


def _between(words: Sequence[TimedWord], text: str, begin: float, end: float) -> TimedWord:
    """Return a word in place of those between two places, which are counted in words: 2.5 is within the third."""
    first, last = words[int(begin)], words[math.ceil(end) - 1]
    start = first.start + (first.end - first.start) * (begin - int(begin))
    stop = last.end - (last.end - last.start) * (math.ceil(end) - end)
    sure = min(word.confidence for word in words[int(begin) : math.ceil(end)])
    return TimedWord(text, start, stop, sure)
