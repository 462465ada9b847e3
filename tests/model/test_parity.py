"""Every stage against FunASR's own numbers: full context, a padded batch, and ten ways to stream.

Tolerances are those at which FunASR's float32 results themselves are meaningful; token ids are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.frontend import Frontend
from parastream.model.graphs.paraformer import GraphParaformer
from parastream.model.paraformer import Paraformer

from ..reference import recipe
from ..reference.driver import (
    FOLDER,
    SHORTEST_FINAL,
    Stages,
    frontend,
    graphs,
    network,
    padded_batch,
    pieces,
    reference_features,
    stream,
    whole,
    whole_in_graphs,
)
from ..reference.gpu import as_on_gpu

Float32 = NDArray[np.float32]
MODELS = list(recipe.SIZES)
COMPUTES = ["mlx", "mlx on a GPU", "graphs"]
TOLERANCES = {
    "features": 1e-3,
    "encoded": 1e-4,
    "alpha": 2e-5,
    "residue": 2e-4,  # a sum of up to a hundred weights
    "embeddings": 5e-4,
    "logits": 5e-3,
}
"""Largest differences allowed."""


def assert_close(found: NDArray[np.floating], expected: NDArray[np.floating], stage: str) -> None:
    """Same shapes, and nowhere further apart than the stage's tolerance."""
    assert found.shape == expected.shape, stage
    np.testing.assert_allclose(found, expected, atol=TOLERANCES[stage], rtol=0, err_msg=stage)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Frontend:
    return frontend(tmp_path_factory.mktemp("cmvn"))


@pytest.fixture
def compute(request: pytest.FixtureRequest) -> Iterator[str]:
    with as_on_gpu() if request.param == "mlx on a GPU" else nullcontext():
        yield request.param


@pytest.fixture(scope="module")
def wave() -> Float32:
    return recipe.waveform()


@pytest.mark.parametrize("samples", [257, 399, 400, 559, 560, 1200, 4321, 29300, 40320, 60480, 96000])
def test_features_of_a_whole_utterance(front: Frontend, wave: Float32, samples: int) -> None:
    assert_close(front(wave[:samples]), reference_features(f"whole_{samples}"), "features")


def log_softmax(logits: Float32) -> Float32:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


@pytest.mark.parametrize("compute", COMPUTES, indirect=True)
@pytest.mark.parametrize("name", MODELS)
def test_full_context(front: Frontend, wave: Float32, name: str, compute: str) -> None:
    model: Paraformer | GraphParaformer
    expected, rows = dict(np.load(FOLDER / name / "offline.npz")), front(wave)
    if compute != "graphs":
        model = network(name, None)
        found = whole(model, [rows])
    else:
        model = graphs(name, None)
        found = whole_in_graphs(model, rows)
        expected["logits"] = log_softmax(expected["logits"])
    for stage in ("encoded", "alpha", "embeddings", "logits"):
        assert_close(found[stage], expected[stage], stage)
    assert found["fires"].tolist() == expected["fires"].tolist()
    fires = np.flatnonzero(expected["peaks"][0] >= 1)
    assert found["fire_rows"].tolist() == np.minimum(fires, len(rows) - 1).tolist()  # the tail has no row
    (tokens,) = model.transcribe([rows])
    assert tokens.ids.tolist() == expected["logits"][0].argmax(-1).tolist()
    probabilities = np.exp(expected["logits"][0] - expected["logits"][0].max(-1, keepdims=True))
    np.testing.assert_allclose(tokens.confidences, 1 / probabilities.sum(-1), atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_padded_batch(front: Frontend, wave: Float32, name: str) -> None:
    model = network(name, None)
    rows = [front(wave), front(wave[: recipe.SECOND])]
    found, expected = padded_batch(model, rows, dict(np.load(FOLDER / name / "batch.npz")))
    for stage in ("encoded", "alpha", "embeddings", "logits"):
        assert_close(found[stage], expected[stage], stage)
    assert len(found["alpha"]) == len(rows[0]) + len(rows[1]) - 1
    assert found["logits"].argmax(-1).tolist() == expected["logits"].argmax(-1).tolist()
    (tokens, _) = model.transcribe(rows)
    assert tokens.ids.tolist() == expected["logits"][: len(tokens)].argmax(-1).tolist()


@pytest.mark.parametrize("name", MODELS)
def test_graphs_give_utterances_in_a_batch_what_mlx_gives_them(front: Frontend, wave: Float32, name: str) -> None:
    rows = [front(wave[:n]) for n in (96000, 1200, recipe.SECOND, 0, 29300)]
    for ours, theirs in zip(graphs(name, None).transcribe(rows), network(name, None).transcribe(rows), strict=True):
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert ours.rows.tolist() == theirs.rows.tolist()
        np.testing.assert_allclose(ours.confidences, theirs.confidences, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_batch_gives_each_utterance_what_it_gets_alone(front: Frontend, wave: Float32, name: str) -> None:
    model = network(name, None)
    rows = [front(wave[:n]) for n in (96000, 1200, recipe.SECOND, 0, 29300)]
    for together, one in zip(model.transcribe(rows), rows, strict=True):
        (alone,) = model.transcribe([one])
        assert together.ids.tolist() == alone.ids.tolist()
        assert together.rows.tolist() == alone.rows.tolist()
        np.testing.assert_allclose(together.confidences, alone.confidences, atol=1e-4)


def fire_rows(expected: Stages, variant: recipe.Variant) -> list[int]:
    """Rows of the utterance in which FunASR's weights complete a token, added up one by one."""
    left, hop, look_ahead = variant.chunk
    found, gathered, fed, start = [], 0.0, 0, 0
    for number, length in enumerate(expected["rows"]):
        last = number == len(expected["rows"]) - 1
        first_row = fed - left - look_ahead
        for place in range(left, length if last else left + hop):
            gathered += expected["alpha"][start + place]
            if gathered >= 1:
                gathered -= 1
                found.append(max(0, first_row + place))
        fed += length - left - look_ahead
        start += length
    return [*found, fed - 1] if gathered + 0.45 >= 1 else found


@pytest.mark.parametrize("compute", COMPUTES, indirect=True)
@pytest.mark.parametrize("variant", list(recipe.VARIANTS))
@pytest.mark.parametrize("name", MODELS)
def test_streaming(front: Frontend, wave: Float32, name: str, variant: str, compute: str) -> None:
    setting = recipe.VARIANTS[variant]
    found = stream((graphs if compute == "graphs" else network)(name, setting), setting, front, wave)
    expected = dict(np.load(FOLDER / name / f"stream_{variant}.npz"))
    if compute == "graphs":
        expected["logits"] = log_softmax(expected["logits"])
    expected["features"] = reference_features(f"stream_{variant}")
    for stage in TOLERANCES:
        assert_close(found[stage], expected[stage], stage)
    begun = found["held"] * found["residue"][:, None]  # the mean of next to nothing says nothing
    assert_close(begun, expected["held"] * expected["residue"][:, None], "embeddings")
    for stage in ("rows", "fires", "tokens", "ids"):
        assert found[stage].tolist() == expected[stage].tolist(), stage
    assert found["fire_rows"].tolist() == fire_rows(expected, recipe.VARIANTS[variant])


def test_the_last_samples_count(front: Frontend, wave: Float32) -> None:
    # FunASR drops a remainder of fewer than 960 samples and what its frontend still holds: a row is lost.
    samples = wave[: recipe.VARIANTS["tail500"].samples]
    dropped = len(reference_features("stream_tail500"))

    def heard(samples: Float32) -> Float32:
        state = front.new_state()
        return np.concatenate([front.step(p, state, final=last) for _, p, last in pieces(samples, 9600, 9600)])

    rest = len(samples) % 9600
    assert 0 < rest < SHORTEST_FINAL
    rows = heard(samples)
    assert len(rows) == dropped + 1
    np.testing.assert_array_equal(rows, front(samples))
    other = heard(np.concatenate([samples[:-rest], -samples[-rest:][::-1]]))
    np.testing.assert_array_equal(rows[: dropped - 1], other[: dropped - 1])
    assert np.abs(rows[dropped] - other[dropped]).max() > 0.1
