"""Live audio in the caller's own process."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from parastream.model.errors import AudioError
from parastream.streaming import Models, SessionConfig, Transcriber
from parastream.streaming.events import Event, Final, Partial, Progress, SessionEnded, SpeechEnded

from ..conftest import SAMPLE_TEXTS
from .driver import converse, finals

Audio = NDArray[np.int16]


@pytest.fixture(scope="module")
def transcriber(models: Models) -> Transcriber:
    return Transcriber(models.speech, vad=models.vad, punctuation=models.punctuation)


def blocks(samples: Any, size: int) -> list[Any]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def test_each_call_returns_what_it_brought_about(transcriber: Transcriber, models: Models, sample: Audio) -> None:
    events: list[Event] = []
    with transcriber.stream() as stream:
        for block in blocks(sample, 1600):
            events += stream.send(block)
        assert [final.text for final in finals(events)] == SAMPLE_TEXTS
    expected = converse(models, [piece.tobytes() for piece in blocks(sample, 1600)], SessionConfig())
    assert events == [event for event in expected if not isinstance(event, Progress | SessionEnded)]
    assert stream.transcript.text == " ".join(SAMPLE_TEXTS)
    assert stream.transcript.utterances == tuple(finals(events))
    assert stream.transcript.duration == 12.0


@pytest.mark.parametrize("rate", [8000, 44100, 96000, 192000])
def test_any_rate(transcriber: Transcriber, sample: Audio, rate: int) -> None:
    samples = soxr.resample(sample, 16000, rate)
    with transcriber.stream(rate, partials=False) as stream:
        for block in blocks(samples, rate // 7):
            assert not [event for event in stream.send(block) if isinstance(event, Partial)]
    assert len(stream.transcript.utterances) == 3
    assert stream.transcript.duration == pytest.approx(12.0)
    if rate > 16000:
        assert [final.text for final in stream.transcript.utterances] == SAMPLE_TEXTS


@pytest.mark.parametrize("convert", [lambda s: s.tobytes(), lambda s: s / 32768, lambda s: s.astype("f4") / 32768])
def test_any_type(transcriber: Transcriber, sample: Audio, convert: Any) -> None:
    with transcriber.stream() as stream:
        stream.send(convert(sample))
    assert [final.text for final in stream.transcript.utterances] == SAMPLE_TEXTS


def test_what_is_said_last_is_told_at_the_end(transcriber: Transcriber, sample: Audio) -> None:
    stream = transcriber.stream()
    stream.send(sample[: len(sample) - 18000])  # the third speaker's last word ends about there
    rest = stream.finish()
    assert [event.reason for event in rest if isinstance(event, SpeechEnded)] == ["finish"]
    assert [event.text for event in rest if isinstance(event, Final)] == SAMPLE_TEXTS[-1:]
    assert isinstance(rest[-1], SessionEnded)
    assert stream.finish() == stream.flush() == []
    assert [final.text for final in stream.transcript.utterances] == SAMPLE_TEXTS


def test_a_flush_returns_the_open_utterance(transcriber: Transcriber, sample: Audio) -> None:
    with transcriber.stream() as stream:
        stream.send(sample[: int(3.2 * 16000)])  # the pause after the first sentence is not long enough yet
        assert [final.text for final in finals(stream.flush())] == SAMPLE_TEXTS[:1]


def test_an_exception_in_the_block_is_not_hidden_by_the_end(transcriber: Transcriber) -> None:
    with pytest.raises(KeyError), transcriber.stream():
        raise KeyError


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (b"123", "3 bytes of audio are not whole samples; allowed: 2 bytes for each"),
        (np.zeros((4, 2), np.int16), "audio of shape (4, 2) is not supported; allowed: one channel, shape (samples,)"),
        (np.zeros(4, np.int32), "audio of type int32 is not supported; allowed: int16, or float samples with"),
        (np.array([0.0, np.nan]), "audio sample 1 is nan"),
    ],
)
def test_audio_that_cannot_be_used(transcriber: Transcriber, sample: Audio, samples: Any, message: str) -> None:
    """The stream goes on with the next."""
    with transcriber.stream() as stream:
        with pytest.raises(AudioError, match=re.escape(message)):
            stream.send(samples)
        stream.send(sample)
    assert [final.text for final in stream.transcript.utterances] == SAMPLE_TEXTS


def test_audio_after_the_end(transcriber: Transcriber, sample: Audio) -> None:
    with transcriber.stream() as stream:
        pass
    with pytest.raises(AudioError, match="the stream has been finished"):
        stream.send(sample)


@pytest.mark.parametrize("rate", [0, -1, 16000.5, True, "16000"])
def test_rates_that_cannot_be_used(transcriber: Transcriber, rate: Any) -> None:
    with pytest.raises(AudioError, match=re.escape(f"audio rate {rate!r} is not supported")):
        transcriber.stream(rate)
