"""Transcripts as text, JSON lines, SubRip (SRT) and WebVTT.

Cues follow common subtitling practice: at most two lines of 42 columns (a full-width character takes two), at
most seven seconds, cut where a sentence ends, else at a comma, else at the longest pause.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

SENTENCE_MARKS = frozenset(".?!。？！…")
PHRASE_MARKS = frozenset(",;:，、；：")


class TranscriptFormat(StrEnum):
    """The forms that a transcript can be written in; the value is also the name on the command line."""

    TEXT = "text"
    JSONL = "jsonl"
    SRT = "srt"
    VTT = "vtt"

    @property
    def suffix(self) -> str:
        """What the name of such a file ends in, with the dot."""
        return ".txt" if self is TranscriptFormat.TEXT else f".{self.value}"


class SpokenWord(Protocol):
    """A word with its place on the session clock, in seconds."""

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def confidence(self) -> float: ...


class SpokenUtterance(Protocol):
    """A finished utterance: the engine's `Final` or the wire's."""

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def words(self) -> Sequence[SpokenWord]: ...


@dataclass(frozen=True)
class CueRules:
    """How much one cue may hold."""

    columns: int = 42
    """Longest line; a full-width character takes two columns."""
    lines: int = 2
    longest: float = 7.0
    """Seconds."""
    shortest: float = 1.0
    """Seconds that a cue stays when the next one leaves room for it."""

    def __post_init__(self) -> None:
        if self.columns < 2 or self.lines < 1 or not 0 <= self.shortest <= self.longest:
            raise ValueError(
                "cue rules need columns >= 2, lines >= 1 and 0 <= shortest <= longest, got "
                f"{self.columns=}, {self.lines=}, {self.shortest=}, {self.longest=}".replace("self.", "")
            )


@dataclass(frozen=True)
class Cue:
    """One subtitle."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """One word as the utterance's text shows it, with what follows it up to the next word."""

    shown: str
    start: float
    end: float


def join_texts(texts: Iterable[str]) -> str:
    """The texts of utterances as one: a space between them, but none next to a full-width character."""
    joined = ""
    for text in texts:
        if not text:
            continue
        apart = bool(joined) and not (_is_wide(joined[-1]) or _is_wide(text[0]))
        joined += (" " if apart else "") + text
    return joined


def cues(utterances: Iterable[SpokenUtterance], rules: CueRules = CueRules()) -> list[Cue]:
    """The cues for `utterances`, in order and never overlapping."""
    groups: list[list[_Piece]] = []
    for utterance in utterances:
        if utterance.text.strip():
            groups += _split(_pieces(utterance), rules)
    result = []
    for index, group in enumerate(groups):
        start, end = group[0].start, max(piece.end for piece in group)
        end = max(end, start + rules.shortest)
        if index + 1 < len(groups):
            end = min(end, groups[index + 1][0].start)
        # A cue of no length would be invalid.
        result.append(Cue(start, max(end, start + 0.001), _wrap(group, rules)))
    return result


def render(utterances: Sequence[SpokenUtterance], form: TranscriptFormat, *, file: str = "") -> str:
    """The whole transcript as one string that ends with a newline (unless it is empty SRT).

    `file` names the recording in the `jsonl` form.
    """
    match form:
        case TranscriptFormat.TEXT:
            return join_texts(utterance.text for utterance in utterances) + "\n"
        case TranscriptFormat.JSONL:
            return json.dumps(_as_object(utterances, file), ensure_ascii=False) + "\n"
        case TranscriptFormat.SRT | TranscriptFormat.VTT:
            import pysubs2  # only here, as the command line needs this module to show its help

            subtitles = pysubs2.SSAFile()
            for cue in cues(utterances):
                event = pysubs2.SSAEvent(start=_milliseconds(cue.start), end=_milliseconds(cue.end))
                event.plaintext = "\n".join(cue.lines)
                subtitles.append(event)
            return subtitles.to_string(form.value)


def _as_object(utterances: Sequence[SpokenUtterance], file: str) -> dict[str, object]:
    return {
        "file": file,
        "text": join_texts(utterance.text for utterance in utterances),
        "utterances": [
            {
                "text": utterance.text,
                "start": round(utterance.start, 3),
                "end": round(utterance.end, 3),
                "words": [
                    {
                        "text": word.text,
                        "start": round(word.start, 3),
                        "end": round(word.end, 3),
                        "confidence": round(word.confidence, 4),
                    }
                    for word in utterance.words
                ],
            }
            for utterance in utterances
        ],
    }


def _pieces(utterance: SpokenUtterance) -> list[_Piece]:
    """Cuts the utterance's text in front of each word, so that marks and spaces stay as the text has them."""
    text = utterance.text.strip()
    cuts: list[tuple[int, SpokenWord]] = []
    position = 0
    for word in utterance.words:
        found = text.find(word.text, position)
        if found < 0:
            # Without a place in the text it belongs to what the word before it shows.
            continue
        cuts.append((found, word))
        position = found + len(word.text)
    if not cuts:
        return [_Piece(text, utterance.start, utterance.end)]
    pieces = []
    for index, (_, word) in enumerate(cuts):
        first = 0 if index == 0 else cuts[index][0]
        last = cuts[index + 1][0] if index + 1 < len(cuts) else len(text)
        pieces.append(_Piece(text[first:last], word.start, word.end))
    return pieces


def _split(pieces: list[_Piece], rules: CueRules) -> list[list[_Piece]]:
    if len(pieces) == 1 or _fits(pieces, rules):
        return [pieces]
    cut = _best_cut(pieces)
    return _split(pieces[:cut], rules) + _split(pieces[cut:], rules)


def _fits(pieces: list[_Piece], rules: CueRules) -> bool:
    if pieces[-1].end - pieces[0].start > rules.longest:
        return False
    lines = _wrap(pieces, rules)
    return len(lines) <= rules.lines and all(_width(line) <= rules.columns for line in lines)


def _best_cut(pieces: list[_Piece]) -> int:
    """Index of the piece that begins the second part."""
    widths = [_width(piece.shown) for piece in pieces]
    total = sum(widths)
    before = 0
    candidates = []
    for index in range(1, len(pieces)):
        before += widths[index - 1]
        candidates.append((index, min(before, total - before) / max(total, 1)))
    # A cut near an edge would leave a cue of a word or two.
    balanced = [candidate for candidate in candidates if candidate[1] >= 0.25] or candidates

    def merit(candidate: tuple[int, float]) -> tuple[int, float, float]:
        index, balance = candidate
        return (
            _mark_rank(pieces[index - 1].shown),
            round(pieces[index].start - pieces[index - 1].end, 3),
            balance,
        )

    return max(balanced, key=merit)[0]


def _mark_rank(shown: str) -> int:
    last = shown.rstrip()[-1:]
    return 2 if last in SENTENCE_MARKS else 1 if last in PHRASE_MARKS else 0


def _wrap(pieces: list[_Piece], rules: CueRules) -> tuple[str, ...]:
    """As few lines as hold the pieces; two lines are made about equally long."""
    whole = "".join(piece.shown for piece in pieces).strip()
    if _width(whole) <= rules.columns or len(pieces) == 1:
        return (whole,)
    lines: list[str] = []
    line = ""
    for piece in pieces:
        if line and _width((line + piece.shown).strip()) > rules.columns:
            lines.append(line.strip())
            line = ""
        line += piece.shown
    lines.append(line.strip())
    if len(lines) != 2:
        return tuple(lines)
    halves = [
        ("".join(p.shown for p in pieces[:cut]).strip(), "".join(p.shown for p in pieces[cut:]).strip())
        for cut in range(1, len(pieces))
    ]
    return min(halves, key=lambda half: max(_width(half[0]), _width(half[1])))


def _width(text: str) -> int:
    return sum(2 if _is_wide(character) else 1 for character in text)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
