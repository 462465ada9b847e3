"""Linear layers give the same numbers in every layout."""

from __future__ import annotations

from collections.abc import Generator

import mlx.core as mx
import numpy as np
import pytest
from parastream.model import dense
from parastream.model.dense import Dense
from parastream.model.encoder import FeedForward
from parastream.model.lanes import Lanes, LaneWork
from parastream.model.layers import FSMN, LayerNorm


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
    x, residual = mx.random.normal((3, length, inputs)), mx.random.normal((3, length, outputs))
    wanted = np.array(expected(made, x))
    made.pack()
    np.testing.assert_allclose(np.array(made(x)), wanted, atol=1e-4)
    rows = made(x.reshape(3 * length, inputs))
    np.testing.assert_allclose(np.array(rows), wanted.reshape(3 * length, outputs), atol=1e-4)
    in_heads = wanted.reshape(3, length, parts, -1).transpose(0, 2, 1, 3)
    if outputs % 32 == 0 or parts > 1:
        np.testing.assert_allclose(np.array(made.heads(x, 3)), in_heads, atol=1e-4)
        np.testing.assert_allclose(np.array(made.add_to(residual, x)), np.array(residual) + wanted, atol=1e-4)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("hidden", [64, 1024], ids=["one piece", "two pieces"])
def test_a_feed_forward_part_is_two_layers_with_relu(hidden: int) -> None:
    part = FeedForward(64, hidden)
    part.w_1.bias, part.w_2.bias = mx.random.normal((hidden,)), mx.random.normal((64,))
    x, residual = mx.random.normal((14, 64)), mx.random.normal((14, 64))
    wanted = residual + expected(part.w_2, mx.maximum(expected(part.w_1, x), 0))
    mx.eval(wanted)
    for _ in range(2):  # as it was made, and packed
        np.testing.assert_allclose(np.array(part(x, residual)), np.array(wanted), atol=1e-3)
        part.pack()


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
    def work(steps: int) -> LaneWork[int]:
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
