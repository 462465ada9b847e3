"""The simulation of many machines loses nobody by itself."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from benchmarks.scaling import Cluster, Plan, _level, simulate


def test_people_go_where_there_is_most_room() -> None:
    assert_array_equal(_level(np.array([5, 3, 0]), 4), [3, 1, 0])
    assert_array_equal(_level(np.array([5, 3, 0]), 8), [5, 3, 0])
    assert_array_equal(_level(np.array([2, 2, 2]), 1), [1, 0, 0])


def test_nobody_gets_lost() -> None:
    cluster = Cluster(Plan(100, engines=1, engine_streams=40, stay=1e12), seed=1)
    before = cluster.sessions.sum()
    cluster.waiting[0] = 200
    for _ in range(20):
        cluster.step()
    assert (cluster.sessions <= cluster.places).all()
    assert cluster.sessions.sum() + sum(cluster.waiting.values()) == before + 200 + cluster.outcome.arrivals
    assert cluster.waiting


def test_a_plan_with_room_to_spare_makes_nobody_wait_and_cuts_nobody_off() -> None:
    outcome = simulate(Plan(200, engines=1, engine_streams=50, stay=60, spare=0.5, updating=0.2))
    assert (outcome.machines, outcome.places) == (7, 50)
    assert outcome.waited == outcome.cut_by_update == 0
    assert outcome.cut_by_loss > 0
    assert outcome.after_loss_longest == 5
