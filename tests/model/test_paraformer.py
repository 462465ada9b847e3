"""Independent utterances in one batch, and the CIF integration against a loop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model import SpeechModel, encoder
from parastream.model.cif import Integrator
from parastream.model.config import ChunkSize, ModelConfig, PredictorConfig
from parastream.model.graphs.paraformer import GraphParaformer
from parastream.model.network import Network
from parastream.model.paraformer import Paraformer, embeddings
from parastream.model.tokens import Tokens

from ..reference import recipe
from ..reference.driver import graphs, network, remembered
from ..reference.gpu import as_on_gpu

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> Paraformer:
    return network("tiny_d2", recipe.VARIANTS["base"])


@pytest.fixture(scope="module", params=["mlx", "graphs"])
def either(request: pytest.FixtureRequest, model: Paraformer) -> Network:
    return model if request.param == "mlx" else graphs("tiny_d2", recipe.VARIANTS["base"])


def rows(seed: int, count: int) -> Float32:
    return np.random.default_rng(seed).standard_normal((count, 560)).astype(np.float32)


def windows(features: Float32, hop: int = 10) -> list[tuple[Float32, bool]]:
    """One hop of rows at a time; the last window may hold fewer, or none."""
    rest = len(features) % hop
    cuts = [(features[i : i + hop], False) for i in range(0, len(features) - rest, hop)]
    return [*cuts, (features[len(features) - rest :], True)]


def quiet(setting: recipe.Variant, form: Any) -> Network:
    """A network that finds no token in many windows."""
    if form not in ("mlx", "mlx on a GPU"):
        return graphs("tiny_d2", setting, form, added_bias=-2.0)
    model = network("tiny_d2", setting)
    model.predictor.cif_output.bias -= 2.0
    return model


@pytest.fixture
def form(request: pytest.FixtureRequest) -> Iterator[Any]:
    with as_on_gpu() if request.param == "mlx on a GPU" else nullcontext():
        yield request.param


@pytest.mark.parametrize("form", ["mlx", "mlx on a GPU", "float32", "int8"], indirect=True)
@pytest.mark.parametrize("variant", ["base", "c8", "lb0", "lbneg1", "c5_10_5"])
def test_utterances_in_any_phase_hear_in_a_batch_what_they_hear_alone(variant: str, form: Any) -> None:
    setting = recipe.VARIANTS[variant]
    model = quiet(setting, form)
    # Graphs give the same bits, but not where attention covers as many places as the longest utterance has.
    exact = form in ("float32", "int8") and variant != "lbneg1"
    lengths = [3, 10, 17, 30, 32, 41, 64, 75, 80, 0]
    utterances = [rows(seed, length) for seed, length in enumerate(lengths)]

    work = [windows(features, setting.chunk[1]) for features in utterances]
    expected = []
    for cuts in work:
        state = model.new_state()
        expected.append([model.step([window], [state], [last])[0] for window, last in cuts])

    states, heard = [model.new_state() for _ in utterances], [list[Tokens]() for _ in utterances]
    mixed = False
    for turn in range(40):  # utterance i begins in turn i
        active = [i for i in range(len(work)) if i <= turn and len(heard[i]) < len(work[i])]
        pieces = [work[i][len(heard[i])] for i in active]
        found = model.step([p for p, _ in pieces], [states[i] for i in active], [last for _, last in pieces])
        mixed |= len({len(tokens) for tokens in found}) > 2 and any(last for _, last in pieces)
        for i, tokens in zip(active, found, strict=True):
            heard[i].append(tokens)
    assert mixed
    for together, alone in zip(heard, expected, strict=True):
        for one, other in zip(together, alone, strict=True):
            assert one.ids.tolist() == other.ids.tolist()
            assert one.rows.tolist() == other.rows.tolist()
            np.testing.assert_allclose(one.confidences, other.confidences, atol=0 if exact else 1e-4, rtol=0)


def test_the_ring_remembers_the_last_rows(model: Paraformer) -> None:
    state = model.new_state()
    chunk = model._config.chunk
    first = model.encoder.layers[0]
    kept: list[NDArray[np.float32]] = []
    for window, last in windows(rows(5, 130))[:-1]:
        full = np.concatenate([state.overlap, model.encoder.embed(window, state.rows)])
        _, keys_values = first.step(mx.array(full), 1, None, None, None)
        kept.append(np.array(keys_values[0, :, : -chunk.look_ahead]))
        model.step([window], [state], [last])
    expected = np.concatenate(kept, axis=1)[:, -40:]
    held = remembered(model, state)[0].reshape(40, len(model.encoder.layers), *expected.shape[::2])
    by_layer = held[:, 0].swapaxes(0, 1)
    order = np.roll(np.arange(40), -state.head)
    np.testing.assert_allclose(by_layer[:, order], expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["base", "lb0", "lbneg1"])
def test_what_is_remembered_in_parts_is_the_same(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    for together in (1, 2, 50):
        monkeypatch.setattr(encoder, "_TOGETHER", together)
        model = network("tiny_d2", recipe.VARIANTS[variant])
        state = model.new_state()
        steps = [model.step([window], [state], [False])[0] for window, _ in windows(rows(6, 80))[:-1]]
        heard.append(([step.ids.tolist() for step in steps], [step.confidences.tolist() for step in steps]))
        assert len(model.encoder.memory_widths) == -(-len(model.encoder.layers) // together)
    assert sum(map(len, heard[0][0])) > 3
    assert heard[0] == heard[1] == heard[2]


def test_slices_give_the_whole(either: Network) -> None:
    features = [rows(1, 50), rows(2, 23)]
    work = either.transcribe_in_slices(features, layers=1)
    slices = 0
    while True:
        try:
            next(work)
            slices += 1
        except StopIteration as end:
            found = end.value
            break
    assert slices >= 3
    for cut, whole in zip(found, either.transcribe(features), strict=True):
        assert len(whole) > 0
        for name in ("ids", "confidences", "rows"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


def test_a_single_block_without_attention_takes_part_in_full_context_only() -> None:
    # FunASR leaves it out of streams, but not two of them (tiny_d2 has two).
    mx.random.seed(1)
    sizes = [replace(recipe.SIZES["tiny"], decoder_blocks=blocks) for blocks in (3, 2)]
    configs = [ModelConfig.from_dict(recipe.config(s, streaming=True), vocab_size=s.vocabulary) for s in sizes]
    one, none = Paraformer(configs[0]), Paraformer(configs[1])
    weights: Any = tree_flatten(one.parameters())
    none.load_weights([(name, value) for name, value in weights if "fsmn_layers" not in name])
    arrays = {name: np.array(value) for name, value in weights}
    as_graphs = [GraphParaformer(config, arrays.__getitem__, "float32", one.size) for config in configs]
    window = rows(3, 10)
    models: list[Network] = [one, none, *as_graphs]
    streamed = [model.step([window], [model.new_state()], [False])[0].confidences for model in models]
    assert len(streamed[0]) > 0
    np.testing.assert_array_equal(streamed[0], streamed[1])
    np.testing.assert_array_equal(streamed[2], streamed[3])
    np.testing.assert_allclose(streamed[2], streamed[0], atol=1e-4)
    whole = [model.transcribe([window])[0].confidences for model in models]
    assert np.abs(whole[0] - whole[1]).max() > 1e-4
    np.testing.assert_allclose(whole[2], whole[0], atol=1e-4)
    np.testing.assert_allclose(whole[3], whole[1], atol=1e-4)


def test_nothing_in_nothing_out(either: Network) -> None:
    none = np.zeros((0, 560), np.float32)
    assert [len(tokens) for tokens in either.transcribe([none, none])] == [0, 0]
    # FunASR decodes the zero rows of a first window and may hear a token in them.
    assert len(either.step([none], [either.new_state()], [True])[0]) == 0
    assert either.step([], [], []) == []
    assert either.transcribe([]) == []


def test_silence_has_no_words(speech: SpeechModel) -> None:
    silence = speech.frontend(np.zeros(32000, np.float32))
    state = speech.network.new_state()
    heard = speech.network.step([silence[:10]], [state], [False])[0]
    heard += speech.network.step([silence[10:20]], [state], [True])[0]
    assert speech.tokenizer.decode([int(i) for i in heard.ids]) == ""


def test_states_of_two_utterances_do_not_touch(model: Paraformer) -> None:
    one, other = model.new_state(), model.new_state()
    model.step([rows(2, 10)], [other], [False])
    before = remembered(model, other)
    model.step([rows(1, 10)], [one], [False])
    assert any(part.any() for part in before)
    np.testing.assert_equal(remembered(model, other), before)
    assert other.rows == 10


def integrate_one_by_one(rows: Float32, tail: float) -> tuple[list[Float32], list[int]]:
    """CIF as the paper writes it: one row after the other, in float32. A row's first value is its weight."""
    one, end = np.float32(1), np.zeros((1, rows.shape[1]), np.float32)
    gathered, frame = np.float32(0), end[0]
    tokens, fires = [], []
    weights = np.append(rows[:, 0], np.float32(tail))
    for place, (weight, row) in enumerate(zip(weights, np.concatenate([rows, end]), strict=True)):
        if gathered + weight < one:
            gathered, frame = gathered + weight, frame + weight * row
        else:
            tokens.append(frame + (one - gathered) * row)
            fires.append(min(place, len(rows) - 1))
            gathered = gathered + weight - one
            frame = gathered * row
    return tokens, fires


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 0.9990234375, width=32), min_size=1, max_size=70))
def test_integration_equals_the_loop_whole_and_in_windows(weights: list[float]) -> None:
    total = np.cumsum(np.array([*weights, 0.45]))
    assume((np.abs(total - np.round(total)) > 1e-5).all())  # a tie may fall either way in float32
    hidden = np.random.default_rng(len(weights)).standard_normal((len(weights), 4)).astype(np.float32)
    hidden[:, 0] = weights
    tokens, fires = integrate_one_by_one(hidden, 0.45)
    expected = np.array(tokens, np.float32).reshape(-1, 4)
    integrator = Integrator(PredictorConfig(size=4))

    fired = integrator.fire(hidden[None, :, 0], np.array([len(hidden)]))
    assert fired.rows[0].tolist() == fires
    assert fired.counts.tolist() == [len(tokens)]
    found = np.array(embeddings(fired, mx.array(hidden)[None])[0, :-1])
    np.testing.assert_allclose(found[: len(tokens)], expected, atol=1e-4)
    assert not found[len(tokens) :].any()  # padding, on a GPU

    chunk, state = ChunkSize(0, 10, 5), integrator.new_state()
    overlap, heard, rows, first = np.zeros((5, 4), np.float32), [], list[int](), -5
    for fresh, last in windows(hidden):
        window = np.concatenate([overlap, fresh])
        fired = integrator.fire_in_window(window[None, :, 0], np.array([len(window)]), [state], [last], chunk)
        found = np.array(embeddings(fired, mx.array(np.concatenate([state.hidden[None], window]))[None])[0])
        heard.append(found[: fired.counts[0]])
        state.hidden = found[-1]
        rows += (fired.rows[0] + first).tolist()
        overlap, first = window[len(window) - 5 :], first + len(fresh)
    assert rows == fires
    np.testing.assert_allclose(np.concatenate(heard), expected, atol=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="MLX compiles for a CPU with g++")
def test_compiled_layers_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # there MLX keeps what it has compiled
    found: list[list[Tokens]] = []
    for compiles in (False, True):
        with as_on_gpu(compiles=compiles):
            model = network("tiny_d2", recipe.VARIANTS["base"])
            states, heard = [model.new_state() for _ in range(3)], list[Tokens]()
            for start in (0, 10, 20):
                last = [start == 20] * 3
                heard += model.step([rows(k, 30)[start : start + 10] for k in range(3)], states, last)
            found.append(heard + model.transcribe([rows(k, 20 + 9 * k) for k in range(3)]))
    assert sum(map(len, found[0])) > 20
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled.ids, plain.ids)
        np.testing.assert_allclose(compiled.confidences, plain.confidences, atol=1e-5)


def test_what_is_planned_is_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA each new shape of fused attention costs 50 ms."""
    with as_on_gpu():
        model = network("tiny_d2", recipe.VARIANTS["base"])
        shapes = set[tuple[tuple[int, ...], ...]]()
        original = mx.fast.scaled_dot_product_attention

        def noted(q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array) -> mx.array:
            shapes.add((q.shape, k.shape, v.shape, mask.shape))
            return original(q, k, v, scale=scale, mask=mask)

        monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", noted)
        monkeypatch.setattr(Paraformer, "lanes", 8)
        model.plan()
        planned = set(shapes)
        for count in (1, 3, 31):
            states = [model.new_state() for _ in range(count)]
            for start in (0, 10, 20):
                model.step([rows(k, 30)[start : start + 10] for k in range(count)], states, [start == 20] * count)
            model.transcribe([rows(k, 20 + 3 * k) for k in range(count)])
        assert shapes == planned
