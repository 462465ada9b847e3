"""From words to what a client reads: words with times, and which text is settled.

The whole word list of an utterance is rendered anew each time, so no word is cut where two windows meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parastream.model.final_pass import TimedWord
from parastream.model.text import join
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.events import Word

_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
_MARKS = "\"'“”‘’«»()[]（）「」『』,.;:?!…，。；：？！、-"
_COMMON = """
    a an the this that these those there here and but or so because if when while as what who which where why how he she
    it we they you my your his her its our their is are was were do did in on at to of for with from by not no
"""
_BEGINNINGS = frozenset(_COMMON.split())
"""Words that begin many sentences, and are no names."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """An utterance's text so far."""

    stable: str
    """Words that nothing can change any more."""
    draft: str
    """The others, which may still change; spacing included."""
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """Both together."""
        return self.stable + self.draft


def session_time(sample: int, seconds: float = 0.0) -> float:
    """Return the time of an event in seconds, to the millisecond: so many seconds behind a sample of the session."""
    return round(sample / SAMPLE_RATE + seconds, 3)


def rounded_confidence(value: float) -> float:
    """Return the confidence of an event, to four digits."""
    return round(value, 4)


def render(spoken: Sequence[TimedWord], stable: int, start: int) -> Rendering:
    """Render the words of an utterance that begins at sample `start`; the first ones are stable, so many."""
    words = _words(spoken, [word.text for word in spoken], start)
    text, settled = join(word.text for word in words), join(word.text for word in words[:stable])
    return Rendering(settled, text[len(settled) :], words)


def placed_words(words: Sequence[TimedWord], start: int) -> tuple[str, tuple[Word, ...]]:
    """Return the text of an utterance that begins at sample `start`, and its words on the session clock."""
    spelled = [word.text for word in words]
    return join(spelled), _words(words, spelled, start)


def spelled_words(words: Sequence[TimedWord], spelled: Sequence[str]) -> list[TimedWord]:
    """Return words with another spelling of each; those that are to keep theirs get no more than marks behind it."""
    return [
        replace(word, text=word.text + text[len(word.text) :] if word.kept else text)
        for word, text in zip(words, spelled, strict=True)
    ]


def _words(words: Sequence[TimedWord], spelled: Sequence[str], start: int) -> tuple[Word, ...]:
    return tuple(
        Word(
            text=text,
            start=session_time(start, word.start),
            end=session_time(start, word.end),
            confidence=rounded_confidence(word.confidence),
        )
        for word, text in zip(words, spelled, strict=True)
    )


def ends_sentence(spelled: Sequence[str]) -> bool:
    """Say whether the last word has a mark that ends a sentence."""
    return bool(spelled) and spelled[-1].rstrip("\"'”’»)）」』")[-1:] in _SENTENCE_ENDS


def capitalised(spelled: Sequence[str]) -> list[str]:
    """Spell the words of an utterance that begins a sentence: with a capital."""
    return [word[:1].upper() + word[1:] if place == 0 else word for place, word in enumerate(spelled)]


def continued(spelled: Sequence[str]) -> list[str]:
    """Spell the words of an utterance that goes on with the sentence before: no capital, but for names' and letters'.

    Which words are names is not known, so only the commonest beginnings of sentences lose theirs.
    """
    first, *rest = spelled or [""]
    lowered = first[:1].lower() + first[1:]
    return [lowered if lowered.strip(_MARKS) in _BEGINNINGS else first, *rest] if spelled else []


def unmarked(spelled: Sequence[str]) -> list[str]:
    """Take marks and capitals off words that have some of their own, but for spelled letters: `GMEF`, `U.S.`."""
    plain = map(without_marks, spelled)
    return [word if len(word) > 1 and word.isupper() else word.lower() for word in plain]


def without_marks(word: str) -> str:
    """Take the marks off a word that has some at its ends."""
    return word.strip(_MARKS) or word
