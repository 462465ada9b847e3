"""Sounds in which nobody speaks give no utterances, though quiet ones are amplified for voice activity detection."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from parastream.model import silero_weights
from parastream.streaming.endpoint import EndpointConfig, Endpointer
from parastream.streaming.vad import FRAME, Vad

from benchmarks.no_speech import RATE, sounds


@pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad's files")
def test_noise_hum_chords_breaths_and_clicks_are_not_taken_for_speech() -> None:
    quiet = sounds()
    vad = Vad(silero_weights.load())
    states = [vad.new_state() for _ in quiet]
    judged = vad([samples[: len(samples) // FRAME * FRAME] for samples in quiet.values()], states)
    found = {}
    for name, probabilities in zip(quiet, judged, strict=True):
        endpointer = Endpointer(EndpointConfig())
        found[name] = [event for probability in probabilities.tolist() for event in endpointer.push(probability, 0.0)]
    assert {name: events for name, events in found.items() if events} == {}
    raised = [name for name, state in zip(quiet, states, strict=True) if state.gain.push(0.0) > 1]
    assert len(raised) > 10


def test_the_sounds_have_the_levels_of_their_names() -> None:
    for name, samples in sounds().items():
        assert samples.dtype == np.float32
        assert len(samples) == 10 * RATE
        if name != "silence":
            level = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))
            assert level == pytest.approx(float(name.split(", ")[1]), abs=0.01)
