"""The detector in batches and on groups of frames, on real speech."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.model import silero_weights
from parastream.streaming.endpoint import End, EndpointConfig, Endpointer, EndpointEvent
from parastream.streaming.vad import FRAME, Vad

RECORDING = Path(__file__).parents[1] / "data" / "an4" / "cen8-fvap-b.flac"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad's files")


@pytest.fixture(scope="module")
def vad() -> Vad:
    return Vad(silero_weights.load())


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    assert rate == 16000
    return np.asarray(samples, np.float32)


def frames_of(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)


def alone(vad: Vad, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    state = vad.new_state()
    return np.concatenate([vad([frame], [state])[0] for frame in frames])


def endpoints(probabilities: NDArray[np.float32]) -> list[EndpointEvent]:
    endpointer = Endpointer(EndpointConfig())
    return [event for probability in probabilities.tolist() for event in endpointer.push(probability, 0.0)]


def test_a_batch_gives_each_what_it_gets_alone(vad: Vad, speech: NDArray[np.float32]) -> None:
    """Sessions that begin at different times, with any number of frames at a time, in batches that change."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, len(speech)).astype(np.float32)
    sources = [speech, speech[5000:], noise, speech + noise, np.zeros_like(speech), 0.1 * speech]
    streams = [frames_of(source)[:40] for source in sources]
    states = [vad.new_state() for _ in streams]
    heard: list[list[float]] = [[] for _ in streams]
    for step in range(40 + len(streams)):
        live = [i for i in rng.permutation(len(streams)) if i <= step and len(heard[i]) < 40]
        counts = rng.integers(0, 6, len(live))
        batch = [streams[i][len(heard[i]) :][:count].flatten() for i, count in zip(live, counts, strict=True)]
        for i, probabilities in zip(live, vad(batch, [states[i] for i in live]), strict=True):
            heard[i] += probabilities.tolist()
        for samples in batch:
            samples[:] = np.nan  # the caller's arrays are not kept
    for stream, together in zip(streams, heard, strict=True):
        np.testing.assert_allclose(together, alone(vad, stream), atol=1e-4)


@pytest.mark.parametrize("size", [2, 3, 20, 68])
def test_grouped_frames_give_the_same_endpoints_as_one_at_a_time(
    vad: Vad, speech: NDArray[np.float32], size: int
) -> None:
    frames = frames_of(np.concatenate((speech, np.zeros(8000, np.float32), speech)))
    state = vad.new_state()
    groups = [vad([frames[start : start + size].ravel()], [state])[0] for start in range(0, len(frames), size)]
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    grouped, single = np.concatenate(groups), alone(vad, frames)
    np.testing.assert_allclose(grouped, single, atol=1e-4)
    assert endpoints(grouped) == endpoints(single)
    assert any(isinstance(event, End) for event in endpoints(single))


def test_tells_speech_from_noise(vad: Vad, speech: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(1)
    second = 16000
    for level in (0.0, 0.001, 0.1):
        noise = rng.normal(0, level, 5 * second).astype(np.float32)
        assert alone(vad, frames_of(noise)).max() < 0.3
    quiet = np.zeros(second, np.float32)
    around = np.concatenate((quiet, speech, quiet))
    around += rng.normal(0, 0.001, len(around)).astype(np.float32)
    probabilities = alone(vad, frames_of(around))
    before, after = second // FRAME, (second + len(speech)) // FRAME + 10
    assert probabilities[:before].max() < 0.3
    assert probabilities[after:].max() < 0.3
    assert (probabilities[before:after] > 0.9).mean() > 0.4


def test_no_frames(vad: Vad, speech: NDArray[np.float32]) -> None:
    assert vad([], []) == []
    states = [vad.new_state(), vad.new_state()]
    nothing = np.zeros(0, np.float32)
    (probabilities, none), (more, _) = vad([speech[:FRAME], nothing], states), vad([nothing, nothing], states)
    assert (len(probabilities), len(none), len(more)) == (1, 0, 0)
    np.testing.assert_array_equal(
        vad([speech[FRAME : 2 * FRAME]], states[:1])[0], alone(vad, frames_of(speech)[:2])[1:]
    )
