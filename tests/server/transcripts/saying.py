"""Utterances made by hand."""

from __future__ import annotations

from dataclasses import dataclass

from parastream.server.transcripts.utterance import AttributedUtterance


@dataclass(frozen=True)
class Word:
    text: str
    start: float
    end: float
    confidence: float = 0.9


def utterance(
    text: str,
    *,
    start: float = 0.0,
    each: float = 0.3,
    pauses: dict[int, float] | None = None,
    speaker: str = "",
) -> AttributedUtterance:
    """Words of `each` seconds; `pauses[i]` is the silence in front of word i."""
    words = []
    clock = start
    for index, word in enumerate(text.split()):
        clock += (pauses or {}).get(index, 0.0)
        words.append(Word(word, clock, clock + each))
        clock += each
    return AttributedUtterance(text, start, clock, tuple(words), speaker)


LONG = (
    "Enter one seventy six and then erase the second line, which nobody needs any more. "
    "After that we go on with the third one and leave it as it stands."
)
