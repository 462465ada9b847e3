"""How a GPU is given its work, tried out on whatever device there is: fewer, larger pieces; the same results."""

from __future__ import annotations

from collections.abc import Generator

import mlx.core as mx
import numpy as np
import pytest
from parastream.model.lanes import Lanes

from ..reference import recipe
from ..reference.driver import network, remembered


@pytest.mark.parametrize("every", [4, 1000])
def test_steps_handed_over_together_hear_the_same(every: int) -> None:
    features = np.random.default_rng(4).standard_normal((3, 60, 560)).astype(np.float32)
    heard = []
    for steps in (1, every):
        model = network("tiny_d2", recipe.VARIANTS["base"])
        model._lanes._every = steps
        states = [model.new_state() for _ in features]
        windows = [model.step([*features[:, k : k + 10]], states, [False] * 3) for k in range(0, 60, 10)]
        heard.append(([[tokens.ids.tolist() for tokens in window] for window in windows], states, model))
    assert sum(len(ids) for window in heard[0][0] for ids in window) > 3
    assert heard[0][0] == heard[1][0]
    for one, other in zip(heard[0][1], heard[1][1], strict=True):
        np.testing.assert_equal(remembered(heard[0][2], one), remembered(heard[1][2], other))


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
