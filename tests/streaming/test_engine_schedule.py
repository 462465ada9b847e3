"""What the engine promises when it is busy: order, slices, bounds, and whom it admits."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.errors import CapacityError
from parastream.streaming import Engine, EngineConfig
from parastream.streaming.events import Partial, SessionEnded
from parastream.streaming.runner import Runner
from parastream.streaming.session import FinalWork, Session, VadWork, WindowWork

from ..conftest import SAMPLE_TEXTS, running_engine
from .driver import finals
from .test_engine import Listener, talk

Audio = NDArray[np.int16]
SECOND = 16000


@pytest.fixture(scope="module")
def loaded() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture
def engine(loaded: Engine) -> Iterator[Engine]:
    """Admits whoever comes, on however slow a machine."""
    loaded.config = EngineConfig(target_utilisation=math.inf)
    yield loaded
    for stream in list(loaded._streams.values()):
        stream.cancel()
    while loaded.stats().sessions:
        time.sleep(0.01)


def texts(listener: Listener) -> list[str]:
    return [final.text for final in finals(listener.events)]


# --- order -----------------------------------------------------------------------------------


def test_a_session_has_one_window_and_one_round_in_a_batch_however_much_it_sends(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_windows, run_vad = Runner.run_windows, Runner.run_vad
    held: list[float] = []

    def watch_windows(self: Runner, batch: Sequence[WindowWork]) -> None:
        assert len({work.session for work in batch}) == len(batch)
        run_windows(self, batch)

    def watch_vad(self: Runner, batch: Sequence[VadWork]) -> None:
        assert len({work.session for work in batch}) == len(batch)
        assert all(1 <= work.frames <= 20 for work in batch)
        held.extend(work.session.backlog for work in batch)
        run_vad(self, batch)

    monkeypatch.setattr(Runner, "run_windows", watch_windows)
    monkeypatch.setattr(Runner, "run_vad", watch_vad)
    listeners = [Listener(engine) for _ in range(3)]
    for listener in listeners:
        listener.stream.send(np.tile(sample, 2).tobytes())
        listener.stream.end()
    for listener in listeners:
        listener.wait()
        assert texts(listener) == 2 * SAMPLE_TEXTS
    # A session takes a second at a time, and none while it has more to do than that.
    assert max(held) < 2 + 20


def test_who_speaks_is_heard_while_others_send_everything_at_once(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No window of a speaker waits while one that is ahead of real time is computed."""
    run_windows = Runner.run_windows
    left_out: list[WindowWork] = []
    urgent: list[int] = []

    def watch(self: Runner, batch: Sequence[WindowWork]) -> None:
        now = time.monotonic()
        left_out.extend(item.work for item in engine._queues.windows if item.urgent(now))
        urgent.append(sum(work.session is speaker.stream.session for work in batch))
        run_windows(self, batch)

    monkeypatch.setattr(Runner, "run_windows", watch)
    uploads = [Listener(engine) for _ in range(2)]
    speaker = Listener(engine)
    for upload in uploads:
        upload.stream.send(np.tile(sample, 4).tobytes())
        upload.stream.end()
    for start in range(0, len(sample), SECOND // 10):
        speaker.stream.send(sample[start : start + SECOND // 10].tobytes())
        time.sleep(0.02)  # five times as fast as speech, which is real time for a slow machine
    speaker.stream.end()
    for listener in (speaker, *uploads):
        listener.wait()
    assert texts(speaker) == SAMPLE_TEXTS
    assert [text for upload in uploads for text in texts(upload)] == 8 * SAMPLE_TEXTS
    assert not left_out
    assert sum(urgent) > 8
    assert [event for event in speaker.events if isinstance(event, Partial)]


# --- slices ----------------------------------------------------------------------------------


def test_windows_go_between_the_pieces_of_a_pass(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a slice that is over at once, there is one piece between two turns."""
    engine.config = replace(engine.config, slice_budget=1e-6)
    log: list[str] = []
    run_windows, run_finals = Runner.run_windows, Runner.run_finals

    def watch_windows(self: Runner, batch: Sequence[WindowWork]) -> None:
        log.append("windows")
        run_windows(self, batch)

    def watch_finals(self: Runner, batch: Sequence[FinalWork], *, layers: int) -> Generator[None]:
        assert layers == 1
        for _ in run_finals(self, batch, layers=layers):
            log.append("piece")
            yield
        log.append("done")

    monkeypatch.setattr(Runner, "run_windows", watch_windows)
    monkeypatch.setattr(Runner, "run_finals", watch_finals)
    listeners = talk(engine, [np.roll(sample, -4000 * number) for number in range(4)])
    assert texts(listeners[0]) == SAMPLE_TEXTS
    assert log.count("windows") > 8
    passes = "".join({"windows": "w", "piece": "p", "done": "d"}[entry] for entry in log)
    assert any("w" in between for between in passes.split("d") if "p" in between)
    assert passes.count("p") >= 10 * passes.count("d")


def test_a_pass_over_a_pause_is_given_up_when_speech_goes_on(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be over before that, but then it is not told either."""
    engine.config = replace(engine.config, max_vad_frames=1)  # the pause is seen before its end, as in real time
    handed_out: list[FinalWork] = []
    next_final = Session._next_final

    def watch(self: Session, *arguments: object) -> FinalWork | None:
        work = next_final(self, *arguments)  # type: ignore[arg-type]
        if work is not None:
            handed_out.append(work)
        return work

    monkeypatch.setattr(Session, "_next_final", watch)
    # Speech lasts from 1.18 to 3.04 s; here it comes twice, with a pause that is shorter than it takes to end it.
    speech = sample[int(1.1 * SECOND) : int(3.1 * SECOND)]
    audio = np.concatenate([speech, np.zeros(int(0.35 * SECOND), np.int16), speech, np.zeros(SECOND, np.int16)])
    (listener,) = talk(engine, [audio])
    assert len(finals(listener.events)) == 1
    assert len(handed_out) > 1
    assert [work.wanted for work in handed_out] == [False] * (len(handed_out) - 1) + [True]
    assert len({id(work.utterance) for work in handed_out}) == 1


# --- back-pressure ---------------------------------------------------------------------------


def test_the_backlog_never_hides_audio_that_waits(engine: Engine, sample: Audio) -> None:
    listener = Listener(engine)
    audio = np.tile(sample, 3)
    listener.stream.send(audio.tobytes())
    seen = [listener.stream.backlog]
    assert seen[0] == pytest.approx(len(audio) / SECOND, abs=2)
    while seen[-1] > 0.04:  # less than a frame cannot be looked at
        seen.append(listener.stream.backlog)
        time.sleep(0.001)
    # Looking at audio may find an utterance whose windows are computed next, but it does not make seconds vanish.
    rises = [after - before for before, after in pairwise(seen)]
    assert max(rises) < 1.0
    listener.stream.end()
    listener.wait()
    assert texts(listener) == 3 * SAMPLE_TEXTS


def test_a_session_keeps_a_bounded_stretch_of_what_is_sent_at_once(engine: Engine, sample: Audio) -> None:
    listener = Listener(engine)
    listener.stream.send(np.tile(sample, 5).tobytes())
    listener.stream.end()
    most = 0
    while not listener.ended.is_set():
        most = max(most, len(listener.stream.session._samples._store))
        time.sleep(0.001)
    assert texts(listener) == 5 * SAMPLE_TEXTS
    # One utterance of the longest kind, what is kept for the next, and two seconds: in half as much again at most.
    assert most <= 1.5 * SECOND * (20 + 9 + 2)


# --- admission -------------------------------------------------------------------------------


def test_a_session_that_does_not_fit_in_real_time_is_refused_until_another_ends(engine: Engine, sample: Audio) -> None:
    engine.config = replace(engine.config, target_utilisation=1e-6)
    assert engine.stats().capacity == 1
    admitted = [Listener(engine)]  # never refused
    refusals = []
    for _ in range(2):
        try:
            admitted.append(Listener(engine))
        except CapacityError as error:
            refusals.append(str(error))
    assert refusals
    assert re.fullmatch(
        r"serving \d sessions?, which is what this machine can do in real time; try again when one has ended",
        refusals[0],
    )
    for listener in admitted:
        listener.stream.send(sample.tobytes())
        listener.stream.end()  # what it still needs is bounded, so it does not count any more
    late = Listener(engine)
    late.stream.cancel()
    later = Listener(engine)
    later.stream.end()
    for listener in (later, *admitted):
        assert isinstance(listener.wait()[-1], SessionEnded)
    assert [texts(listener) for listener in admitted] == len(admitted) * [SAMPLE_TEXTS]


def test_uploads_do_not_lower_the_capacity(engine: Engine, sample: Audio) -> None:
    """They keep the engine busy, but the capacity is about what work costs."""
    engine.config = replace(engine.config, target_utilisation=0.85)
    before = engine.stats()
    listener = Listener(engine)
    listener.stream.send(np.tile(sample, 5).tobytes())
    while listener.stream.backlog > 30:
        time.sleep(0.01)
    stats = engine.stats()
    assert stats.utilisation > 0
    assert stats.capacity > before.capacity / 3
    assert stats.sessions == 1 < stats.capacity
    other = Listener(engine)
    other.stream.end()
    other.wait()
    listener.stream.cancel()
