"""From tokens to what a client reads: words with times, and which text is settled.

The whole token list of an utterance is rendered anew each time, so no word is cut where two windows meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parastream.model.config import ROW_SECONDS
from parastream.model.text import join
from parastream.model.timestamps import token_times
from parastream.model.tokenizer import Tokenizer
from parastream.model.tokens import Tokens
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.events import Word


@dataclass(frozen=True, slots=True)
class Rendering:
    """An utterance's text so far."""

    stable: str
    """All words but the last: further tokens cannot change them."""
    draft: str
    """The last word, which may still grow; spacing included."""
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


def render(tokenizer: Tokenizer, tokens: Tokens, start: int, end: int) -> Rendering:
    """Render the tokens of an utterance whose audio is samples `start` to `end` of its session."""
    seconds = (end - start) / SAMPLE_RATE
    rows = max(1, round(seconds / ROW_SECONDS))
    starts, ends = token_times(tokens.rows, rows)
    spoken = tokenizer.words([int(i) for i in tokens.ids])
    words = tuple(
        Word(
            text=word.text,
            start=session_time(start, min(float(starts[word.first]), seconds)),
            end=session_time(start, min(float(ends[word.stop - 1]), seconds)),
            confidence=rounded_confidence(float(tokens.confidences[word.first : word.stop].min())),
        )
        for word in spoken
    )
    text, stable = join(word.text for word in words), join(word.text for word in words[:-1])
    return Rendering(stable, text[len(stable) :], words)


def with_marks(words: Sequence[Word], marked: Sequence[str]) -> tuple[str, tuple[Word, ...]]:
    """Punctuated text, and the words spelled as in it."""
    spelled = tuple(replace(word, text=text) for word, text in zip(words, marked, strict=True))
    return join(marked), spelled
