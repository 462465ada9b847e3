"""What a session tells of an utterance: its partials and its final."""

from __future__ import annotations

from collections.abc import Sequence

from parastream.model.final_pass import Hypothesis, TimedWord
from parastream.model.replacements import Replacements
from parastream.streaming.events import Final, Partial
from parastream.streaming.rendering import placed_words, render, rounded_confidence, session_time
from parastream.streaming.wording import replaced_so_far
from parastream.streaming.work import Utterance


def partial_of(utterance: Utterance, streamed: Hypothesis, rules: Replacements) -> Partial:
    """Return the partial of an open utterance of which the streaming pass has heard this much.

    All words but the last are stable if it is not refined: further tokens cannot change them. Rules may hold back more.
    """
    refinement = utterance.refinement
    if refinement is None:
        words, end = list(streamed.words), utterance.fed
        stable = max(0, len(words) - 1)
    else:
        words, stable = refinement.words(streamed.words)
        end = max(utterance.fed, refinement.heard)
    heard = render(*replaced_so_far(words, rules, stable), utterance.start)
    times = session_time(utterance.start), session_time(end)
    return Partial(utterance.index, *times, heard.stable, heard.draft, heard.words)


def final_of(utterance: Utterance, said: Hypothesis, words: Sequence[TimedWord]) -> Final:
    """Return the final of an utterance that has ended, in which this was said, spelled as in `words`."""
    assert utterance.end is not None
    text, placed = placed_words(words, utterance.start)
    return Final(
        utterance.index,
        session_time(utterance.start),
        session_time(utterance.end),
        text,
        placed,
        rounded_confidence(sum(word.confidence for word in placed) / len(placed)) if placed else 0.0,
        said.ear,
        said.language or "",
    )
