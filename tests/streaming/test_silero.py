"""The network against silero's ONNX file, frame by frame."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnxruntime
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.model import silero_weights
from parastream.model.errors import CheckpointError
from parastream.streaming.audio import LARGEST_SAMPLE
from parastream.streaming.gain import Gain
from parastream.streaming.silero import CONTEXT, FRAME, Silero
from parastream.streaming.vad import Vad

from ..conftest import SAMPLE

Float32 = NDArray[np.float32]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad's files")


@pytest.fixture(scope="module")
def vad() -> Vad:
    return Vad(silero_weights.load())


@pytest.fixture(scope="module")
def speech() -> Float32:
    samples, _ = soundfile.read(SAMPLE, dtype="float32")
    return np.asarray(samples[: len(samples) // FRAME * FRAME], np.float32)


@pytest.fixture(scope="module")
def reference() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors; it warns about unused initialisers in the file
    return onnxruntime.InferenceSession(str(silero_weights.find()), options, providers=["CPUExecutionProvider"])


def expected(reference: onnxruntime.InferenceSession, samples: Float32) -> Float32:
    """What ONNX Runtime makes of one frame after the other, each amplified with its context."""
    gain = Gain()
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(16000, np.int64)
    padded = np.concatenate((np.zeros(CONTEXT, np.float32), samples))
    probabilities = []
    for start in range(0, len(samples), FRAME):
        own = samples[start : start + FRAME]
        factor = np.float32(gain.push(float(np.sqrt(np.mean(own * own)))))
        frame = factor * padded[None, start : start + CONTEXT + FRAME]
        probability, state = reference.run(None, {"input": frame, "state": state, "sr": rate})
        probabilities.append(probability[0, 0])
    return np.array(probabilities, np.float32)


def test_equals_the_onnx_file_over_minutes(vad: Vad, reference: onnxruntime.InferenceSession, speech: Float32) -> None:
    """Speech, soft, clipped and in noise, silence and noise alone; differences must not add up in the LSTM.

    The network enlarges rounding: ONNX Runtime itself is up to 2e-5 off what float64 gives for this audio.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, len(speech)).astype(np.float32)
    kinds = [speech, np.zeros_like(speech), speech + noise, noise, 0.01 * speech, np.clip(20 * speech, -1, 1)]
    samples = np.concatenate([*kinds, *(kind[::-1] for kind in kinds)])
    (probabilities,) = vad([samples], [vad.new_state()])
    truth = expected(reference, samples)
    assert len(truth) > 4000
    assert 0.2 < (truth > 0.5).mean() < 0.8
    np.testing.assert_allclose(probabilities, truth, rtol=0, atol=1e-4)
    plain = len(speech) // FRAME
    np.testing.assert_allclose(probabilities[:plain], truth[:plain], rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [LARGEST_SAMPLE, 1000.0, 1.0, 1e-20, 1e-42])
def test_extreme_audio_gives_probabilities_and_leaves_no_trace(
    vad: Vad, reference: onnxruntime.InferenceSession, speech: Float32, level: float
) -> None:
    """Constant, at the highest frequency, as noise and as a single click; then speech."""
    rng = np.random.default_rng(1)
    ones = np.ones(20 * FRAME)
    kinds = [ones, np.cos(np.pi * np.arange(20 * FRAME)), rng.uniform(-1, 1, 20 * FRAME), np.eye(1, 20 * FRAME)[0]]
    extreme = np.concatenate([level * kind for kind in kinds]).astype(np.float32)
    (probabilities,) = vad([np.concatenate((extreme, speech))], [vad.new_state()])
    truth = expected(reference, np.concatenate((extreme, speech)))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    # Of such levels, rounding alone is loud.
    np.testing.assert_allclose(probabilities[:80], truth[:80], rtol=0, atol=1e-3)
    np.testing.assert_allclose(probabilities[-200:], truth[-200:], rtol=0, atol=1e-5)


def test_a_spectrum_of_another_kind_is_refused() -> None:
    """What is not used of the file still has to be what is used in its place."""
    name = "model.stft.forward_basis_buffer"
    weights = silero_weights.load()
    basis = weights[name].copy()
    basis[40] = 0
    with pytest.raises(CheckpointError, match="not a Fourier transform"):
        Silero({**weights, name: basis})
