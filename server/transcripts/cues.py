"""Subtitles: utterances cut into cues, and cues into lines.

The rules are those that broadcasters publish; docs/subtitles.md names the sources. `lay_out` cuts each utterance into
cues, and each cue into lines, where that costs least: cuts after marks, in pauses and before conjunctions and
prepositions are cheap, cuts inside a phrase are expensive. `time_cues` then shows each cue for as long as it takes to
read.

server/web/cues.js does the same for the page. tests/data/cues.json has cases that both must pass exactly, so every
operation on numbers here is one that JavaScript has, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from weakref import WeakKeyDictionary

from parastream.model.text import is_wide
from parastream.server.transcripts.labels import speaker_prefix
from parastream.server.transcripts.utterance import AttributedUtterance, SpokenUtterance, SpokenWord, speaker_of

SENTENCE_MARKS = frozenset(".?!。？！…")
PHRASE_MARKS = frozenset(",;:，、；：")
_CLOSING = "\"'”’»)]）」』》"

_WIDE = 42 / 16
"""Columns of a full-width character: Netflix allows 42 characters in a line of English and 16 in one of Chinese."""
_WIDE_READING = 2.0
"""Characters that take as long to read as a full-width one: 17 a second against about 9 (Netflix)."""


@dataclass(frozen=True)
class SubtitleStyle:
    """How subtitles look; docs/subtitles.md compares the sources of the defaults.

    Raises:
        ValueError: A value is out of its range.
    """

    line_length: int = 42
    """Longest line in columns (Netflix; ARD, ORF, SRF and ZDF: 37). A full-width character takes 42/16 of one, so that
    a line holds 16 of them (Netflix, Chinese)."""
    lines: int = 2
    """Most lines in a cue (all sources)."""
    min_cue: float = 5 / 6
    """Seconds that a cue stays when the next one leaves room for it (Netflix; ARD: 1)."""
    max_cue: float = 7.0
    """Seconds that a cue stays at most (Netflix)."""
    max_speed: float = 17.0
    """Characters that viewers can read in a second: a cue outlasts its speech where there is room (Netflix: 17 to 20;
    BBC: 160 to 180 words a minute, which is about the same; ARD: 13 to 15). A full-width character counts twice."""
    gap: float = 1 / 12
    """Seconds between a cue and the next one of its speaker (Netflix: 2 frames, at 24 a second)."""
    min_pause: float = 0.5
    """Seconds; the cue before a shorter pause fills it, up to `gap` (Netflix: 12 frames)."""
    linger: float = 1.5
    """Seconds that a cue may stay after its speech has ended (BBC)."""

    def __post_init__(self) -> None:
        for name, allowed, right in (
            ("line_length", "10 or more", self.line_length >= 10),
            ("lines", "1 or more", self.lines >= 1),
            ("min_cue", "0 or more", self.min_cue >= 0),
            ("max_cue", f"min_cue ({self.min_cue:.3g}) or more", self.max_cue >= self.min_cue),
            ("max_speed", "more than 0", self.max_speed > 0),
            ("gap", "0 or more", self.gap >= 0),
            ("min_pause", "0 or more", self.min_pause >= 0),
            ("linger", "0 or more", self.linger >= 0),
        ):
            if not right:
                raise ValueError(f"{name} is {getattr(self, name):g}; allowed is {allowed}")


@dataclass(frozen=True)
class Cue:
    """One subtitle."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    lines: tuple[str, ...]
    """At least one."""
    speaker: str = ""
    """Name of the speaker; empty where lines have no names."""


def cues(utterances: Iterable[SpokenUtterance], style: SubtitleStyle = SubtitleStyle()) -> list[Cue]:
    """Return the cues of `utterances` by start time; those of one speaker never overlap."""
    return time_cues((cue for utterance in utterances for cue in lay_out(utterance, style)), style)


class CueCache:
    """Lays out each utterance once, for as long as the utterance lives.

    A room's transcript is requested again and again, and laying out a long sentence takes some 3 ms. Threads may share
    a cache.
    """

    def __init__(self, style: SubtitleStyle = SubtitleStyle()) -> None:
        self._style = style
        self._laid_out: WeakKeyDictionary[AttributedUtterance, list[Cue]] = WeakKeyDictionary()

    def cues(self, utterances: Iterable[AttributedUtterance]) -> list[Cue]:
        """Return what the function `cues` returns."""
        return time_cues((cue for utterance in utterances for cue in self._lay_out(utterance)), self._style)

    def _lay_out(self, utterance: AttributedUtterance) -> list[Cue]:
        found = self._laid_out.get(utterance)
        if found is None:
            found = self._laid_out[utterance] = lay_out(utterance, self._style)
        return found


def time_cues(laid_out: Iterable[Cue], style: SubtitleStyle = SubtitleStyle()) -> list[Cue]:
    """Return cues with the times at which they are shown, in whole milliseconds, by start time.

    Args:
        laid_out: Cues that last as long as their speech, as `lay_out` returns them.
        style: How long they stay.
    """
    result: list[Cue] = []
    latest: dict[str, int] = {}  # index of the speaker's cue before
    for cue in sorted(laid_out, key=lambda cue: cue.start):
        if cue.speaker in latest:
            index = latest[cue.speaker]
            result[index] = before = _make_way(result[index], cue.start, style)
            cue = replace(cue, start=max(cue.start, before.end))
        latest[cue.speaker] = len(result)
        result.append(_long_enough(cue, style))
    return [_in_milliseconds(cue) for cue in result]


def _in_milliseconds(cue: Cue) -> Cue:
    """Round the times of a cue, which lasts one millisecond at least: players reject shorter ones."""
    start, end = (math.floor(1000 * time + 0.5) for time in (cue.start, cue.end))
    return replace(cue, start=start / 1000, end=max(end, start + 1) / 1000)


def _long_enough(cue: Cue, style: SubtitleStyle) -> Cue:
    """Let a cue stay for as long as it takes to read, as if nothing came after it."""
    characters = sum(_WIDE_READING if is_wide(character) else 1.0 for line in cue.lines for character in line)
    reading = min(cue.start + characters / style.max_speed, cue.end + style.linger, cue.start + style.max_cue)
    return replace(cue, end=max(cue.end, reading, cue.start + style.min_cue))


def _make_way(cue: Cue, next_start: float, style: SubtitleStyle) -> Cue:
    """End a cue in time for the speaker's next one, or right before it if the pause would be too short."""
    room = next_start - cue.start
    last = cue.start + max(room - style.gap, room / 2, 0.001)
    if next_start - cue.end < style.min_pause:
        return replace(cue, end=min(last, max(cue.end, cue.start + style.max_cue)))
    return cue


@dataclass(frozen=True)
class _Piece:
    """One word as it stands in the utterance's text, with what follows it up to the next word."""

    shown: str
    start: float
    end: float


def lay_out(utterance: SpokenUtterance, style: SubtitleStyle = SubtitleStyle()) -> list[Cue]:
    """Return the cues of one utterance; each lasts as long as its speech."""
    if not utterance.text.strip():
        return []
    speaker = speaker_of(utterance)
    pieces = _pieces(utterance)
    return [
        Cue(
            pieces[spans[0][0]].start,
            max(piece.end for piece in pieces[spans[0][0] : spans[-1][1]]),
            tuple("".join(piece.shown for piece in pieces[first:last]).strip() for first, last in spans),
            speaker,
        )
        for spans in _Layout(pieces, style, _width(speaker_prefix(speaker))).best()
    ]


def _pieces(utterance: SpokenUtterance) -> list[_Piece]:
    """Cut the utterance's text in front of each word, so that marks and spaces stay as they are in the text."""
    text = " ".join(utterance.text.split())
    cuts: list[tuple[int, SpokenWord]] = []
    position = 0
    for word in utterance.words:
        found = text.find(word.text, position)
        if found < 0:
            continue  # a word that is not in the text belongs to the piece before it
        cuts.append((found, word))
        position = found + len(word.text)
    if not cuts:
        return _without_words(text, utterance.start, utterance.end)
    pieces = []
    for index, (_, word) in enumerate(cuts):
        first = 0 if index == 0 else cuts[index][0]
        last = cuts[index + 1][0] if index + 1 < len(cuts) else len(text)
        pieces.append(_Piece(text[first:last], word.start, word.end))
    return pieces


def _without_words(text: str, start: float, end: float) -> list[_Piece]:
    """Cut at spaces, with times as if each character took equally long."""
    pieces = []
    for found in re.finditer(r"\S+\s*", text):
        first, last = (start + (end - start) * place / len(text) for place in found.span())
        pieces.append(_Piece(found[0], first, last))
    return pieces


_Spans = tuple[tuple[int, int], ...]
"""The lines of a cue, each with the index of its first piece and of the one after its last."""


class _Layout:
    """The cheapest way to cut the pieces of an utterance into cues and lines.

    All costs share one scale, on which a cut between two ordinary words of a phrase costs 50.
    """

    _CUE = 6.0  # for each cue, so that there are fewer of them
    _EMPTINESS = 15.0  # for a cue with hardly any text
    _SENTENCE = 16.0  # for the end of a sentence within a cue
    _PAUSE = 40.0  # for each second of a pause within a cue
    _HASTE = 40.0  # for a cue that disappears before anybody can read it
    _LINE_BREAK = 0.5  # a break between lines, as a share of a cut between cues
    _TOP_HEAVY, _BOTTOM_HEAVY = 30.0, 10.0  # for a full line next to an empty one
    _ORPHAN = 25.0  # for a short word alone on a line

    def __init__(self, pieces: Sequence[_Piece], style: SubtitleStyle, prefix: float) -> None:
        """Prepare the costs of all cuts.

        Args:
            pieces: At least one.
            style: Limits of lines and cues.
            prefix: Columns of what precedes the first line of each cue.
        """
        self._pieces = pieces
        self._style = style
        # A name that takes more than half of the line would leave no room for what was said.
        self._prefix = min(prefix, style.line_length / 2)
        self._until = [0.0, *accumulate(_width(piece.shown) for piece in pieces)]
        self._trailing = [_width(piece.shown) - _width(piece.shown.rstrip()) for piece in pieces]
        inner = list(pairwise(pieces))
        following = ("".join(piece.shown for piece in pieces[index : index + 2]) for index in range(1, len(pieces)))
        self._cuts = [
            0.0,
            *(
                _cost_of_cut(before.shown, text, after.start - before.end)
                for (before, after), text in zip(inner, following, strict=True)
            ),
            0.0,
        ]
        """Cost of a cut in front of each piece; the places before the first and after the last one are free."""
        sentences = [_ends_with(before.shown, SENTENCE_MARKS) for before, _ in inner]
        self._inside = [
            0.0,
            0.0,
            *accumulate(
                self._SENTENCE * ends + self._PAUSE * max(0.0, after.start - before.end)
                for ends, (before, after) in zip(sentences, inner, strict=True)
            ),
        ]
        """Running total: cost of keeping all places before this one inside a cue."""

    def best(self) -> list[_Spans]:
        """Return the lines of each cue."""
        count = len(self._pieces)
        best: list[tuple[float, int, _Spans]] = [(0.0, 0, ())]
        for last in range(1, count + 1):
            options = []
            for first in range(last - 1, -1, -1):
                found = self._cue(first, last)
                if found is None:
                    break  # more words will not fit either
                cost, spans = found
                options.append((best[first][0] + cost + self._cuts[last], first, spans))
            best.append(min(options, key=lambda option: option[0]))
        result = []
        last = count
        while last:
            _, first, spans = best[last]
            result.append(spans)
            last = first
        return result[::-1]

    def _cue(self, first: int, last: int) -> tuple[float, _Spans] | None:
        """Return the cost and the lines of a cue of these pieces; None if they do not fit. One piece always fits."""
        style, pieces = self._style, self._pieces
        alone = last - first == 1
        start = pieces[first].start
        lasts = pieces[last - 1].end - start
        wrapped = None
        if alone or lasts <= style.max_cue:
            for lines in range(1, style.lines + 1):
                if wrapped := self._wrap(first, last, lines, self._prefix):
                    break
        if wrapped is None:
            if not alone:
                return None
            wrapped = 0.0, ((first, last),)
        width = self._width(first, last)
        needed = max(style.min_cue, width / style.max_speed)
        # At least the silence that ended the utterance follows it.
        room = pieces[last].start - start if last < len(pieces) else lasts + style.min_pause
        haste = max(0.0, 1.0 - room / needed) if needed else 0.0
        emptiness = max(0.0, 1.0 - width / (style.line_length * style.lines))
        cost = self._CUE + wrapped[0] + self._EMPTINESS * (emptiness * emptiness) + self._HASTE * haste
        return cost + self._inside[last] - self._inside[first + 1], wrapped[1]

    def _wrap(self, first: int, last: int, lines: int, prefix: float = 0.0) -> tuple[float, _Spans] | None:
        """Return the cost and the lines of the cheapest way to write the pieces on so many lines."""
        longest = self._style.line_length
        if lines == 1:
            return (0.0, ((first, last),)) if prefix + self._width(first, last) <= longest else None
        best: tuple[float, _Spans] | None = None
        for cut in range(first + 1, last):
            top = prefix + self._width(first, cut)
            if top > longest:
                break
            rest = self._wrap(cut, last, lines - 1)
            if rest is None:
                continue
            bottom = self._width(*rest[1][0])
            shape = (self._TOP_HEAVY if top > bottom else self._BOTTOM_HEAVY) * abs(top - bottom) / longest
            orphan = self._ORPHAN * (self._is_orphan(first, cut) + self._is_orphan(*rest[1][0]))
            cost = self._LINE_BREAK * self._cuts[cut] + shape + orphan + rest[0]
            if best is None or cost < best[0]:
                best = cost, ((first, cut), *rest[1])
        return best

    def _width(self, first: int, last: int) -> float:
        return self._until[last] - self._until[first] - self._trailing[last - 1]

    def _is_orphan(self, first: int, last: int) -> bool:
        return last - first == 1 and self._width(first, last) < self._style.line_length / 5


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONJUNCTIONS = _words("""
    and but or nor so yet because although though while when whenever whereas if unless until since that than
    which who whom whose where why how
""")
_PREPOSITIONS = _words("""
    about above across after against along among around as at before behind below beneath beside between beyond by
    despite down during except for from in inside into like near of off on onto out over past through throughout till
    to toward towards under up upon via with within without
""")
_BINDING = _words("""
    a an the this these those my your his her its our their some any every each no
    am is are was were be been being have has had do does did will would shall should can could may might must
    i you he she it we they not never very too mr mrs ms dr
    i'm you're he's she's it's we're they're i'll we'll i've we've
""")
"""Determiners, auxiliaries and pronouns: like conjunctions and prepositions, they belong to the next word."""
_CHINESE_CONJUNCTIONS = _words("但是 所以 因为 如果 而且 然后 不过 可是 或者 以及 还有 并且 首先 其次 最后 就是 也就")
_CHINESE_PARTICLES = frozenset("的了吗呢吧啊呀嘛着过们地得")
"""They belong to the character before them."""


def _cost_of_cut(before: str, after: str, pause: float) -> float:
    """Return how much a cut would disturb a reader.

    Args:
        before: The piece before the cut.
        after: The text after it.
        pause: Seconds of silence between them.
    """
    if _ends_with(before, SENTENCE_MARKS):
        return 0.0
    word, following = _bare(before), _bare(after.strip().partition(" ")[0])
    if _ends_with(before, PHRASE_MARKS):
        cost = 8.0
    elif (
        word in _BINDING
        or word in _CONJUNCTIONS
        or word in _PREPOSITIONS
        or word + following[:1] in _CHINESE_CONJUNCTIONS
        or following[:1] in _CHINESE_PARTICLES
    ):
        cost = 80.0
    elif following in _CONJUNCTIONS or following[:2] in _CHINESE_CONJUNCTIONS:
        cost = 22.0
    elif following in _PREPOSITIONS:
        cost = 30.0 if following != "of" else 42.0
    else:
        cost = 50.0
    # Half a second of silence is as good as a comma.
    return cost * (1.0 - 0.84 * min(1.0, max(0.0, pause) / 0.5))


def _bare(word: str) -> str:
    return word.strip(" ,;:\"'“”‘’()").lower()


def _ends_with(shown: str, marks: frozenset[str]) -> bool:
    return shown.rstrip().rstrip(_CLOSING)[-1:] in marks


def _width(text: str) -> float:
    """Return the columns that a text takes."""
    return sum(_WIDE if is_wide(character) else 1.0 for character in text)
