"""Linear layers give the same numbers in every layout."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
from parastream.model import dense
from parastream.model.dense import Dense
from parastream.model.lanes import Lanes, Work
from parastream.model.layers import FSMN, LayerNorm

import mlx.core as mx


@pytest.fixture(params=[True, False], ids=["tiles", "rows"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "tiles_are_faster", lambda: request.param)


def layer(inputs: int, outputs: int, *, parts: int = 1) -> Dense:
    made = Dense(inputs, outputs, parts=parts)
    made.bias = mx.random.normal((outputs,))
    return made


def expected(made: Dense, x: mx.array) -> mx.array:
    return x @ made.weight.T + made.bias


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize(
    ("inputs", "outputs", "parts"),
    [(64, 96, 1), (560, 384, 12), (1024, 64, 1), (64, 50, 1), (64, 24, 12)],
    ids=["tiles fit", "heads", "inputs in two pieces", "outputs beyond the last tile", "heads smaller than a tile"],
)
@pytest.mark.parametrize("length", [1, 15, 101], ids="{} rows".format)
def test_packing_changes_no_value(inputs: int, outputs: int, parts: int, length: int) -> None:
    made = layer(inputs, outputs, parts=parts)
    x = mx.random.normal((3, length, inputs))
    wanted = np.array(expected(made, x))
    made.pack()
    y = made(x)
    assert y.shape[:3] == (3, length, parts)
    np.testing.assert_allclose(np.array(made.joined(y)), wanted, atol=1e-4)


@pytest.mark.usefixtures("layout")
def test_a_layer_takes_what_another_gave_without_joining_it() -> None:
    first, second, x = layer(64, 1024), layer(1024, 64), mx.random.normal((2, 7, 64))
    wanted = np.array(x + expected(second, expected(first, x)))
    first.pack()
    second.pack()
    hidden = second.pieces(first(x)) + second.pieces(first.offset[None, None])
    y = second.add_to(x, second.multiply(hidden.reshape(*hidden.shape[:3], -1)))
    np.testing.assert_allclose(np.array(y), wanted, atol=1e-3)


def test_a_norm_hands_over_its_scale_and_shift() -> None:
    norm, behind, x = LayerNorm(64), layer(64, 32), mx.random.normal((2, 5, 64)) * 3 + 1
    norm.weight, norm.bias = mx.random.normal((64,)), mx.random.normal((64,))
    wanted = np.array(expected(behind, norm(x)))
    norm.hand_over(behind)
    np.testing.assert_allclose(np.array(expected(behind, norm(x))), wanted, atol=1e-4)
    assert not np.array(norm(mx.zeros((1, 1, 64)))).any()


@pytest.mark.parametrize("length", [3, 15, 16, 17, 60], ids="{} rows".format)
def test_a_filter_is_a_grouped_convolution(length: int) -> None:
    fsmn = FSMN(8, 11)
    fsmn.weight = mx.random.normal((8, 11, 1))
    x = mx.random.normal((2, length, 8))
    padded = mx.pad(x, [(0, 0), (5, 5), (0, 0)])
    wanted = np.array(mx.conv1d(padded, fsmn.weight, groups=8) + x)
    np.testing.assert_allclose(np.array(fsmn(x, 5, 5, residual=True)), wanted, atol=1e-5)


def test_lanes_return_each_work_its_own_result() -> None:
    def work(steps: int) -> Work[int]:
        total = mx.zeros(())
        for _ in range(steps):
            total = total + 1
            yield total
        return int(np.array(total))

    lanes = Lanes()
    shares = lanes.share(5)
    assert [i for share in shares for i in share] == list(range(5))
    assert len(shares) == min(5, len(lanes))
    assert lanes.share(0) == []
    steps = [3, 1][: len(lanes)]
    assert lanes.run([work(n) for n in steps]) == steps
    assert lanes.run([]) == []


def test_an_error_in_one_lane_reaches_the_caller() -> None:
    def broken() -> Generator[object, None, int]:
        yield mx.zeros(())
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Lanes().run([broken()])
