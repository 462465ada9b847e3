"""Candidates of positions: the best tokens are among them, and asking for them changes nothing else."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from parastream.model.lanes import finish
from parastream.model.lattice import Lattice
from parastream.model.layers import log_probabilities
from parastream.model.network import Network
from parastream.model.selection import CANDIDATES, Selection

from ..reference import recipe
from ..reference.driver import graphs, network

WANTED = np.array([5, 2], np.int32)


@pytest.fixture(scope="module", params=["mlx", "graphs"])
def model(request: pytest.FixtureRequest) -> Network:
    return (network if request.param == "mlx" else graphs)("tiny_d2", recipe.VARIANTS["base"])


def rows(seed: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((count, 560)).astype(np.float32)


def test_whole_utterances_have_a_lattice_where_it_is_wanted(model: Network) -> None:
    features = [rows(0, 40), rows(1, 25), rows(2, 0)]
    plain = model.transcribe(features)
    found = finish(model.transcribe_in_slices(features, layers=1, wanted=[WANTED, None, WANTED]))
    for tokens, other in zip(found, plain, strict=True):
        assert tokens.ids.tolist() == other.ids.tolist()
        assert tokens.confidences.tolist() == other.confidences.tolist()
        assert tokens.rows.tolist() == other.rows.tolist()
        assert other.lattice is None
    lattice = found[0].lattice
    assert lattice is not None
    assert len(lattice) == len(found[0]) > 0
    assert lattice.ids[:, 0].tolist() == found[0].ids.tolist()
    np.testing.assert_allclose(np.exp(lattice.log_probabilities[:, 0]), found[0].confidences, rtol=1e-5)
    assert lattice.rows.tolist() == found[0].rows.tolist()
    assert lattice.wanted_log_probabilities.shape == (len(lattice), 2)
    assert found[1].lattice is None
    assert found[2].lattice is None


def test_windows_have_a_lattice_where_it_is_wanted(model: Network) -> None:
    features = [rows(seed, 10) for seed in range(4)]
    plain = model.step(features, [model.new_state() for _ in features], [True] * 4)
    found = model.step(features, [model.new_state() for _ in features], [True] * 4, [None, WANTED, None, WANTED[:0]])
    assert [tokens.ids.tolist() for tokens in found] == [tokens.ids.tolist() for tokens in plain]
    assert [tokens.lattice is not None for tokens in found] == [False, True, False, True]
    for tokens in (found[1], found[3]):
        assert tokens.lattice is not None
        assert tokens.lattice.ids[:, 0].tolist() == tokens.ids.tolist()
        assert tokens.lattice.rows.tolist() == tokens.rows.tolist()


def test_a_device_chooses_what_numpy_chooses() -> None:
    logits = mx.array(np.random.default_rng(0).normal(0, 3, (2, 4, 100)).astype(np.float32))
    values = log_probabilities(logits)
    reference = np.array(values)
    counts, fired = np.array([4, 2]), [np.arange(4), np.arange(2)]
    wanted = [WANTED, np.array([99], np.int32)]
    selections = [
        Selection(values, mx, wanted, on_device=True),
        Selection(values, mx, wanted),
        Selection(reference, np, wanted),
    ]
    for selection in selections:
        for k, tokens in enumerate(selection.tokens(counts, fired)):
            lattice, own = tokens.lattice, reference[k, : counts[k]]
            assert isinstance(lattice, Lattice)
            assert lattice.ids.tolist() == np.argsort(-own)[:, :CANDIDATES].tolist()
            np.testing.assert_array_equal(lattice.log_probabilities, np.take_along_axis(own, lattice.ids, -1))
            np.testing.assert_array_equal(lattice.wanted_log_probabilities, own[:, wanted[k]])


@pytest.mark.parametrize("on_device", [False, True])
def test_a_small_vocabulary_is_offered_whole(on_device: bool) -> None:
    selection = Selection(mx.array([[[-3.0, -1.0, -2.0]]]), mx, [WANTED[:0]], on_device=on_device)
    (tokens,) = selection.tokens(np.array([1]), [np.zeros(1, int)])
    assert tokens.lattice is not None
    assert tokens.lattice.ids.tolist() == [[1, 2, 0]]
