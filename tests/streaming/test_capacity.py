"""What work costs, and how many sessions a machine can serve."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.streaming import Models
from parastream.streaming.capacity import LATE, Capacity, Cost, Longest, Utilisation, calibrate, has_room
from parastream.streaming.runner import Runner

SECONDS = st.floats(1e-4, 1.0)


def capacity(*, windows: float = 0.006, passes: float = 0.0002) -> Capacity:
    """Of a machine on which windows (10 ms for a batch, and so much for each) and rows of passes cost what is given."""
    return Capacity(
        hop=0.6,
        row=0.06,
        windows=Cost((1, 0.01 + windows), (16, 0.01 + 16 * windows)),
        passes=Cost((1, passes), (100, 100 * passes)),
        better=Cost((1, 0.0)),
        refinements=Cost((1, 0.0)),
        frames=Cost((1, 0.0001), (16, 0.0003)),
        marks=Cost((1, 0.001)),
        turns=Cost((1, 0.001)),
    )


# --- costs -----------------------------------------------------------------------------------


def test_costs_are_straight_lines_between_and_beyond_what_was_measured() -> None:
    cost = Cost((1, 0.02), (4, 0.05), (16, 0.11))
    assert [cost.of(size) for size in (1, 2, 4, 10, 16, 32)] == pytest.approx([0.02, 0.03, 0.05, 0.08, 0.11, 0.19])
    assert cost.of(4, 3) == pytest.approx(0.15)
    assert cost.each == pytest.approx(0.005)
    assert Cost((1, 0.02)).of(3) == pytest.approx(0.06)


@given(SECONDS, SECONDS, SECONDS, st.floats(0, 200), st.floats(0, 200))
def test_more_work_never_costs_less_whatever_was_measured(
    one: float, four: float, sixteen: float, a: float, b: float
) -> None:
    cost = Cost((1, one), (4, four), (16, sixteen))
    low, high = sorted((a, b))
    assert 0 <= cost.of(low) <= cost.of(high) + 1e-12
    assert cost.of(1000) >= 400 * max(one, four, sixteen) / 16


@given(st.floats(0.2, 5.0))
def test_costs_follow_what_is_measured(slowness: float) -> None:
    cost = Cost((1, 0.02), (16, 0.11))
    usual = cost.of(4)
    for _ in range(3000):
        cost.observe(slowness * usual, 4)
    assert cost.of(4) == pytest.approx(slowness * usual, rel=0.01)
    assert cost.of(16) == pytest.approx(slowness * 0.11, rel=0.01)


def test_one_stalled_batch_changes_little() -> None:
    cost = Cost((1, 0.02), (16, 0.11))
    cost.observe(10.0, 1)
    assert 1 < cost.slowness < 1.02


def test_a_batch_that_failed_changes_nothing() -> None:
    """It is reported as having taken no time."""
    cost = Cost((1, 0.02), (16, 0.11))
    cost.observe(0.0, 16)
    assert cost.slowness == 1


# --- capacity --------------------------------------------------------------------------------


def test_capacity_is_what_fits_when_all_speak_all_the_time() -> None:
    costs = capacity()
    count = costs.sessions(0.85, 32)
    assert costs.utilisation(count, 32) <= 0.85 < costs.utilisation(count + 1, 32)
    # 10 ms for a window, 4 for passes and marks, about 2 for the rest; 50 for the batches of windows.
    assert 45 <= count <= 55


@given(st.floats(1e-4, 1.0), st.floats(1e-5, 1e-1), st.floats(0.01, 2.0))
def test_one_session_is_always_admitted_and_more_time_never_means_fewer(
    windows: float, passes: float, target: float
) -> None:
    costs = capacity(windows=windows, passes=passes)
    count = costs.sessions(target, 32)
    assert count >= 1
    assert costs.sessions(target * 1.5, 32) >= count
    assert costs.sessions(math.inf, 32) > 1000


def test_a_machine_that_becomes_slower_serves_fewer() -> None:
    costs = capacity()
    before = costs.sessions(0.85, 32)
    for _ in range(1000):
        costs.windows.observe(2 * costs.windows.of(16) / costs.windows.slowness, 16)
    assert before * 0.55 < costs.sessions(0.85, 32) < before * 0.8


def test_the_capacity_decides_once_windows_are_late() -> None:
    assert [has_room(sessions, 20, LATE + 0.01) for sessions in (0, 19, 20, 29)] == [True, True, False, False]
    assert [has_room(sessions, 20, LATE - 0.01) for sessions in (0, 20, 29, 30)] == [True, True, True, False]
    assert has_room(0, 1, 100.0)


def test_the_models_are_measured(models: Models) -> None:
    costs = calibrate(Runner(models))
    assert (costs.hop, costs.row) == (0.6, 0.06)
    for cost, size in ((costs.windows, 16), (costs.passes, 83), (costs.frames, 16), (costs.marks, 1)):
        assert cost.of(size) > 0
    assert costs.windows.of(16) >= costs.windows.of(1)


# --- figures of the last seconds -------------------------------------------------------------


def test_utilisation_is_the_share_of_time_spent_computing() -> None:
    share = Utilisation(0.0)
    for second in range(100):
        share.add(second, second + 0.25)
    assert share.at(100.0) == pytest.approx(0.25, abs=0.02)
    assert share.at(110.0) < 0.1
    share.add(110.0, 210.0)
    assert share.at(210.0) == pytest.approx(1.0, abs=0.001)


def test_the_longest_is_of_the_last_ten_to_twenty_seconds() -> None:
    longest = Longest(0.0)
    assert longest.at(0.0) == 0
    longest.add(3.0, 1.0)
    longest.add(2.0, 2.0)
    assert longest.at(9.0) == 3
    assert longest.at(11.0) == 3
    longest.add(1.0, 12.0)
    assert longest.at(22.0) == 1
    assert longest.at(60.0) == 0
