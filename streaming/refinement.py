"""Refined partials: the better ear hears an open utterance again and again, where there is room.

What two hypotheses in a row agree on is stable; behind it come the rest of the newest one, and what the streaming pass
has heard since, as a draft. Source: LocalAgreement-2 (Liu et al. 2020; Macháček et al. 2023, whisper_streaming).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from parastream.model.choice import choose
from parastream.model.final_pass import Hypothesis, TimedWord
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.rendering import capitalised, continued, spelled_words, unmarked, without_marks

FIRST = int(1.2 * SAMPLE_RATE)
"""Samples of an utterance before which nothing is refined: most of what is heard in less is wrong."""
EVERY = int(0.6 * SAMPLE_RATE)
"""Fewest new samples between two times."""
_PATIENCE = 3 * SAMPLE_RATE
"""Samples by which the streaming pass may be ahead; then what it hears is stable as without refinement."""
_MARGIN = 0.3
"""Seconds: the streaming pass hears words up to so much later than they are said."""


@dataclass(slots=True)
class Refinement:
    """What the better ear has made of an open utterance so far; times in seconds from its start."""

    start: int
    """Session sample at which the utterance begins."""
    asked: int
    """Session sample up to which the better ear was asked to hear it last."""
    heard: int
    """Session sample up to which it has heard it."""
    busy: bool = False
    """Whether it is being heard."""
    over: bool = False
    """Whether it is not refined any more: words of the streaming pass become stable again."""
    tokens: tuple[int, ...] = ()
    """Of the newest hypothesis, as a draft of the next."""
    agreed: list[TimedWord] = field(default_factory=list)
    """Words that are stable."""
    newest: list[TimedWord] = field(default_factory=list)
    """The newest hypothesis behind them."""
    _goes_on: bool | None = None

    @classmethod
    def begin(cls, start: int) -> Refinement:
        """Begin to refine an utterance that starts at a session sample."""
        return cls(start, start, start)

    def due(self, place: int, longest: int) -> int:
        """Return how many samples up to a place are new to the better ear; 0 where it should not hear the utterance.

        It hears at most `longest` samples.
        """
        if self.busy or self.over or not FIRST <= place - self.start <= longest:
            return 0
        return place - self.asked

    def ask(self, end: int) -> None:
        """Take note that the better ear begins to hear the utterance up to a session sample."""
        self.busy, self.asked = True, end

    def follow(self, seen: int) -> None:
        """Take note that the streaming pass has heard the utterance up to a session sample."""
        if seen - self.heard > _PATIENCE:
            self.over = True

    def take(self, hypothesis: Hypothesis, streamed: Hypothesis, end: int, *, goes_on: bool, marks: bool) -> bool:
        """Take what the better ear makes of the utterance up to a session sample.

        Args:
            hypothesis: What it has heard.
            streamed: What the streaming pass has heard; where that is rather to be believed, nothing changes.
            end: The sample.
            goes_on: Whether the utterance goes on with the sentence of the one before.
            marks: Whether marks and capitals are wanted.

        Returns:
            Whether there is something new to tell.
        """
        if self.over or not hypothesis.words or choose(hypothesis, streamed) is not hypothesis:
            return False
        if self._goes_on is None:  # as at first, lest stable words change
            self._goes_on = goes_on
        spelled = [word.text for word in hypothesis.words]
        spelled = continued(spelled) if self._goes_on else capitalised(spelled)
        words = spelled_words(hypothesis.calibrated_words, spelled if marks else unmarked(spelled))
        behind = self._behind_agreed(words)
        count = _agreeing(self.newest, behind)
        self.agreed += behind[:count]
        self.newest = behind[count:]
        if count and not self.newest:  # its marks depend on what follows
            self.agreed[-1] = replace(self.agreed[-1], text=without_marks(self.agreed[-1].text))
        self.heard, self.tokens = end, hypothesis.tokens
        return True

    def words(self, streamed: Sequence[TimedWord], settled: int) -> tuple[list[TimedWord], int]:
        """Return all words, and how many of them are stable.

        Args:
            streamed: What the streaming pass has heard of the utterance so far.
            settled: How many of these words further tokens cannot change.
        """
        if self.over:
            heard = self.agreed[-1].end + _MARGIN if self.agreed else 0.0
            behind = [place for place, word in enumerate(streamed) if word.start >= heard]
            stable = len(self.agreed) + sum(place < settled for place in behind)
            return [*self.agreed, *(streamed[place] for place in behind)], stable
        heard = (self.heard - self.start) / SAMPLE_RATE + _MARGIN if self.heard > self.start else 0.0
        front = (word for word in streamed if (word.start + word.end) / 2 >= heard)
        return [*self.agreed, *self.newest, *front], len(self.agreed)

    def _behind_agreed(self, words: list[TimedWord]) -> list[TimedWord]:
        """Return the words of a hypothesis that come behind those that are stable."""
        known = len(self.agreed)
        if not known:
            return words
        if _agreeing(self.agreed, words) == known:
            last = words[known - 1]
            if known < len(words) and last.text.startswith(self.agreed[-1].text):  # now its marks are known
                self.agreed[-1] = last
            return words[known:]
        return [word for word in words if (word.start + word.end) / 2 > self.agreed[-1].end]


def _agreeing(one: Sequence[TimedWord], other: Sequence[TimedWord]) -> int:
    """Return how many words two sequences have in common at their beginning, but for marks and capitals."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if without_marks(first.text).casefold() != without_marks(second.text).casefold():
            break
        count += 1
    return count
