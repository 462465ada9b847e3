"""The pool of what utterances remember, and the sizes that batches are padded to."""

from __future__ import annotations

import gc

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.batches import rounded, rounded_sizes
from parastream.model.cif import PredictorState
from parastream.model.pool import SCRATCH, Part, Pool
from parastream.model.stream_state import Slot, StreamState


def new_pool(dtype: mx.Dtype = mx.float32) -> Pool:
    return Pool({"ring": Part(6, 8), "nothing": Part(0, 8)}, dtype)


def content(pool: Pool, *slots: Slot) -> np.ndarray:
    found = pool.read("ring", np.array([slot.index for slot in slots], np.int32))
    return np.array(found.astype(mx.float32))


def write(pool: Pool, slot: Slot, rows: list[int], value: float) -> None:
    values = mx.full((1, len(rows), pool._parts["ring"].width), value)
    pool.write("ring", np.array([slot.index], np.int32), np.array([rows], np.int32), values)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_each_slot_holds_what_was_stored_in_it(dtype: mx.Dtype) -> None:
    pool = new_pool(dtype)
    one, other = pool.take(), pool.take()
    pool.prepare()
    write(pool, one, [5, 0], 1.5)
    write(pool, other, [3], -2.0)
    expected = np.zeros((2, 6, 8), np.float32)
    expected[0, [5, 0]], expected[1, 3] = 1.5, -2.0
    np.testing.assert_array_equal(content(pool, one, other), expected)
    assert one.nbytes == 6 * 8 * dtype.size


def test_a_slot_is_empty_whoever_had_it_before() -> None:
    pool = new_pool()
    slot = pool.take()
    pool.prepare()
    write(pool, slot, [0, 1, 2, 3, 4, 5], np.nan)
    mx.eval(pool.arrays)
    index = slot.index
    del slot
    gc.collect()
    again = pool.take()
    pool.prepare()
    assert again.index == index
    np.testing.assert_array_equal(content(pool, again), 0)


def test_a_pool_grows_and_keeps_what_is_there() -> None:
    pool = new_pool()
    slots = [pool.take() for _ in range(5)]
    pool.prepare()
    for number, slot in enumerate(slots):
        write(pool, slot, [number], number + 1)
    slots += [pool.take() for _ in range(40)]
    pool.prepare()
    pool.widen(["ring"], 9)
    assert len({slot.index for slot in slots} - {SCRATCH}) == len(slots)
    held = content(pool, *slots)
    assert held.shape == (45, 9, 8)
    assert [held[k, k].tolist() for k in range(5)] == [[k + 1] * 8 for k in range(5)]
    assert held.sum() == 8 * (1 + 2 + 3 + 4 + 5)


def test_storing_a_window_does_not_copy_what_others_remember() -> None:
    pool = Pool({"ring": Part(40, 16384)}, mx.float32)
    slots = [pool.take() for _ in range(60)]  # 64 of 2.6 MB
    pool.prepare()
    mx.eval(pool.arrays)
    held = content(pool, slots[0])  # who has read it before keeps nothing of it
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for row in range(3):
        write(pool, slots[0], [row], 1.0)
        mx.eval(pool.arrays)
    assert mx.get_peak_memory() - before < 1e6
    assert content(pool, slots[0])[0, :3].min() == 1 > held.max()


@given(st.integers(1, 3000), st.integers(1, 100))
def test_sizes_are_few_and_little_larger(size: int, least: int) -> None:
    found = rounded(size, least)
    assert found >= max(size, least)
    assert rounded(found) == found
    assert found < 2 * max(size, least)
    if size > 64:
        assert found <= max(rounded(least), size * 3 / 2)
    assert found in rounded_sizes(1, found)
    assert len(rounded_sizes(1, 3000)) < 20


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 30))
def test_the_newest_rows_take_the_places_of_the_oldest(capacity: int, fresh: int, windows: int) -> None:
    state = StreamState(Slot(new_pool(), 1), PredictorState(0, np.zeros(1, np.float32)), np.zeros((0, 1), np.float32))
    ring: list[int | None] = [None] * capacity
    for window in range(windows):
        rows = list(range(window * fresh, (window + 1) * fresh))
        count, start = state.make_room(fresh, capacity, unlimited=False)
        for k, row in enumerate(rows[fresh - count :]):
            ring[(start + k) % capacity] = row
    newest = windows * fresh
    assert {row for row in ring if row is not None} == set(range(max(0, newest - capacity), newest))
    assert state.filled == min(capacity, newest)
