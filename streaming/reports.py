"""What a session tells of an utterance: its partials and its final."""

from __future__ import annotations

from collections.abc import Sequence

from parastream.model import SpeechModel
from parastream.model.final_pass import Hypothesis, TimedWord, calibrated
from parastream.model.replacements import Replacements
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.events import Final, Partial
from parastream.streaming.rendering import placed_words, render, rounded_confidence, session_time
from parastream.streaming.wording import replaced_so_far
from parastream.streaming.work import Utterance


def streamed_of(
    utterance: Utterance, front: SpeechModel, language: str | None, *, end: int | None = None
) -> Hypothesis:
    """Return what the streaming pass has heard of an utterance: one that is open, or ends at a sample.

    Args:
        utterance: That was heard.
        front: The model that has heard it.
        language: What is spoken, if the client has said so.
        end: Where the utterance ends; None while it is open.
    """
    assert utterance.heard is not None
    if end is None:
        words, _ = _shown(utterance)
    else:
        words = utterance.heard.words((end - utterance.start) / SAMPLE_RATE)
    language, calibration = language or front.language, front.streaming_calibration
    return Hypothesis(front.name, words, marked=False, language=language, calibration=calibration)


def _shown(utterance: Utterance) -> tuple[tuple[TimedWord, ...], int]:
    assert utterance.heard is not None
    return utterance.heard.shown((utterance.fed - utterance.start) / SAMPLE_RATE)


def partial_of(utterance: Utterance, front: SpeechModel, rules: Replacements) -> Partial:
    """Return the partial of an open utterance, whose streaming pass is that of a model.

    Words that are settled are stable if it is not refined: further tokens cannot change them. Rules may hold back more.
    """
    refinement = utterance.refinement
    acoustic, settled = _shown(utterance)
    streamed = calibrated(acoustic, front.streaming_calibration)
    if refinement is None:
        words, stable, end = list(streamed), settled, utterance.fed
    else:
        words, stable = refinement.words(streamed, settled)
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
