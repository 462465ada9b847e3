"""The simulation of many machines loses nobody by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal

from benchmarks.scaling import Cluster, Plan, _level, simulate

DOCUMENTS = Path(__file__).parents[2] / "docs"


def test_the_costs_are_those_of_the_tables() -> None:
    scaling = (DOCUMENTS / "scaling.md").read_text("utf-8")
    plan = Plan(1_000_000, spare=0.2)
    assert f"| **{plan.engine_streams}** |" in (DOCUMENTS / "benchmarks.md").read_text("utf-8")
    assert f"| {plan.engine_streams} streams |" in scaling
    assert f"; {plan.message_cost * 1e6:.0f} µs with uvloop |" in scaling
    assert f"serves {plan.places:,} streams" in scaling
    assert f"serve {plan.engines * plan.engine_streams:,}." in " ".join(scaling.split())
    cheaper = replace(plan, message_cost=plan.message_cost / 2)
    assert f"{cheaper.machines} machines instead of {plan.machines}" in scaling
    derived, measured = scaling.split("Machines with one H200")
    servers = replace(plan, engines=14, engine_streams=143, front_load=14.0)
    assert f"| 2,000 streams, {servers.engine_streams} each |" in scaling
    for table, own, count in ((derived, plan, 4), (measured, servers, 3)):
        rows = re.findall(r"^\| ([\d,]+) \|(?: 10 or)? (\d+) % \| (\d+) \|", table, re.MULTILINE)
        assert len(rows) == count
        for streams, spare, machines in rows:
            told = replace(own, streams=int(streams.replace(",", "")), spare=int(spare) / 100)
            assert told.machines == int(machines)


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
