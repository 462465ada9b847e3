"""How far a session has come, and why utterances end: for any audio format, framing and order of work."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.streaming import AudioFormat, Encoding, EndpointConfig, Models, SessionConfig
from parastream.streaming.events import (
    EndReason,
    Event,
    Final,
    Partial,
    Progress,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
)
from parastream.streaming.vad import FRAME

from .driver import converse
from .scripted import ScriptedSession

RATE = 16000
LATE = 0.3  # seconds of audio, at most, in the resampler and in a frame that is not full yet; a window has 0.6
SHORT = EndpointConfig(max_utterance=3, cut_search=1)


@dataclass(frozen=True)
class Case:
    """A client's audio."""

    config: SessionConfig
    stretches: list[tuple[int, float]]
    """How many VAD frames have which probability."""
    sizes: list[int]
    """Of the first pieces, in bytes; those after them are as large as the last."""
    seed: int

    @property
    def probabilities(self) -> list[float]:
        return [probability for count, probability in self.stretches for _ in range(count)]

    def pieces(self) -> Iterator[bytes]:
        format = self.config.format
        frames = int((len(self.probabilities) + 0.5) * FRAME / RATE * format.rate)
        samples = np.random.default_rng(self.seed).uniform(-0.5, 0.5, frames * format.channels)
        data = samples.astype("<f4").tobytes()
        if format.encoding is not Encoding.F32LE:  # any bytes are samples
            data = data[: len(data) // 4 * format.encoding.sample_bytes]
        for number in itertools.count():
            size = self.sizes[min(number, len(self.sizes) - 1)]
            if not data:
                break
            yield data[:size]
            data = data[size:]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rate = draw(st.sampled_from([8000, 16000, 44100]) | st.integers(8000, 48000))
    config = SessionConfig(
        format=AudioFormat(draw(st.sampled_from(list(Encoding))), rate, draw(st.integers(1, 2))),
        partials=draw(st.booleans()),
        final_pass=draw(st.booleans()),
        endpoint=draw(st.sampled_from([EndpointConfig(), SHORT, EndpointConfig(pre_roll=1.0, min_speech=0.5)])),
    )
    stretches = draw(st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0.0, 0.4, 0.9])), max_size=8))
    sizes = [*draw(st.lists(st.integers(1, 9000), max_size=8)), draw(st.integers(3000, 30_000))]
    return Case(config, stretches, sizes, draw(st.integers(0, 99)))


class Watch:
    """Checks what a session promises of its progress, as its events come."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self.progress = Progress(0.0, 0.0)
        self._open: dict[int, float] = {}  # where utterances begin that have no final yet
        self._told: set[int] = set()  # those that had begun when the newest time was told

    def take(self, events: list[Event], received: float) -> None:
        """One batch, told when so many seconds have been received."""
        told = [event for event in events if isinstance(event, Progress)]
        assert told == [event for event in events[-1:] if isinstance(event, Progress)]
        for event in events:
            match event:
                case SpeechStarted():
                    assert event.time + self._config.endpoint.pre_roll >= self.progress.settled - 0.001
                    self._open[event.utterance] = event.time
                case Partial():
                    assert event.end > self.progress.time - LATE or event.utterance not in self._told
                case Final():
                    del self._open[event.utterance]
                case Progress():
                    assert event != self.progress
                    assert self.progress.time <= event.time <= received
                    assert self.progress.settled <= event.settled <= received
                    if len(self._open) > 1:  # the oldest has ended
                        longest = self._config.endpoint.max_utterance
                        assert event.time <= min(self._open.values()) + longest + LATE
                    if event.time > self.progress.time:
                        self._told = set(self._open)
                    self.progress = event


@settings(deadline=None, max_examples=150)
@given(case=cases())
def check_progress(models: Models, case: Case) -> None:
    scripted = ScriptedSession(models.speech, models.vad, case.config, case.probabilities, seed=case.seed)
    session, order, watch = scripted.session, random.Random(case.seed), Watch(case.config)
    sent = 0
    for piece in case.pieces():
        session.receive_audio(piece)
        sent += len(piece)
        received = sent // case.config.format.frame_bytes / case.config.format.rate
        if order.random() < 0.1:
            session.receive_flush()
        for _ in range(order.randint(0, 6)):
            scripted.step()
            assert 0 <= session.backlog <= received - watch.progress.time
            if order.random() < 0.5:
                watch.take(session.events(), received)
        if order.random() < 0.3:
            watch.take(scripted.drain(), received)
            assert watch.progress.time == received
            assert session.backlog == 0
    session.receive_end()
    while not session.ended:
        assert scripted.step()
        if order.random() < 0.5:
            watch.take(session.events(), session.received)
    events = scripted.drain()
    if events:
        assert isinstance(events[-1], SessionEnded)
    assert not [event for event in events if isinstance(event, Progress)]


def test_progress_never_goes_back_nor_ahead_of_what_is_told(models: Models) -> None:
    check_progress(models)


def test_progress_waits_for_finals_once_they_are_an_utterance_late(models: Models, speech: SpeechModel) -> None:
    config = SessionConfig(endpoint=SHORT)
    scripted = ScriptedSession(speech, models.vad, config, [0.9] * 1000)
    scripted.session.receive_audio(bytes(2 * 10 * RATE))
    held = scripted.drain(finals=False)[-1]
    assert isinstance(held, Progress)
    assert held.time == SHORT.max_utterance
    assert scripted.session.backlog == 10 - SHORT.max_utterance
    released = scripted.drain()[-1]
    assert isinstance(released, Progress)
    assert released.time == 10
    assert scripted.session.backlog == 0


def test_progress_waits_for_the_result_of_a_window(models: Models, speech: SpeechModel) -> None:
    scripted = ScriptedSession(speech, models.vad, SessionConfig(), [0.9] * 1000)
    session = scripted.session
    session.receive_audio(bytes(2 * RATE))
    (work,) = session.work(max_vad_frames=30)
    session.apply_vad(work, np.full(30, 0.9, np.float32))  # type: ignore[arg-type]
    windows, _ = session.work(), session.events()
    assert windows
    assert session.backlog == 1.0


def test_less_than_a_frame_is_looked_at_as_soon_as_it_comes(models: Models, speech: SpeechModel) -> None:
    config = SessionConfig(format=AudioFormat(rate=48000))
    session = ScriptedSession(speech, models.vad, config, []).session
    session.receive_audio(bytes(201))
    assert session.events() == [Progress(100 / 48000, 0.0)]
    session.receive_audio(bytes(1))
    assert session.events() == [Progress(101 / 48000, 0.0)]
    assert session.events() == []


def test_settled_stops_before_frames_that_may_be_the_first_of_an_utterance(models: Models, speech: SpeechModel) -> None:
    scripted = ScriptedSession(speech, models.vad, SessionConfig(), [0.0] * 10 + [0.9] * 2 + [0.0] * 10)
    settled = []
    for _ in range(14):
        scripted.session.receive_audio(bytes(2 * FRAME))
        (*_, progress) = scripted.drain()
        assert isinstance(progress, Progress)
        settled.append(round(progress.settled * RATE / FRAME))
    assert settled == [*range(1, 11), 10, 10, 13, 14]


# --- why utterances end ------------------------------------------------------------------------


def reasons(events: list[Event]) -> list[tuple[EndReason, float]]:
    return [(event.reason, event.time) for event in events if isinstance(event, SpeechEnded)]


def scripted_reasons(
    models: Models, endpoint: EndpointConfig, *stretches: tuple[float, float], flush: float = math.inf
) -> list[tuple[EndReason, float]]:
    """Of an input of stretches (seconds, probability), which a client may flush after some seconds."""
    probabilities = [probability for seconds, probability in stretches for _ in range(round(seconds * RATE / FRAME))]
    scripted = ScriptedSession(models.speech, models.vad, SessionConfig(endpoint=endpoint), probabilities)
    events: list[Event] = []
    for number in range(len(probabilities)):
        if number == round(flush * RATE / FRAME if flush < math.inf else -1):
            scripted.session.receive_flush()
        scripted.session.receive_audio(bytes(2 * FRAME))
        events += scripted.drain()
    scripted.session.receive_end()
    return reasons(events + scripted.drain())


def test_a_long_utterance_that_silence_ends_says_so_though_speech_follows_at_once(models: Models) -> None:
    """Neither its length nor what comes next tells it from one that was cut."""
    endpoint = EndpointConfig(min_silence=0.3)
    found = scripted_reasons(models, endpoint, (0.64, 0.0), (14.72, 0.9), (0.32, 0.0), (2.56, 0.9), (0.64, 0.0))
    assert [reason for reason, _ in found] == ["silence", "silence"]
    assert found[0][1] == pytest.approx(15.66)


def test_an_utterance_that_grows_too_long_is_cut(models: Models) -> None:
    found = scripted_reasons(models, SHORT, (4.0, 0.9), (0.96, 0.0))
    assert [reason for reason, _ in found] == ["cut", "silence"]


def test_a_pause_ends_an_utterance_that_grows_too_long_as_silence(models: Models) -> None:
    endpoint = EndpointConfig(min_silence=2.0, max_utterance=3)
    assert [reason for reason, _ in scripted_reasons(models, endpoint, (2.0, 0.9), (1.5, 0.0))] == ["silence"]


def test_a_flush_and_the_end_of_the_input_say_so(models: Models) -> None:
    found = scripted_reasons(models, EndpointConfig(), (2.56, 0.9), flush=1.28)
    assert found == [("flush", 1.28), ("finish", 2.56)]


def test_real_speech_ends_for_the_same_reasons_with_and_without_the_final_pass(
    models: Models, sample: NDArray[np.int16]
) -> None:
    endpoint = EndpointConfig(max_utterance=4, cut_search=2, min_silence=2)
    found = [
        reasons(converse(models, [sample.tobytes()], SessionConfig(final_pass=final_pass, endpoint=endpoint)))
        for final_pass in (True, False)
    ]
    assert found[0] == found[1]
    assert {reason for reason, _ in found[0]} >= {"cut"}
