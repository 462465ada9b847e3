"""Count word errors in text with written numbers, read in the way that fits best.

`39` may have been said as "three nine" or "thirty nine", `March 7, 1967` as "march seventh nineteen sixty seven", and
`GMEF` letter by letter. Each of these is a lattice of word sequences; the path with the fewest errors counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_ONES = _NUMBERS.split()
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
_IRREGULAR |= {"twelve": "twelfth"}
_SAME = {"oh": "zero", "mr": "mister", "mrs": "missus", "dr": "doctor", "okay": "ok", "&": "and", "%": "percent"}
_JOINED = {("rub", "out"): "rubout"}
_LONGEST = 7
"""Digits of the longest number that is read otherwise than digit by digit."""
_TOKEN = re.compile(r"[0-9]+(?:,[0-9]{3})+|[0-9]+(?:st|nd|rd|th)?|[^\W\d_]+(?:['’][^\W\d_]+)*|[&%]")

Words = tuple[str, ...]


def errors(reference: str, heard: str) -> tuple[int, int]:
    """Return the fewest errors between two texts, and the number of words of the reference in the reading chosen.

    Numbers in the reference are read digit by digit; only what was heard has readings.
    """
    words = [word for readings in _readings(reference) for word in readings[0]]
    row = np.arange(len(words) + 1)
    for readings in _readings(heard):
        row = np.min([_extended(row, reading, words) for reading in readings], axis=0)
    return int(row[-1]), len(words)


def right_words(reference: str, heard: Sequence[str]) -> list[bool]:
    """Say of each word that was heard whether it is right: whether the fewest errors can be had with it unchanged."""
    words = [word for readings in _readings(reference) for word in readings[0]]
    forms = [[sum(each, ()) for each in product(*_readings(word))] for word in heard]
    before = [np.arange(len(words) + 1)]
    for readings in forms:
        before.append(np.min([_extended(before[-1], reading, words) for reading in readings], axis=0))
    behind = [np.arange(len(words) + 1)]  # against the last words of the reference
    for readings in reversed(forms):
        rows = [_extended(behind[-1], reading[::-1], words[::-1]) for reading in readings]
        behind.append(np.min(rows, axis=0))
    return [
        any(
            before[place][at] + behind[-place - 2][len(words) - at - len(reading)] == before[-1][-1]
            for reading in readings
            for at in range(len(words) - len(reading) + 1)
            if tuple(words[at : at + len(reading)]) == reading
        )
        for place, readings in enumerate(forms)
    ]


def _extended(row: NDArray[np.int64], reading: Words, words: list[str]) -> NDArray[np.int64]:
    """Add words to what was heard: row[j] is the fewest errors against the first j words of the reference."""
    for word in reading:
        wrong = np.array([word != other for other in words], np.int64)
        best = np.minimum(row + 1, np.append(row[0] + 1, row[:-1] + wrong))
        # A deletion costs one for each word of the reference: a running minimum once those are taken off.
        places = np.arange(len(row))
        row = np.minimum.accumulate(best - places) + places
    return row


def _readings(text: str) -> list[list[Words]]:
    """Return the readings of each piece of a text."""
    tokens = _TOKEN.findall(text.replace("’", "'"))
    pieces: list[list[Words]] = []
    for token in tokens:
        lower = token.lower()
        if lower[0].isdigit():
            pieces.append(_numbers(lower.replace(",", "")))
        elif token.isupper() and len(token) > 1 and token.isalpha():
            pieces.append([tuple(lower), (lower,)])
        else:
            pieces.append([(_SAME.get(lower, lower),)])
    joined: list[list[Words]] = []
    for piece in pieces:
        pair = (joined[-1][0][-1], piece[0][0]) if joined else ("", "")
        if pair in _JOINED and len(piece[0]) == len(joined[-1][0]) == 1:
            joined[-1] = [(_JOINED[pair],)]
        else:
            joined.append(piece)
    return joined


def _numbers(token: str) -> list[Words]:
    digits = re.match(r"[0-9]+", token)
    assert digits is not None
    text = digits[0]
    one_by_one = tuple(_ONES[int(digit)] for digit in text)
    found = dict.fromkeys([one_by_one])
    if len(text) <= _LONGEST:
        found |= dict.fromkeys(_in_groups(text))
        if not text.startswith("0"):
            cardinal = tuple(_cardinal(int(text)))
            found |= dict.fromkeys([cardinal, tuple(word for word in cardinal if word != "and")])
        found |= dict.fromkeys([(*words[:-1], _ordinal(words[-1])) for words in list(found)])
    return list(found)


def _in_groups(digits: str) -> Iterator[Words]:
    """Read digits one by one or as numbers of two digits, in all ways: `137` as "one thirty seven"."""
    if not digits:
        yield ()
        return
    for size in (1, 2):
        head, rest = digits[:size], digits[size:]
        if len(head) == size and (size == 1 or head[0] != "0"):
            yield from ((*_cardinal(int(head)), *words) for words in _in_groups(rest))


def _cardinal(number: int) -> list[str]:
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        return [_TENS[number // 10], *(_cardinal(number % 10) if number % 10 else [])]
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            conjunction = ["and"] if 0 < rest < 100 else []
            return [*_cardinal(number // size), name, *conjunction, *(_cardinal(rest) if rest else [])]
    raise AssertionError(number)


def _ordinal(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    return f"{word[:-1]}ieth" if word.endswith("y") else f"{word.removesuffix('t')}th"
