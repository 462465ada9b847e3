"""What the engine promises when it is busy: order, slices, bounds, and whom it admits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.errors import CapacityError
from parastream.streaming import Engine, EngineConfig
from parastream.streaming.capacity import Cost
from parastream.streaming.events import Partial, SessionEnded

from ..conftest import SAMPLE_TEXTS, running_engine
from .driver import finals
from .listening import BLOCK, Listener, Recorder, talk

Audio = NDArray[np.int16]
SECOND = 16000


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def loaded(recorder: Recorder) -> Iterator[Engine]:
    with running_engine(EngineConfig(), recorder) as engine:
        yield engine


@pytest.fixture
def engine(loaded: Engine, recorder: Recorder) -> Iterator[Engine]:
    """Admits whoever comes, on however slow a machine. Tests leave no session behind, unless they fail."""
    loaded.config = EngineConfig(target_utilisation=math.inf)
    recorder.watch()
    yield loaded
    recorder.watch()
    recorder.wait_until(lambda: loaded.stats().sessions == 0)


def texts(listener: Listener) -> list[str]:
    return [final.text for final in finals(listener.events)]


# --- order -----------------------------------------------------------------------------------


def test_a_session_has_one_window_and_one_round_in_a_batch_however_much_it_sends(
    engine: Engine, recorder: Recorder, sample: Audio
) -> None:
    backlogs: list[float] = []
    listeners = [Listener(engine, name=str(number)) for number in range(3)]
    recorder.watch(lambda: backlogs.extend(listener.stream.session.backlog for listener in listeners))
    for listener in listeners:
        listener.stream.send(np.tile(sample, 2).tobytes())
        listener.stream.end()
    for listener in listeners:
        listener.wait()
        assert texts(listener) == 2 * SAMPLE_TEXTS
    for batch in recorder.batches("vad", "windows"):
        assert len(set(batch.sessions)) == batch.size
    assert all(batch.units <= 20 * batch.size for batch in recorder.batches("vad"))
    # A session takes a second at a time, and none while it has more to do than that.
    assert max(backlogs) < 2 + 20


def test_who_speaks_is_heard_while_others_send_everything_at_once(
    engine: Engine, recorder: Recorder, sample: Audio
) -> None:
    """No window of a speaker waits while one that is ahead of real time is computed."""
    uploads = [Listener(engine, name="upload") for _ in range(2)]
    speaker = Listener(engine, name="speaker")
    for upload in uploads:
        upload.stream.send(np.tile(sample, 4).tobytes())
        upload.stream.end()
    for start in range(0, len(sample), BLOCK):
        speaker.stream.send(sample[start : start + BLOCK].tobytes())
        sent = min(start + BLOCK, len(sample)) / SECOND
        speaker.wait_until(lambda sent=sent: speaker.looked_at >= sent)  # type: ignore[misc]  # as slow as the machine
    speaker.stream.end()
    for listener in (speaker, *uploads):
        listener.wait()
    assert texts(speaker) == SAMPLE_TEXTS
    assert [text for upload in uploads for text in texts(upload)] == 8 * SAMPLE_TEXTS
    assert not any(turn.windows_left for turn in recorder.turns)
    assert sum("speaker" in batch.sessions for batch in recorder.batches("windows")) > 8
    assert [event for event in speaker.events if isinstance(event, Partial)]


# --- slices ----------------------------------------------------------------------------------


def test_windows_go_between_the_pieces_of_a_pass(engine: Engine, recorder: Recorder, sample: Audio) -> None:
    """A slice is over at once here, so a pass goes on in the next turn, unless it has waited too long already."""
    engine.config = replace(engine.config, slice_budget=1e-6)
    listeners = talk(engine, [np.roll(sample, -4000 * number) for number in range(4)])
    assert texts(listeners[0]) == SAMPLE_TEXTS
    assert len(recorder.batches("windows")) > 8
    order = recorder.batches("windows", "finals")
    assert any(
        not piece.complete and then.kind == "windows" for piece, then in pairwise(order) if piece.kind == "finals"
    )
    pieces = recorder.batches("finals")
    assert len(pieces) >= 8 * sum(piece.complete for piece in pieces)
    assert any(final.overtaken for final in recorder.finals)


def test_a_pass_over_a_pause_is_given_up_when_speech_goes_on(engine: Engine, sample: Audio) -> None:
    """It may be over before that, but then it is not told either."""
    engine.config = replace(engine.config, max_vad_frames=1)  # the pause is seen before its end, as in real time
    # Speech lasts from 1.18 to 3.04 s; here it comes twice, with a pause that is shorter than it takes to end it.
    speech = sample[int(1.1 * SECOND) : int(3.1 * SECOND)]
    audio = np.concatenate([speech, np.zeros(int(0.35 * SECOND), np.int16), speech, np.zeros(SECOND, np.int16)])
    (listener,) = talk(engine, [audio])
    (final,) = finals(listener.events)
    assert final.text.lower().count("seventy six") == 2


# --- back-pressure ---------------------------------------------------------------------------


def test_the_backlog_never_hides_audio_that_waits(engine: Engine, recorder: Recorder, sample: Audio) -> None:
    listener = Listener(engine)
    audio = np.tile(sample, 3)
    seconds = len(audio) / SECOND
    waiting: list[float] = []
    recorder.watch(lambda: waiting.append(listener.stream.backlog + listener.looked_at))
    listener.stream.send(audio.tobytes())
    listener.wait_until(lambda: listener.looked_at == seconds)
    assert waiting
    assert waiting == pytest.approx([seconds] * len(waiting))
    listener.stream.end()
    listener.wait()
    assert texts(listener) == 3 * SAMPLE_TEXTS


def test_a_session_keeps_a_bounded_stretch_of_what_is_sent_at_once(
    engine: Engine, recorder: Recorder, sample: Audio
) -> None:
    listener = Listener(engine)
    held: list[float] = []
    recorder.watch(lambda: held.append(engine.stats().held))
    listener.stream.send(np.tile(sample, 5).tobytes())
    listener.stream.end()
    listener.wait()
    assert texts(listener) == 5 * SAMPLE_TEXTS
    # One utterance of the longest kind, what is kept for the next, and two seconds: in half as much again at most.
    assert 0 < max(held) <= 1.5 * (20 + 9 + 2)


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


def test_uploads_do_not_lower_the_capacity(engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep the engine busy, but the capacity is about what work costs."""
    monkeypatch.setattr(Cost, "observe", lambda *_: None)  # which depends on what else the machine does
    engine.config = replace(engine.config, target_utilisation=0.85)
    before = engine.stats()
    listener = Listener(engine)
    listener.stream.send(np.tile(sample, 5).tobytes())
    listener.wait_until(lambda: listener.looked_at > 20)
    stats = engine.stats()
    assert stats.utilisation > 0
    assert stats.capacity == before.capacity
    assert stats.sessions == 1
    other = Listener(engine)
    other.stream.end()
    other.wait()
    listener.stream.cancel()
