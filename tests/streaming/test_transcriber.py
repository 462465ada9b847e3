"""Whole recordings."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from parastream.model.errors import AudioError
from parastream.streaming import Models, SessionConfig, Transcriber

from ..conftest import SAMPLE_TEXTS


@pytest.fixture(scope="module")
def transcriber(models: Models) -> Transcriber:
    return Transcriber(models.speech, vad=models.vad, punctuation=models.punctuation)


def test_a_recording(transcriber: Transcriber, sample: NDArray[np.int16]) -> None:
    heard: list[float] = []
    transcript = transcriber.transcribe(sample / np.float32(32768), 16000, progress=heard.append)
    assert [u.text for u in transcript.utterances] == SAMPLE_TEXTS
    assert transcript.text == " ".join(SAMPLE_TEXTS)
    assert transcript.duration == 12.0
    assert heard == [float(second) for second in range(1, 13)]


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates_give_the_same_places(transcriber: Transcriber, sample: NDArray[np.int16], rate: int) -> None:
    samples = soxr.resample(sample / np.float32(32768), 16000, rate)
    transcript = transcriber.transcribe(samples, rate)
    expected = transcriber.transcribe(sample / np.float32(32768), 16000)
    assert transcript.duration == pytest.approx(12.0, abs=1e-3)
    for found, wanted in zip(transcript.utterances, expected.utterances, strict=True):
        assert found.start == pytest.approx(wanted.start, abs=0.07)
        assert found.end == pytest.approx(wanted.end, abs=0.15)
    if rate > 16000:
        assert [u.text for u in transcript.utterances] == SAMPLE_TEXTS


def test_the_streaming_pass_alone(models: Models, sample: NDArray[np.int16]) -> None:
    config = SessionConfig(partials=False, final_pass=False)
    transcriber = Transcriber(models.speech, vad=models.vad, punctuation=None, config=config)
    texts = [u.text for u in transcriber.transcribe(sample / np.float32(32768), 16000).utterances]
    assert texts == ["enter one seventy six", "rubout GMEF three nine", "ten twenty seven sixty two"]


def test_silence_and_nothing(transcriber: Transcriber) -> None:
    for samples in (np.zeros(0, np.float32), np.zeros(50000, np.float32)):
        transcript = transcriber.transcribe(samples, 16000)
        assert (transcript.text, transcript.utterances) == ("", ())


def test_samples_that_cannot_be_used(transcriber: Transcriber) -> None:
    with pytest.raises(AudioError, match="sample 7"):
        transcriber.transcribe(np.where(np.arange(1000) == 7, np.nan, 0).astype(np.float32), 16000)
    with pytest.raises(AudioError, match="shape"):
        transcriber.transcribe(np.zeros((100, 2), np.float32), 16000)
