"""Channels mixed: what is in any of them can be heard, and ordinary stereo is the mean that it always was."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.media.mixing import Mixer

RATE = 16_000
SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))
SPEECH: NDArray[np.float32] = soundfile.read(SAMPLE, dtype="float32")[0]
NOISE = np.random.default_rng(3).normal(0, 0.003, (2, len(SPEECH))).astype(np.float32)


def mixed(*channels: NDArray[Any], pieces: int = 1) -> NDArray[np.float32]:
    mixer = Mixer(len(channels), RATE)
    blocks = np.array_split(np.stack(channels, axis=1), pieces)
    return np.concatenate([*map(mixer.push, blocks), mixer.finish()])


def heard(samples: NDArray[np.float32]) -> float:
    """Share of the speech's power that is left."""
    return float(np.square(samples).sum() / np.square(SPEECH).sum())


def test_the_same_on_both_channels_stays_what_it_is() -> None:
    np.testing.assert_allclose(mixed(SPEECH, SPEECH), SPEECH)


def test_ordinary_stereo_is_the_mean() -> None:
    left, right = SPEECH + NOISE[0], 0.4 * SPEECH + NOISE[1]
    np.testing.assert_allclose(mixed(left, right), (left + right) / 2, atol=1e-6)


def test_a_silent_channel_stays_silent() -> None:
    for channels in ((SPEECH, 0 * SPEECH), (0 * SPEECH, SPEECH)):
        np.testing.assert_allclose(mixed(*channels), SPEECH / 2)


@pytest.mark.parametrize("other", [-SPEECH, -0.5 * SPEECH, -SPEECH + NOISE[0], -np.roll(SPEECH, 1)])
def test_an_inverted_channel_is_turned_over(other: NDArray[np.float32]) -> None:
    assert heard(mixed(SPEECH, other)) > 0.5


def test_one_of_several_channels_is_inverted() -> None:
    np.testing.assert_allclose(mixed(SPEECH, -SPEECH, SPEECH), SPEECH, atol=1e-6)
    assert heard(mixed(0 * SPEECH, SPEECH, 0 * SPEECH, -SPEECH)) == pytest.approx(0.25)


def test_an_offset_says_nothing_about_the_sign() -> None:
    left, right = SPEECH + 0.3, SPEECH - 0.3
    np.testing.assert_allclose(mixed(left, right), SPEECH, atol=1e-6)


def test_a_plug_that_turns_on_the_way_costs_a_moment() -> None:
    """Within the second sentence, in which the other channel's sign changes and changes back."""
    sign = np.ones_like(SPEECH)
    sign[5 * RATE : 7 * RATE] = -1
    result = np.square(mixed(SPEECH, sign * SPEECH))
    expected = np.square(SPEECH)
    for place in range(4 * RATE, 8 * RATE, RATE):
        assert result[place : place + RATE].sum() > 0.6 * expected[place : place + RATE].sum()


@pytest.mark.parametrize("pieces", [2, 7, 1000])
def test_how_audio_is_cut_does_not_matter(pieces: int) -> None:
    channels = SPEECH, np.where(np.arange(len(SPEECH)) < 6 * RATE, -SPEECH, SPEECH) + NOISE[0]
    np.testing.assert_allclose(mixed(*channels, pieces=pieces), mixed(*channels), rtol=1e-5, atol=1e-6)
    assert len(mixed(*channels, pieces=pieces)) == len(SPEECH)


def test_nothing_and_less_than_a_window() -> None:
    assert len(mixed(SPEECH[:0], SPEECH[:0])) == 0
    np.testing.assert_allclose(mixed(SPEECH[20_000:20_001], SPEECH[20_000:20_001]), SPEECH[20_000:20_001])
