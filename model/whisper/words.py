"""From Whisper's tokens to words with times and confidences, spelled as readers of captions want them.

Whisper writes spelled letters and digits in many ways: `G-M-E-F-39`, `ku8`, `1, 3, 7`. Letters are joined and digits
are left as digits: `GMEF 39`, `KU 8`, `137`. Dates, years, phone numbers and numbers of two digits stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from parastream.model.final_pass import TimedWord
from parastream.model.text import units

_LONGEST_TOKEN = 1.0
"""Seconds; what goes beyond is a pause, which no token stands for."""


@dataclass(frozen=True, slots=True)
class _Char:
    """A character and the tokens that its bytes come from."""

    text: str
    first: int
    stop: int


def timed_words(
    tokens: Sequence[bytes], confidences: Sequence[float], starts: NDArray[np.floating], seconds: float
) -> tuple[TimedWord, ...]:
    """Make words of an utterance's tokens.

    Args:
        tokens: What each token stands for.
        confidences: Probability of each.
        starts: Seconds at which each begins; one more for the end, if the model has said that the utterance ends.
        seconds: Length of the utterance, by which all words end.
    """
    bounds = np.minimum(np.append(starts, seconds)[: len(tokens) + 1], seconds)
    words: list[TimedWord] = []
    for chars in _split(_spelled(_characters(tokens))):
        # Marks take time of their own, which is a pause, and their probability says nothing about the word.
        spoken = sorted({i for char in chars if char.text.isalnum() for i in range(char.first, char.stop)})
        start, end = bounds[spoken[0]], min(bounds[spoken[-1] + 1], bounds[spoken[-1]] + _LONGEST_TOKEN)
        text = "".join(char.text for char in chars)
        words.append(TimedWord(text, float(start), float(max(start, end)), min(confidences[i] for i in spoken)))
    return tuple(words)


def _characters(tokens: Sequence[bytes]) -> list[_Char]:
    """Decode the tokens; bytes that are no text become U+FFFD."""
    owners = [i for i, token in enumerate(tokens) for _ in token]
    data = b"".join(tokens)
    chars, place = [], 0
    for character in data.decode("utf-8", "replace"):
        # An invalid byte, or several that begin a character, become one U+FFFD.
        size = len(character.encode()) if data.startswith(character.encode(), place) else _invalid(data, place)
        chars.append(_Char(character, owners[place], owners[place + size - 1] + 1))
        place += size
    return chars


def _invalid(data: bytes, place: int) -> int:
    """Return how many bytes from `place` on become one U+FFFD."""
    try:
        data[place:].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end - error.start
    return 1


def _spelled(chars: list[_Char]) -> list[_Char]:
    """Join spelled letters, and digits that are said one by one."""
    for pattern, edit in _RULES:
        edited, done = list[_Char](), 0
        for match in pattern.finditer("".join(char.text for char in chars)):
            edited += chars[done : match.start()] + edit(chars[match.start() : match.end()])
            done = match.end()
        chars = edited + chars[done:]
    return chars


def _joined_letters(chars: list[_Char]) -> list[_Char]:
    """`G-M-E-F` -> `GMEF`, and `G-M-E-F-` in front of digits -> `GMEF `; `A-N I-T` is two words."""
    letters = [char for char in chars if char.text.isalpha()]
    if {char.text for char in letters} <= {"A", "I"}:  # words: "So am I. A sailor"
        return chars
    if any(char.text == "-" for char in chars):
        spaced = (c for before, c in pairwise([chars[0], *chars]) if c.text.isalpha() or before.text.isalpha())
        letters = [char for char in spaced if char.text.isalpha() or char.text == " "]
    return [*letters, _SPACE] if chars[-1].text == "-" else letters


def _letters_and_digits(chars: list[_Char]) -> list[_Char]:
    """`ku8` -> `KU 8`."""
    letters = [replace(char, text=char.text.upper()) for char in chars if char.text.isalpha()]
    return [*letters, _SPACE, *chars[len(letters) :]]


def _joined_digits(chars: list[_Char]) -> list[_Char]:
    """`1, 3, 7` -> `137`."""
    return [char for char in chars if char.text.isdigit()]


_SPACE = _Char(" ", 0, 0)
_RULES = (
    (re.compile(r"(?<![\w'’-])[A-Z](?:(?:-|\.|, ?| )[A-Z])+(?![\w'’])(?:-(?=\d))?"), _joined_letters),
    (re.compile(r"(?<![\w'’-])[A-Za-z]{1,6}[0-9]+(?![\w'’])"), _letters_and_digits),
    (re.compile(r"(?<![\w.,-])[0-9](?:(?:, ?|-)[0-9]){2,}(?![\w-])(?![.,][0-9])"), _joined_digits),
)
"""In this order."""


def _split(chars: Sequence[_Char]) -> list[list[_Char]]:
    """Cut a text into words: at spaces, and around each character of scripts without spaces. Marks go with a word."""
    words: list[list[_Char]] = []
    opening: list[_Char] = []
    chars = list(chars)
    for run in re.finditer(r"\S+", "".join(char.text for char in chars)):
        place, fresh = run.start(), True
        for unit in units(run[0]):
            piece = chars[place : place + len(unit)]
            place += len(unit)
            if any(map(str.isalnum, unit)):
                words.append([*opening, *piece])
                opening, fresh = [], False
            elif not words or (fresh and place < run.end()) or unicodedata.category(unit[0]) in ("Ps", "Pi"):
                opening += piece
            else:
                words[-1] += piece
    if opening and words:
        words[-1] += opening
    return words
