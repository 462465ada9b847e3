"""The rule between two ears."""

from __future__ import annotations

from dataclasses import replace

import pytest
from parastream.model.choice import NO_SPEECH, believe, choose, least_log_probability
from parastream.model.final_pass import Hypothesis, TimedWord

WHISPER = Hypothesis("whisper-tiny-en", (TimedWord("Hello.", 0, 1, 0.9),), marked=True, mean_log_probability=-0.2)


def paraformer(*confidences: float) -> Hypothesis:
    words = tuple(TimedWord(f"w{i}", i, i + 1, confidence) for i, confidence in enumerate(confidences))
    return Hypothesis("asr-small-en", words, marked=False)


def test_whisper_is_believed_unless_something_speaks_against_it() -> None:
    assert choose(WHISPER, paraformer(0.99)) is WHISPER
    assert choose(replace(WHISPER, no_speech=NO_SPEECH), paraformer(0.99)).words == WHISPER.words


def test_where_nobody_speaks_there_are_no_words_whatever_else_is_so() -> None:
    silent = replace(WHISPER, no_speech=0.73, looped=True, mean_log_probability=-3)
    chosen = choose(silent, paraformer(0.99))
    assert (chosen.ear, chosen.words) == ("whisper-tiny-en", ())


def test_an_invention_is_never_believed() -> None:
    other = paraformer(0.01)
    unsure = replace(WHISPER, mean_log_probability=-1.01)
    assert choose(unsure, other) is unsure
    assert choose(replace(unsure, no_speech=0.4), other) is other


def test_a_loop_is_never_believed() -> None:
    other = paraformer(0.01)
    assert choose(replace(WHISPER, looped=True), other) is other


@pytest.mark.parametrize(("confidences", "least"), [((1.0,), -0.3), ((0.9, 0.5), -0.525), ((0.2,), -0.9), ((), -0.85)])
def test_the_surer_paraformer_is_the_surer_whisper_has_to_be(confidences: tuple[float, ...], least: float) -> None:
    other = paraformer(*confidences)
    assert least_log_probability(other) == pytest.approx(least)
    above, below = (replace(WHISPER, mean_log_probability=least + step) for step in (0.001, -0.001))
    assert choose(above, other) is above
    assert choose(below, other) is other


@pytest.mark.parametrize(
    ("no_speech", "log_probability", "believed"),
    [
        (0.0, -0.2, True),
        (0.72, -0.9, True),
        (0.73, -0.1, False),
        (0.4, -1.1, False),
        (0.4, -0.9, True),
        (0.3, -2, True),
    ],
)
def test_whisper_alone_is_believed_unless_nobody_speaks(
    no_speech: float, log_probability: float, believed: bool
) -> None:
    said = replace(WHISPER, no_speech=no_speech, mean_log_probability=log_probability)
    assert believe(said) == (said if believed else replace(said, words=()))


def test_of_a_loop_one_copy_is_kept_where_there_is_no_other_ear() -> None:
    said = replace(WHISPER, looped=True)
    assert believe(said) is said
