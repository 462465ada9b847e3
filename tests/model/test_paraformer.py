"""Independent utterances in one batch, and the CIF integration against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.paraformer import Paraformer, Tokens
from parastream.model.predictor import _fixed, _integrate

import mlx.core as mx

from ..reference import recipe
from ..reference.driver import network

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> Paraformer:
    return network("tiny_d2", recipe.VARIANTS["base"])


def rows(seed: int, count: int) -> Float32:
    return np.random.default_rng(seed).standard_normal((count, 560)).astype(np.float32)


def windows(features: Float32) -> list[tuple[Float32, bool]]:
    """Ten rows at a time; the last window may hold fewer, or none."""
    cuts = [(features[i : i + 10], False) for i in range(0, len(features) - len(features) % 10, 10)]
    return [*cuts, (features[len(features) - len(features) % 10 :], True)]


def alone(model: Paraformer, features: Float32) -> Tokens:
    state, heard = model.new_state(), Tokens.none()
    for window, last in windows(features):
        heard += model.step([window], [state], [last])[0]
    return heard


def test_utterances_in_any_phase_hear_in_a_batch_what_they_hear_alone(model: Paraformer) -> None:
    lengths = [3, 10, 17, 30, 41, 64, 75, 80, 0]
    utterances = [rows(seed, length) for seed, length in enumerate(lengths)]
    work = [windows(features) for features in utterances]
    states = [model.new_state() for _ in utterances]
    heard = [Tokens.none() for _ in utterances]
    for turn in range(40):  # utterance i begins in turn i
        active = [i for i in range(len(work)) if i <= turn and work[i]]
        if not active:
            break
        pieces = [work[i].pop(0) for i in active]
        found = model.step([p for p, _ in pieces], [states[i] for i in active], [last for _, last in pieces])
        for i, tokens in zip(active, found, strict=True):
            heard[i] += tokens
    assert not any(work)
    for features, together in zip(utterances, heard, strict=True):
        expected = alone(model, features)
        assert together.ids.tolist() == expected.ids.tolist()
        assert together.rows.tolist() == expected.rows.tolist()
        np.testing.assert_allclose(together.confidences, expected.confidences, atol=1e-4)


def test_the_ring_remembers_the_last_rows(model: Paraformer) -> None:
    state = model.new_state()
    chunk = model._config.chunk
    first = model.encoder.layers[0]
    kept: list[NDArray[np.float32]] = []
    for window, last in windows(rows(5, 130))[:-1]:
        full = np.concatenate([state.encoder.overlap, model.encoder.embed(window, state.encoder.rows)])
        _, keys_values = first.step(mx.array(full)[None], None, None, None)
        kept.append(np.array(keys_values[0, : -chunk.look_ahead]))
        model.step([window], [state], [last])
    expected = np.concatenate(kept)[-40:]
    held = np.array(state.encoder.memory[0])
    order = np.roll(np.arange(40), -state.encoder.head)
    np.testing.assert_allclose(held[order], expected, atol=1e-5)


def test_slices_give_the_whole(model: Paraformer) -> None:
    features = [rows(1, 50), rows(2, 23)]
    work = model.transcribe_in_slices(features, layers=1)
    slices = 0
    while True:
        try:
            next(work)
            slices += 1
        except StopIteration as end:
            found = end.value
            break
    assert slices >= 3
    for cut, whole in zip(found, model.transcribe(features), strict=True):
        assert cut.ids.tolist() == whole.ids.tolist()


def test_nothing_in_nothing_out(model: Paraformer) -> None:
    none = np.zeros((0, 560), np.float32)
    assert [len(tokens) for tokens in model.transcribe([none, none])] == [0, 0]
    # FunASR decodes the zero rows of a first window and may hear a token in them.
    assert len(model.step([none], [model.new_state()], [True])[0]) == 0
    assert model.transcribe([]) == []


def test_silence_has_no_words(speech: SpeechModel) -> None:
    silence = speech.frontend(np.zeros(32000, np.float32))
    state = speech.network.new_state()
    heard = speech.network.step([silence[:10]], [state], [False])[0]
    heard += speech.network.step([silence[10:20]], [state], [True])[0]
    assert speech.tokenizer.decode([int(i) for i in heard.ids]) == ""


def test_states_of_two_utterances_do_not_touch(model: Paraformer) -> None:
    one, other = model.new_state(), model.new_state()
    before = np.array(other.encoder.memory)
    model.step([rows(1, 10)], [one], [False])
    np.testing.assert_array_equal(np.array(other.encoder.memory), before)
    assert other.encoder.rows == 0


def sequential(weights: list[float], hidden: Float32) -> tuple[list[Float32], list[int]]:
    """CIF as the paper writes it: one row after the other, in float32."""
    one = np.float32(1)
    gathered, frame = np.float32(0), np.zeros(hidden.shape[1], np.float32)
    tokens, fires = [], []
    for row, weight in enumerate(np.array(weights, np.float32)):
        if gathered + weight < one:
            gathered, frame = gathered + weight, frame + weight * hidden[row]
        else:
            tokens.append(frame + (one - gathered) * hidden[row])
            fires.append(row)
            gathered = gathered + weight - one
            frame = gathered * hidden[row]
    return tokens, fires


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 0.9990234375, width=32), min_size=1, max_size=60))
def test_fixed_point_integration_equals_the_loop(weights: list[float]) -> None:
    total = np.cumsum(np.array(weights, np.float64))
    assume((np.abs(total - np.round(total)) > 1e-5).all())  # a tie may fall either way in float32
    hidden = np.random.default_rng(len(weights)).standard_normal((len(weights), 4)).astype(np.float32)
    fixed = _fixed(mx.array(np.array([weights], np.float32)), np.ones((1, len(weights)), bool))
    fired, _ = _integrate(mx.array(hidden)[None], fixed)
    tokens, fires = sequential(weights, hidden)
    assert fired.rows[0].tolist() == fires
    assert fired.counts.tolist() == [len(tokens)]
    if tokens:
        np.testing.assert_allclose(np.array(fired.embeddings[0]), np.array(tokens), atol=1e-4)
