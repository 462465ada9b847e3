"""How a GPU is given its work, tried out on whatever device there is: fewer, larger pieces; the same results."""

from __future__ import annotations

from collections.abc import Generator

import mlx.core as mx
import numpy as np
import pytest
from parastream.model import encoder
from parastream.model.lanes import Lanes

from ..reference import recipe
from ..reference.driver import network


def test_memories_copied_at_once_are_those_copied_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    mx.random.seed(3)
    states = [
        encoder.EncoderState(np.zeros((0, 0), np.float32), mx.random.normal((3, 4, rows, 8))) for rows in (20, 0, 12)
    ]
    by_form = []
    for on_cpu in (True, False):
        monkeypatch.setattr(encoder, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        by_form.append([np.array(layer) for layer in encoder._memories(states, 20)])
    assert [layer.shape for layer in by_form[0]] == [(3, 4, 20, 8)] * 3
    np.testing.assert_array_equal(by_form[0], by_form[1])
    np.testing.assert_array_equal(by_form[0][1][2, :, :12], np.array(states[2].memory[1]))


@pytest.mark.parametrize("every", [4, 1000])
def test_steps_handed_over_together_hear_the_same(every: int) -> None:
    features = np.random.default_rng(4).standard_normal((3, 60, 560)).astype(np.float32)
    heard = []
    for steps in (1, every):
        model = network("tiny_d2", recipe.VARIANTS["base"])
        model._lanes._every = steps
        states = [model.new_state() for _ in features]
        windows = [model.step([*features[:, k : k + 10]], states, [False] * 3) for k in range(0, 60, 10)]
        heard.append(([[tokens.ids.tolist() for tokens in window] for window in windows], states))
    assert sum(len(ids) for window in heard[0][0] for ids in window) > 3
    assert heard[0][0] == heard[1][0]
    for one, other in zip(heard[0][1], heard[1][1], strict=True):
        np.testing.assert_array_equal(np.array(one.encoder.memory), np.array(other.encoder.memory))
        np.testing.assert_array_equal(np.array(one.decoder.memory), np.array(other.decoder.memory))


def test_what_was_not_handed_over_yet_is_when_the_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[int] = []
    monkeypatch.setattr(mx, "async_eval", lambda arrays: handed.append(len(arrays)))
    lanes = Lanes()
    lanes._every = 3

    def work() -> Generator[object, None, str]:
        for number in range(7):
            yield mx.array(number)
        return "done"

    assert lanes.run([work()]) == ["done"]
    assert handed == [3, 3, 1]
