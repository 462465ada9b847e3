"""The frontend: any chunking gives the same bits, and damaged statistics are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model.errors import ModelConfigError
from parastream.model.frontend import Frontend, FrontendState

from ..reference import recipe
from ..reference.driver import frontend

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Frontend:
    return frontend(tmp_path_factory.mktemp("cmvn"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Frontend:
    """One that computes many utterances at a time, as on a GPU."""
    return frontend(tmp_path_factory.mktemp("cmvn"), on_device=True)


@pytest.fixture(scope="module")
def wave() -> Float32:
    return recipe.waveform(3.0)


def in_pieces(front: Frontend, samples: Float32, sizes: list[int]) -> Float32:
    state, rows, start, i = front.new_state(), [], 0, 0
    while start < len(samples):
        rows.append(front.step(samples[start : start + sizes[i % len(sizes)]], state))
        start += sizes[i % len(sizes)]
        i += 1
    rows.append(front.step(samples[:0], state, final=True))
    return np.concatenate(rows)


@pytest.mark.parametrize("length", [0, 1, 2, 159, 399, 400, 401, 559, 560, 1359, 1360, 9600, 9759, 20000, 48000])
@pytest.mark.parametrize("size", [1, 160, 399, 400, 960, 9600])
def test_pieces_give_the_bits_of_the_whole(front: Frontend, wave: Float32, length: int, size: int) -> None:
    if size == 1:
        length = min(length, 1360)
    np.testing.assert_array_equal(in_pieces(front, wave[:length], [size]), front(wave[:length]))


@settings(deadline=None, max_examples=60)
@given(length=st.integers(0, 48000), sizes=st.lists(st.integers(1, 20000), min_size=1, max_size=8))
def test_any_pieces_give_the_bits_of_the_whole(front: Frontend, wave: Float32, length: int, sizes: list[int]) -> None:
    sizes = [max(size, length // 200 + 1) for size in sizes]
    np.testing.assert_array_equal(in_pieces(front, wave[:length], sizes), front(wave[:length]))


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(0, 30000), min_size=1, max_size=5), size=st.integers(1, 12000))
def test_many_utterances_at_a_time_give_the_rows_of_each(
    front: Frontend, many: Frontend, wave: Float32, lengths: list[int], size: int
) -> None:
    waves = [wave[5000 * i :][:length] for i, length in enumerate(lengths)]
    states = [front.new_state() for _ in waves]
    rows = [[np.zeros((0, front.config.row_size), np.float32)] for _ in waves]
    for start in range(0, max(lengths) + size, size):
        final = [start <= len(samples) < start + size for samples in waves]
        live = [i for i, samples in enumerate(waves) if start <= len(samples)]
        parts = [waves[i][start : start + size] for i in live]
        for i, new in zip(live, many.steps(parts, [states[i] for i in live], [final[i] for i in live]), strict=True):
            rows[i].append(new)
    for samples, found in zip(waves, rows, strict=True):
        np.testing.assert_allclose(np.concatenate(found), front(samples), rtol=0, atol=2e-3)
    for samples, whole in zip(waves, many.wholes(waves, [parts[:2] for parts in rows]), strict=True):
        np.testing.assert_allclose(whole, front(samples), rtol=0, atol=2e-3)


@settings(deadline=None, max_examples=100)
@given(length=st.integers(0, 48000), hops=st.integers(0, 6), size=st.integers(400, 9600))
def test_rows_that_are_known_are_not_computed_again(
    front: Frontend, wave: Float32, length: int, hops: int, size: int
) -> None:
    state = front.new_state()
    known = [front.step(wave[i * size : (i + 1) * size], state) for i in range(hops)]  # of more or fewer samples
    with pytest.MonkeyPatch.context() as patch:
        seen: list[int] = []
        original = front.step

        def counted(samples: Float32, state: FrontendState, *, final: bool = False) -> Float32:
            seen.append(len(samples) + len(state.samples))
            return original(samples, state, final=final)

        patch.setattr(front, "step", counted)
        found = front(wave[:length], known)
    np.testing.assert_array_equal(found, front(wave[:length]))
    needed = min(hops * size, length)
    assert seen == [length] or sum(seen) < length - needed + 3 * front.row_samples


def test_each_hop_completes_its_rows(front: Frontend, wave: Float32) -> None:
    state = front.new_state()
    for start in range(0, 48000, 9600):
        assert len(front.step(wave[start : start + 9600], state)) == 10


def test_two_utterances_share_nothing(front: Frontend, wave: Float32) -> None:
    one, two = front.new_state(), front.new_state()
    rows = []
    for start in range(0, 48000, 3000):
        rows.append(front.step(wave[start : start + 3000], one))
        front.step(-wave[start : start + 3000][::-1], two)
    rows.append(front.step(wave[:0], one, final=True))
    np.testing.assert_array_equal(np.concatenate(rows), front(wave))


@pytest.mark.parametrize(("samples", "rows"), [(0, 0), (1, 1), (2, 1), (256, 1), (399, 1), (400, 1), (1360, 2)])
def test_an_utterance_of_any_length_has_its_rows(front: Frontend, wave: Float32, samples: int, rows: int) -> None:
    found = front(wave[:samples])
    assert found.shape == (rows, 560)
    assert np.isfinite(found).all()


def test_silence_is_finite(front: Frontend) -> None:
    rows = front(np.zeros(16000, np.float32))
    assert np.isfinite(rows).all()


def test_statistics_of_another_size_are_refused(front: Frontend) -> None:
    short = np.zeros(400, np.float32)
    with pytest.raises(ModelConfigError, match="400 values, features have 560"):
        Frontend(front.config, short, short)
