"""Paraformer as graphs: what holds for them alone. Parity is compared in `tests/model/test_parity.py`."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import SpeechModel, catalogue, checkpoint
from parastream.model.computing import Computing
from parastream.model.directory import ModelDirectory
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.paraformer import GraphParaformer
from parastream.model.tokens import Tokens

from ...reference import recipe
from ...reference.driver import graphs

Float32 = NDArray[np.float32]
BASE = recipe.VARIANTS["base"]
BOTH: list[Arithmetic] = ["float32", "int8"]


@pytest.fixture(scope="module")
def model() -> GraphParaformer:
    return graphs("tiny_d2", BASE)


def rows(seed: int, count: int = 10) -> Float32:
    return np.random.default_rng(seed).standard_normal((count, 560)).astype(np.float32)


def assert_equal(one: Tokens, other: Tokens) -> None:
    for name in ("ids", "confidences", "rows"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("arithmetic", BOTH)
def test_an_utterance_has_the_same_bits_alone_and_in_any_batch(arithmetic: Arithmetic) -> None:
    model = graphs("tiny_d2", BASE, arithmetic)
    features = [rows(seed, length) for seed, length in enumerate([60, 1, 23, 0, 44, 100, 3])]
    together = model.transcribe(features)
    assert sum(map(len, together)) > 20
    for utterance, tokens in zip(features, together, strict=True):
        assert_equal(model.transcribe([utterance])[0], tokens)


def test_the_embedded_model_in_8_bits_hears_about_what_it_hears_in_float32(
    speech: SpeechModel, sample: NDArray[np.int16]
) -> None:
    directory = ModelDirectory(catalogue.resolve("asr-small-en"))
    in_bytes = checkpoint.load_network(speech.config, directory, Computing("graphs", "int8"))
    assert in_bytes.size == speech.parameters
    samples: Float32 = np.divide(sample, 32768, dtype=np.float32)
    features = [speech.frontend(part) for part in np.array_split(samples, 3)]
    for found, expected in zip(in_bytes.transcribe(features), speech.network.transcribe(features), strict=True):
        assert found.ids.tolist() == expected.ids.tolist()
        assert 0 < np.abs(found.confidences - expected.confidences).max() < 0.1


def test_windows_that_fail_can_be_computed_again(model: GraphParaformer, monkeypatch: pytest.MonkeyPatch) -> None:
    def windows(network: GraphParaformer, *, fail: bool) -> list[Tokens]:
        states, heard = [network.new_state() for _ in range(3)], list[Tokens]()
        for turn in range(6):
            features = [rows(10 * turn + number) for number in range(3)]
            if fail:
                copies = [state.copy() for state in states]
                with monkeypatch.context() as context:
                    context.setattr(network._encoder, "integrate", lambda *_: 1 / 0)
                    with pytest.raises(ZeroDivisionError):
                        network.step(features, copies, [False] * 3)
            copies = [state.copy() for state in states]
            heard += network.step(features, copies, [False] * 3)
            states = copies
        return heard

    for one, other in zip(windows(model, fail=True), windows(model, fail=False), strict=True):
        assert_equal(one, other)


def test_a_place_in_memory_is_free_again_when_nobody_refers_to_it(model: GraphParaformer) -> None:
    gc.collect()
    free = sorted(model._pool.free)
    states = [model.new_state() for _ in range(3)]
    copies = [state.copy() for state in states]
    assert len({state.slot.index for state in states}) == 3
    assert len(model._pool.free) == len(free) - 3
    del states
    assert len(model._pool.free) == len(free) - 3
    del copies
    assert sorted(model._pool.free) == free


def test_more_utterances_than_there_is_memory_for_make_room_and_lose_nothing() -> None:
    model = graphs("tiny_d2", BASE)
    alone = model.new_state()
    expected = [model.step([rows(turn)], [alone], [False])[0] for turn in range(4)]
    slots = len(model._pool.free) + 1
    first = model.new_state()
    found = [model.step([rows(turn)], [first], [False])[0] for turn in range(2)]
    others = [model.new_state() for _ in range(slots)]
    assert len(model._pool.free) > 0
    for turn in range(2, 4):
        found.append(model.step([rows(turn), *(rows(50) for _ in others)], [first, *others], [False] * (slots + 1))[0])
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)


def test_an_utterance_begins_with_nothing_in_its_place(model: GraphParaformer) -> None:
    gc.collect()

    def heard() -> list[Any]:
        state = model.new_state()
        return [model.step([rows(turn)], [state], [False])[0].confidences.tolist() for turn in range(3)]

    before = heard()
    for arrays in model._pool.arrays.values():
        arrays[...] = np.nan
    assert heard() == before
