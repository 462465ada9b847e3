"""From SenseVoice's rows to words: CTC runs, their times, and the pieces joined.

Source: FunASR `SenseVoiceSmall.inference`. FunASR aligns the text with the audio once more for its timestamps; where
its pieces are those that were decoded, that alignment is the decoded path itself. So times come from the runs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ROW_SECONDS
from parastream.model.final_pass import TimedWord
from parastream.model.sensevoice.vocabulary import BLANK, SPACE
from parastream.model.text import is_unspaced

_EARLIER = 0.03
"""Seconds by which a token begins and ends before its rows: half a row."""
_OPENING = ("Ps", "Pi", "Sc")
"""Categories of marks that belong to the word behind them."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring rows of the same token."""

    token: int
    start: int
    stop: int
    """One past its last row."""
    confidence: float
    """The highest probability among its rows."""

    def seconds(self, rows: int) -> tuple[float, float]:
        """Return when it begins and ends, in an utterance of so many rows."""
        start = max(self.start * ROW_SECONDS - _EARLIER, 0.0)
        return start, max(start, min(self.stop * ROW_SECONDS, rows * ROW_SECONDS) - _EARLIER)


def runs(ids: NDArray[np.int32], confidences: NDArray[np.float32]) -> list[Run]:
    """Collapse the likeliest tokens of all rows (T,) as CTC does: equal neighbours are one, and blanks are dropped."""
    if not len(ids):
        return []
    bounds = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
    return [
        Run(int(ids[start]), start, stop, float(confidences[start:stop].max()))
        for start, stop in pairwise(bounds)
        if ids[start] != BLANK
    ]


@dataclass(slots=True)
class _Word:
    text: str = ""
    spoken: list[Run] = field(default_factory=list)
    """The runs of its letters and digits; those of marks last as long as nobody says them."""

    @property
    def is_over(self) -> bool:
        """Whether it ends without a space: in a script that has none, or with a mark of such a script."""
        last = next(letter for letter in reversed(self.text) if letter.isalnum())
        return is_unspaced(last) or is_unspaced(self.text[-1])


def timed_words(found: Sequence[Run], text: Callable[[int], str], rows: int, seconds: float) -> tuple[TimedWord, ...]:
    """Make words of the runs of an utterance.

    A word begins at a space; each piece of a script without spaces is one of its own. Marks go with a word.

    Args:
        found: The runs.
        text: Returns the piece of a token; empty for one that stands for no text.
        rows: Rows of the utterance.
        seconds: Its length, by which all words end.
    """
    words: list[_Word] = []
    opening, fresh = "", True
    for run in found:
        for place, part in enumerate(text(run.token).split(SPACE)):
            fresh = fresh or place > 0
            if not part:
                continue
            if not any(map(str.isalnum, part)):
                if words and unicodedata.category(part[-1]) not in _OPENING:
                    words[-1].text += part
                else:
                    opening, fresh = opening + part, True
                continue
            if fresh or is_unspaced(part[0]) or words[-1].is_over:
                words.append(_Word(opening))
                opening = ""
            words[-1].text += part
            words[-1].spoken.append(run)
            fresh = False
    return tuple(_timed(word, rows, seconds) for word in words)


def _timed(word: _Word, rows: int, seconds: float) -> TimedWord:
    start, _ = word.spoken[0].seconds(rows)
    _, end = word.spoken[-1].seconds(rows)
    confidence = min(run.confidence for run in word.spoken)
    return TimedWord(word.text, min(start, seconds), min(end, seconds), confidence)
