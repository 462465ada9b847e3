"""The engine where a large batch takes about as long as a small one: a beat, and what is computed beside windows."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import load
from parastream.model.pool import Pool
from parastream.streaming import Engine, EngineConfig, SessionConfig, beat, capacity
from parastream.streaming.beat import Beat
from parastream.streaming.runner import Models, Runner

from ..conftest import SAMPLE_TEXTS, load_models, running_engine
from .driver import finals
from .listening import BLOCK, Listener, Recorder

Audio = NDArray[np.int16]


def test_the_next_batch_waits_as_long_as_two_take() -> None:
    plenty, little = 0.5, 0.7
    steady = Beat(rests=True)
    assert steady.rest(100.0) == 0
    steady.follow(100.0, 0.04, little)
    assert steady.rest(100.0) == pytest.approx(0.08)
    assert steady.rest(100.05) == pytest.approx(0.03)
    assert steady.rest(100.09) == 0
    steady.follow(200.0, 0.04, plenty)
    assert steady.rest(200.0) == 0


def test_where_each_window_takes_its_time_nobody_waits() -> None:
    never = Beat(rests=False)
    never.follow(100.0, 0.04, 1.0)
    assert never.rest(100.0) == 0


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def crowd(recorder: Recorder) -> Iterator[Engine]:
    """An engine that takes its device for a GPU which always has more to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Models, "crowded", True)
        patch.setattr(beat, "ROOM", -1.0)
        with running_engine(EngineConfig(target_utilisation=math.inf), recorder) as engine:
            yield engine


def speak(
    engine: Engine, sample: Audio, number: int, names: str = "", config: SessionConfig | None = None
) -> list[Listener]:
    """Have some speakers say the sample, all at once."""
    listeners = [Listener(engine, config, name=f"{names}{k}") for k in range(number)]
    for start in range(0, len(sample), BLOCK):
        for listener in listeners:
            listener.stream.send(sample[start : start + BLOCK].tobytes())
    for listener in listeners:
        listener.stream.end()
    return listeners


def test_all_are_heard_as_anywhere_with_few_batches(crowd: Engine, recorder: Recorder, sample: Audio) -> None:
    recorder.watch()
    for listener in speak(crowd, sample, 6):
        listener.wait()
        assert [final.text for final in finals(listener.events)] == SAMPLE_TEXTS
    windows = recorder.batches("windows")
    assert len(windows) < sum(len(batch.sessions) for batch in windows) / 3
    recorder.wait_until(lambda: crowd.stats().sessions == 0)


def test_voices_features_and_marks_are_computed_beside_windows(
    crowd: Engine, recorder: Recorder, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, marked, heard, threads = Runner.judge, Runner.mark, Runner.rows_of, set[tuple[str, str]]()

    def judge(self: Runner, batch: Any) -> Any:
        threads.add(("voices", threading.current_thread().name))
        return judged(self, batch)

    def mark(self: Runner, work: Any) -> Any:
        threads.add(("marks", threading.current_thread().name))
        return marked(self, work)

    def rows_of(self: Runner, batch: Any) -> Any:
        if any(work.rows is None for work in batch):
            threads.add(("features", threading.current_thread().name))
        return heard(self, batch)

    monkeypatch.setattr(Runner, "judge", judge)
    monkeypatch.setattr(Runner, "mark", mark)
    monkeypatch.setattr(Runner, "rows_of", rows_of)
    for listener in speak(crowd, sample, 4):
        listener.wait()
    aside = {kind for kind, thread in threads if thread.startswith("parastream-aside")}
    assert aside == {"voices", "features", "marks"}
    assert ("marks", "parastream-inference") not in threads
    recorder.wait_until(lambda: crowd.stats().sessions == 0)


@pytest.mark.parametrize("kind", ["judge", "mark"])
def test_who_cannot_be_judged_or_marked_ends_alone(
    crowd: Engine, recorder: Recorder, sample: Audio, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    original = getattr(Runner, kind)

    def stumble(self: Runner, work: Any) -> Any:
        batch = work if isinstance(work, list) else [work]
        if any(item.session.name.startswith("poison") for item in batch):
            raise ValueError("this audio is poison")
        return original(self, work)

    monkeypatch.setattr(Runner, kind, stumble)
    (healthy,), (poisoned,) = speak(crowd, sample, 1), speak(crowd, sample, 1, "poison")
    assert [type(event).__name__ for event in poisoned.wait()][-2:] == ["InputRejected", "SessionEnded"]
    assert [final.text for final in finals(healthy.wait())] == SAMPLE_TEXTS
    recorder.wait_until(lambda: crowd.stats().sessions == 0)


def test_utterances_for_which_a_gpu_has_no_memory_wait(
    sample: Audio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Twelve speakers where there is room for six utterances: none is lost, and the engine goes on."""
    resize = Pool._resize

    def resize_up_to_the_first_size(self: Pool, slots: int) -> None:
        if slots > 8:
            raise RuntimeError("[malloc] Unable to allocate 268435456 bytes.")
        resize(self, slots)

    def load_mlx() -> Models:
        return replace(load_models(), front=load("asr-small-en", compute="mlx"))

    monkeypatch.setattr(Pool, "_resize", resize_up_to_the_first_size)
    monkeypatch.setattr(capacity, "_WINDOWS", (1, 4))
    with running_engine(load=load_mlx) as engine:
        # Finals have the words of the windows, so that none of these can be left out.
        listeners = speak(engine, sample, 12, config=SessionConfig(final_pass=False))
        said = [[final.text for final in finals(listener.wait())] for listener in listeners]
    assert said == [said[0]] * 12
    assert len(said[0]) == len(SAMPLE_TEXTS)
    (warning,) = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert warning.startswith("utterances that begin wait for others to end: there is memory for 7 utterances")
