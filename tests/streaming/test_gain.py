"""The gain of voice activity detection, frame by frame, and that nothing else hears it."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.streaming import Models, Session, SessionConfig
from parastream.streaming.audio import AudioFormat, Encoding
from parastream.streaming.events import Final
from parastream.streaming.gain import Gain
from parastream.streaming.runner import Runner
from parastream.streaming.work import FinalWork, WindowWork

from ..conftest import SAMPLE_TEXTS
from .driver import converse, finals, steps

Audio = NDArray[np.int16]
RECORDINGS = Path(__file__).parents[1] / "data" / "an4"
FLOATS = SessionConfig(format=AudioFormat(Encoding.F32LE, 16000))

needs_silero = pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad's files")


def ratio(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def lowered(sample: Audio, decibels: float) -> NDArray[np.float32]:
    return (sample / 32768 * ratio(decibels)).astype("<f4")


def follow(gain: Gain, *levels: tuple[float, int]) -> list[float]:
    """Push frames of each level in dBFS, and return the gains in decibels."""
    pushed = [gain.push(ratio(level)) for level, count in levels for _ in range(count)]
    return [float(20 * np.log10(factor)) for factor in pushed]


def test_usual_speech_keeps_the_gain_at_one_however_long_the_silence_and_whatever_clicks_in_it() -> None:
    gain = Gain()
    gain.push(ratio(-20))
    after = follow(gain, (-40, 10), (-70, 2000), (-50, 3), (-70, 2000), (-25, 5))
    assert set(after) == {0.0}


def test_a_loud_frame_is_never_raised_after_quiet_ones() -> None:
    gain = Gain()
    assert follow(gain, (-90, 30), (-60, 5))[-1] == pytest.approx(28)
    assert follow(gain, (-25, 1), (-60, 1)) == [0.0, 0.0]


def test_the_first_word_of_a_session_is_raised_at_once() -> None:
    assert follow(Gain(), (-90, 1), (-60, 1))[-1] == pytest.approx(28)


def test_a_second_speaker_is_raised_within_the_pre_roll() -> None:
    gain = Gain()
    follow(gain, (-80, 20), (-20, 30), (-80, 15))
    quiet = follow(gain, (-50, 9))  # 0.29 s
    assert quiet[:3] == [0.0] * 3
    assert quiet[-1] == pytest.approx(18)


def test_a_second_speaker_who_leaves_no_pause_is_raised_in_the_end() -> None:
    gain = Gain()
    follow(gain, (-80, 20), (-20, 30))
    assert follow(gain, *[(-50, 10), (-79, 3)] * 10)[-1] == pytest.approx(18, abs=0.5)


@pytest.mark.parametrize("level", [-90, -75, -60, -45, -30, 0])
def test_a_steady_sound_is_raised_no_further_than_noise_may_be(level: float) -> None:
    gains = follow(Gain(), (level, 500))
    assert level + gains[-1] <= max(-60, level) + 1e-6
    assert max(gains) == 0 or level + max(gains) <= -32 + 1e-6


def test_a_noise_that_begins_late_becomes_the_floor() -> None:
    gain = Gain()
    follow(gain, (-90, 50), (-75, 300))
    assert follow(gain, (-75, 1)) == [pytest.approx(15)]


def test_digital_silence_says_nothing_about_the_noise() -> None:
    gain = Gain()
    for level in (-55, -45):
        assert [gain.push(0.0) for _ in range(100)] == [1.0] * 100
        assert follow(gain, (level, 100)) == [0.0] * 100


@given(st.lists(st.floats(0, 10) | st.sampled_from([1e-40, 1e20, float("inf")]), min_size=1, max_size=200))
def test_any_levels_give_a_gain_between_one_and_the_maximum(levels: list[float]) -> None:
    gain = Gain()
    for level in levels:
        factor = gain.push(level)
        assert 1 <= factor <= ratio(30) * (1 + 1e-9)
        assert factor == 1 or level * factor <= ratio(-32) * (1 + 1e-9)


@needs_silero
@pytest.mark.parametrize("level", [-20, -40])
def test_quiet_speech_gives_the_same_words_at_the_same_times_whatever_the_framing(
    models: Models, sample: Audio, level: float
) -> None:
    quiet = lowered(sample, level)

    def heard(size: int) -> list[Final]:
        pieces = [quiet[start : start + size].tobytes() for start in range(0, len(quiet), size)]
        return finals(converse(models, pieces, FLOATS))

    found = heard(len(quiet))
    assert [final.text for final in found] == SAMPLE_TEXTS
    for final, expected in zip(found, finals(converse(models, [sample.tobytes()], SessionConfig())), strict=True):
        assert (final.start, final.end) == pytest.approx((expected.start, expected.end), abs=0.04)
    assert found == heard(1600) == heard(3001)


@needs_silero
@pytest.mark.parametrize("name", ["an408-fcaw-b", "an409-fcaw-b"])
def test_a_speaker_30_db_below_the_one_before_is_found_as_if_alone(models: Models, sample: Audio, name: str) -> None:
    """Without the gain, the network takes the second one for background."""
    second, _ = soundfile.read(RECORDINGS / f"{name}.flac", dtype="int16")
    both = np.concatenate((lowered(sample, 0), lowered(second, -30)))
    found = finals(converse(models, [both.tobytes()], FLOATS))
    (alone,) = finals(converse(models, [second.tobytes()], SessionConfig()))
    assert [final.text for final in found] == [*SAMPLE_TEXTS, alone.text]
    before = len(sample) / 16000
    assert found[-1].start - before == pytest.approx(alone.start, abs=0.2)
    assert found[-1].end - before == pytest.approx(alone.end, abs=0.1)


@needs_silero
def test_the_recogniser_hears_the_audio_as_it_came(models: Models, sample: Audio) -> None:
    quiet = lowered(sample, -30)
    frontend = models.speech.frontend
    runner = Runner(models)
    session: Session = runner.new_session(FLOATS)
    session.receive_audio(quiet.tobytes())
    session.receive_end()
    heard = 0
    for work in itertools.chain.from_iterable(steps(runner, session)):
        match work:
            case FinalWork():
                start = work.utterance.start
                np.testing.assert_array_equal(work.samples, quiet[start : work.end])
                heard += 1
            case WindowWork() if work.stop - work.utterance.start == models.speech.window_samples:
                samples = quiet[work.utterance.start : work.stop]
                expected = frontend.step(samples, frontend.new_state(), final=work.last)
                np.testing.assert_array_equal(runner.rows_of([work])[0], expected)
                heard += 1
    assert heard >= 6
