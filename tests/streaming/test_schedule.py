"""Who goes first: bounds, fairness and progress, whatever waits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parastream.streaming.schedule import (
    BURST,
    PATIENCE,
    ROOM,
    Pace,
    Rank,
    Slice,
    Waiting,
    next_frames,
    next_passes,
    next_windows,
    rank,
    slice_budget,
    steps_per_piece,
)

NOW = 100.0
DUE = st.floats(NOW - 10, NOW + 10)
BUDGET = 0.05


@dataclass(frozen=True)
class Job:
    """Stands for any work of a session."""

    name: int = 0
    frames: int = 1
    rows: int = 1
    decided: bool = True
    better: bool = False
    refines: bool = False


# --- pace ------------------------------------------------------------------------------------


def urgent(pace: Pace, behind: float, now: float) -> bool:
    return Waiting(Job(), pace.due(behind)).urgent(now)


@given(st.lists(st.floats(0.0, BURST - 0.2), min_size=1, max_size=100))
def test_audio_at_real_time_pace_is_urgent(hold_ups: list[float]) -> None:
    """Also when the network holds it up now and then."""
    pace, now = Pace(NOW), NOW
    for number, hold_up in enumerate(hold_ups, 1):
        now = max(now, NOW + 0.1 * number + hold_up)
        pace.receive(0.1, now)
        assert urgent(pace, 0.0, now)
        assert pace.due(0.0) >= now


def test_audio_that_comes_when_it_was_spoken_is_due_then() -> None:
    pace = Pace(NOW)
    for number in range(1, 100):
        pace.receive(0.1, NOW + 0.1 * number)
        assert pace.due(0.0) == pytest.approx(NOW + 0.1 * number)


@pytest.mark.parametrize("pieces", [1, 3, 600])
@pytest.mark.parametrize("silence", [0.0, 1000.0])
def test_audio_that_comes_at_once_is_due_at_real_time_pace(pieces: int, silence: float) -> None:
    """And silence before it saves up next to nothing."""
    pace, now = Pace(NOW), NOW + silence
    for _ in range(pieces):
        pace.receive(60.0 / pieces, now)
    ahead = [pace.due(60.0 - position) - now for position in (0.0, 10.0, 60.0)]
    assert ahead[0] == 0
    assert 10 - BURST <= ahead[1] <= 10
    assert ahead[2] == pytest.approx(ahead[1] + 50)
    assert [urgent(pace, 60.0 - position, now) for position in (0.0, 1.9, 5.0)] == [True, True, False]


def test_who_has_been_served_is_not_ahead_any_more() -> None:
    pace = Pace(NOW)
    pace.receive(60.0, NOW)
    pace.catch_up(NOW + 1)
    pace.receive(0.1, NOW + 1)
    assert pace.due(0.0) == pytest.approx(NOW + 1.1)


@given(st.lists(st.tuples(st.floats(0.01, 30), st.floats(0, 5)), min_size=1, max_size=30))
def test_nobody_is_entitled_to_more_than_real_time(pieces: list[tuple[float, float]]) -> None:
    """At any instant no more audio is urgent than the time since the beginning, and two bursts."""
    pace, now, received = Pace(NOW), NOW, 0.0
    for seconds, wait in pieces:
        now += wait
        received += seconds
        pace.receive(seconds, now)
        entitled = now - NOW + 2 * BURST
        assert received <= entitled or not urgent(pace, received - entitled - 1e-6, now)


# --- windows ---------------------------------------------------------------------------------


@given(st.lists(DUE, max_size=60), st.integers(1, 40), st.integers(0, 40))
def test_windows(due: list[float], most: int, extra: int) -> None:
    waiting = [Waiting(Job(name), when) for name, when in enumerate(due)]
    batch = next_windows(waiting, NOW, most=most, extra=extra)
    late = sorted((item for item in waiting if item.urgent(NOW)), key=lambda item: item.due)
    assert len(batch) <= most
    assert batch[: len(late)] == late[:most]
    ahead = batch[len(late) :]
    assert len(ahead) <= max(extra, 0 if late else 1)
    left = [item for item in waiting if item not in batch]
    assert all(item.due <= other.due for item in batch for other in left)
    assert batch or not waiting


# --- voice activity --------------------------------------------------------------------------


@given(st.lists(st.tuples(DUE, st.integers(1, 20)), min_size=1, max_size=60), st.floats(1e-5, 1e-1))
def test_a_round_of_voice_activity_fits_its_budget(items: list[tuple[float, int]], seconds: float) -> None:
    waiting = [Waiting(Job(name, frames=frames), due) for name, (due, frames) in enumerate(items)]
    chosen = next_frames(waiting, seconds, BUDGET)
    assert chosen[0].due == min(item.due for item in waiting)
    assert len(chosen) == 1 or sum(item.work.frames for item in chosen) * seconds <= BUDGET
    assert all(item.due <= other.due for item in chosen for other in waiting if other not in chosen)


# --- passes ----------------------------------------------------------------------------------


def test_ranks_of_passes() -> None:
    """What somebody waits for comes first, then what may be for nothing, and last what came ahead of real time."""
    refinement = rank(Waiting(Job(decided=False, better=True, refines=True), NOW - 9), NOW)
    order = [
        rank(Waiting(Job(decided=decided, better=better), due), NOW)
        for due in (NOW - 1, NOW + 3)
        for better in (False, True)
        for decided in (True, False)
    ]
    assert order == sorted(set(order))
    assert order[3] < refinement < order[4]
    assert [each for each in Rank if each.needed] == [order[0], order[4], order[6]]


@given(st.lists(st.tuples(DUE, st.integers(1, 1000)), min_size=1, max_size=30), st.integers(1, 2000))
def test_passes(items: list[tuple[float, int]], most_rows: int) -> None:
    waiting = [Waiting(Job(name, rows=rows), due) for name, (due, rows) in enumerate(items)]
    batch = next_passes(waiting, most_rows=most_rows)
    assert batch[0].due == min(item.due for item in waiting)
    lengths = [item.work.rows for item in batch]
    assert len(batch) == 1 or len(batch) * max(lengths) <= most_rows
    assert 2 * min(lengths) >= max(lengths)


@given(st.integers(1, 2000), st.floats(1e-7, 1e-3))
def test_pieces_are_a_fraction_of_a_slice_or_one_step(rows: int, seconds: float) -> None:
    layers = steps_per_piece(rows, seconds, BUDGET)
    assert layers == 1 or layers * rows * seconds <= BUDGET / 4 * (1 + 1e-9)
    assert (layers + 1) * rows * seconds > BUDGET / 4 * (1 - 1e-9)
    assert 1 <= steps_per_piece(rows, seconds, BUDGET, "graphs") <= layers


# --- slices ----------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-4, 0.2), min_size=1, max_size=50))
def test_a_slice_is_over_before_its_budget_but_has_one_piece(pieces: list[float]) -> None:
    slice_, spent = Slice(BUDGET), 0.0
    for number, seconds in enumerate(pieces):
        if slice_.over:
            break
        if number and seconds <= pieces[number - 1]:
            assert spent + seconds <= BUDGET  # pieces that take no longer than the ones before
        slice_.spend(seconds)
        spent += seconds
    assert spent > 0


def test_passes_that_wait_too_long_get_as_much_time_as_windows() -> None:
    assert slice_budget(BUDGET, windows=0.3, waits=PATIENCE) == BUDGET
    assert slice_budget(BUDGET, windows=0.3, waits=PATIENCE + 0.01) == 0.3
    assert slice_budget(BUDGET, windows=0.01, waits=PATIENCE + 0.01) == BUDGET
    assert slice_budget(BUDGET, windows=0.3, waits=-math.inf) == BUDGET


def test_where_there_is_plenty_of_time_slices_are_short() -> None:
    assert slice_budget(BUDGET, windows=0.3, waits=0.0, load=ROOM - 0.01) == BUDGET / 4
    assert slice_budget(BUDGET, windows=0.3, waits=0.0, load=ROOM) == BUDGET
    assert slice_budget(BUDGET, windows=0.3, waits=PATIENCE + 0.01, load=0.0) == 0.3


# --- all together ----------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
def test_each_session_gets_real_time_or_its_share(paced: int, uploads: int, extra: int) -> None:
    """Some speak, others send everything at once; there is time for four windows in 0.1 s."""
    paces = [Pace(0.0) for _ in range(paced + uploads)]
    for pace in paces[paced:]:
        pace.receive(1000.0, 0.0)
    served = [0] * len(paces)
    waiting: dict[int, Waiting[Job]] = {}
    for turn in range(300):
        now = turn / 10
        for name, pace in enumerate(paces):
            if turn % 6 == name % 6 and name < paced:
                pace.receive(0.6, now)
            sent = 0.6 * ((turn - name % 6) // 6 + 1) if name < paced else 1000.0
            end = 0.6 * (served[name] + 1)
            if name not in waiting and end <= sent + 1e-9:
                waiting[name] = Waiting(Job(name), pace.due(sent - end))
        for item in next_windows(list(waiting.values()), now, most=4, extra=extra):
            del waiting[item.work.name]
            served[item.work.name] += 1
    share = min(1.0, 4 / 0.1 * 0.6 / len(paces)) * 30 / 0.6
    assert min(served) >= share - BURST / 0.6 - 4
    if share == 30 / 0.6:
        assert min(served[:paced]) >= 30 / 0.6 - 2  # those who speak are up to date
