"""Paraformer's full-context pass behind the seam of final passes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.errors import AudioError
from parastream.model.final_pass import FinalInput, FinalPass
from parastream.model.lanes import finish
from parastream.model.paraformer_pass import ParaformerPass
from parastream.model.search.search import WordSearch
from parastream.streaming.heard import Heard
from parastream.streaming.rendering import render


@pytest.fixture(scope="module")
def ear(speech: SpeechModel) -> FinalPass:
    return ParaformerPass(speech)


@pytest.fixture(scope="module")
def utterances(sample: NDArray[np.int16]) -> list[FinalInput]:
    return [FinalInput((part / 32768).astype(np.float32)) for part in np.array_split(sample, [40000, 110000])]


def test_it_gives_the_words_that_a_session_shows(
    ear: FinalPass, speech: SpeechModel, utterances: list[FinalInput]
) -> None:
    found = finish(ear.transcribe_in_slices(utterances, steps=1))
    assert [hypothesis.ear for hypothesis in found] == ["asr-small-en"] * 3
    for hypothesis, utterance in zip(found, utterances, strict=True):
        (tokens,) = speech.network.transcribe([speech.frontend(utterance.samples)])
        hearing = Heard(WordSearch(speech.tokenizer), ())
        hearing.take(tokens)
        shown = render(*hearing.shown(utterance.seconds), 0)
        assert hypothesis.text == shown.text != ""
        assert not hypothesis.marked
        for word, other in zip(hypothesis.words, shown.words, strict=True):
            assert (word.text, round(word.start, 3), round(word.end, 3)) == (other.text, other.start, other.end)
            assert word.confidence == pytest.approx(other.confidence, abs=1e-3)
        confidences = [word.confidence for word in hypothesis.words]
        assert hypothesis.confidence == pytest.approx(sum(confidences) / len(confidences))


def test_it_yields_after_every_few_encoder_layers(ear: FinalPass, utterances: list[FinalInput]) -> None:
    layers = ear.steps(3.0)
    pieces = [sum(1 for _ in ear.transcribe_in_slices(utterances, steps=steps)) for steps in (1, 2, 4, 1000)]
    assert pieces[0] >= pieces[1] >= layers / 2
    assert pieces[2] in (pieces[1] // 2, pieces[1] // 2 + 1)
    assert pieces[3] == 0


def test_what_it_can_do(ear: FinalPass) -> None:
    can = ear.capabilities
    assert can.languages == ("en",)
    assert (can.writes_marks, can.takes_hotwords, can.gives_word_times, can.longest_seconds) == (
        False,
        True,
        True,
        None,
    )
    silence = np.zeros(8000, np.float32)
    finish(ear.transcribe_in_slices([FinalInput(silence, language="en")], steps=1))
    with pytest.raises(AudioError, match="asr-small-en does not know the language 'de'; it knows en"):
        next(ear.transcribe_in_slices([FinalInput(silence, language="de")], steps=1))


def test_nothing_was_said_in_an_utterance_without_samples(ear: FinalPass, utterances: list[FinalInput]) -> None:
    empty = FinalInput(np.zeros(0, np.float32))
    found = finish(ear.transcribe_in_slices([empty, utterances[0]], steps=1))
    assert (found[0].words, found[0].confidence, found[0].text) == ((), 0.0, "")
    assert found[1].words
