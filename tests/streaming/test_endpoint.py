"""Endpointing: exact positions in plain cases, invariants for any probabilities, and real speech."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model import silero_weights
from parastream.streaming.endpoint import (
    End,
    EndpointConfig,
    Endpointer,
    EndpointEvent,
    Pause,
    Resume,
    Start,
)
from parastream.streaming.vad import FRAME, Vad

RATE = 16000
RECORDING = Path(__file__).parents[1] / "data" / "an4" / "cen8-fvap-b.flac"
PLAIN = EndpointConfig()

Timed = tuple[int, EndpointEvent]
"""An event with the number of samples that had been pushed when it came."""


def run(config: EndpointConfig, frames: Iterable[tuple[float, float]], rest: int = 0) -> list[Timed]:
    """All events of a session of frames (probability, level) and `rest` more samples."""
    endpointer = Endpointer(config)
    events: list[Timed] = []
    position = 0
    for probability, level in frames:
        position += FRAME
        events += [(position, event) for event in endpointer.push(probability, level)]
    return events + [(position + rest, event) for event in endpointer.finish(position + rest)]


def plain(*stretches: tuple[int, float]) -> list[tuple[float, float]]:
    """Frames of (count, probability), the level following the probability."""
    return [(probability, probability / 10) for count, probability in stretches for _ in range(count)]


def bare(events: Iterable[Timed]) -> list[EndpointEvent]:
    return [event for _, event in events]


def utterances(events: Iterable[EndpointEvent]) -> list[tuple[int, int, str]]:
    """(start, end, reason) of each utterance; fails unless Start and End alternate."""
    found: list[tuple[int, int, str]] = []
    start: int | None = None
    for event in events:
        match event:
            case Start(sample):
                assert start is None
                start = sample
            case End(sample, reason):
                assert start is not None
                found.append((start, sample, reason))
                start = None
            case _:
                assert start is not None
    assert start is None
    return found


# ---------------------------------------------------------------- plain cases


def test_one_utterance() -> None:
    events = run(PLAIN, plain((50, 0.02), (40, 0.9), (40, 0.02)))
    speech_end = 90 * FRAME
    assert events == [
        (53 * FRAME, Start(50 * FRAME - 4800)),
        (100 * FRAME, Pause(speech_end + 4800)),  # the first frame end past 0.3 s of silence
        (109 * FRAME, End(speech_end + 4800, "silence")),  # the same past 0.6 s
    ]


def test_speech_from_the_first_sample_and_to_the_last() -> None:
    assert bare(run(PLAIN, plain((40, 0.9)), rest=300)) == [Start(0), End(40 * FRAME + 300, "finish")]


def test_finish_in_a_pause() -> None:
    events = bare(run(PLAIN, plain((40, 0.9), (12, 0.02)), rest=1))
    assert events == [Start(0), Pause(40 * FRAME + 4800), End(40 * FRAME + 4800, "finish")]


def test_finish_while_speech_may_be_resuming() -> None:
    events = bare(run(PLAIN, plain((40, 0.9), (12, 0.02), (1, 0.9)), rest=1))
    assert events == [Start(0), Pause(40 * FRAME + 4800), End(53 * FRAME + 1, "finish")]


def test_finish_in_silence_or_at_once() -> None:
    assert run(PLAIN, plain((100, 0.02))) == []
    assert run(PLAIN, []) == []


def test_flush_cuts_speech_where_it_is_asked_for_and_the_next_utterance_begins_there() -> None:
    endpointer = Endpointer(PLAIN)
    for frame in plain((20, 0.9)):
        endpointer.push(*frame)
    assert endpointer.flush(20 * FRAME + 100) == [End(20 * FRAME + 100, "flush")]
    # Speech that goes on has to be long enough to begin an utterance, and loses nothing before that.
    assert [endpointer.push(0.9, 0.1) for _ in range(3)] == [[], [], [Start(20 * FRAME + 100)]]


def test_flush_in_a_pause_and_in_silence() -> None:
    endpointer = Endpointer(PLAIN)
    for frame in plain((20, 0.9), (12, 0.02)):
        endpointer.push(*frame)
    assert endpointer.flush(32 * FRAME) == [End(20 * FRAME + 4800, "flush")]
    assert endpointer.flush(32 * FRAME) == []
    assert endpointer.finish(32 * FRAME) == []


@pytest.mark.parametrize("samples", [10 * FRAME - 1, 11 * FRAME])
def test_finish_where_the_input_is_not(samples: int) -> None:
    endpointer = Endpointer(PLAIN)
    for _ in range(10):
        endpointer.push(0.0, 0.0)
    with pytest.raises(ValueError, match=f"finish at {samples}, but the frames pushed end at 5120"):
        endpointer.finish(samples)


def test_pre_roll_stops_at_the_utterance_before() -> None:
    config = EndpointConfig(min_silence=0.32, pre_roll=0.5)
    events = bare(run(config, plain((40, 0.9), (10, 0.02), (40, 0.9))))
    end = 40 * FRAME + 4800
    assert events == [Start(0), Pause(end), End(end, "silence"), Start(end), End(90 * FRAME, "finish")]


def test_speech_that_goes_on_makes_a_pause_void() -> None:
    events = bare(run(PLAIN, plain((40, 0.9), (12, 0.02), (20, 0.9), (40, 0.02))))
    assert events == [
        Start(0),
        Pause(40 * FRAME + 4800),
        Resume(),
        Pause(72 * FRAME + 4800),
        End(72 * FRAME + 4800, "silence"),
    ]


def test_hysteresis() -> None:
    """Between `release` and `threshold` speech goes on but does not begin."""
    assert run(PLAIN, plain((100, 0.45))) == []
    events = bare(run(PLAIN, plain((5, 0.9), (60, 0.4), (40, 0.3))))
    assert events == [Start(0), Pause(65 * FRAME + 4800), End(65 * FRAME + 4800, "silence")]


@pytest.mark.parametrize(("frames", "starts"), [(1, 0), (2, 0), (3, 1)])
def test_clicks_make_no_utterance(frames: int, starts: int) -> None:
    """0.1 s is three frames."""
    events = run(PLAIN, plain((20, 0.02), (frames, 0.95), (20, 0.02)) * 4)
    assert sum(isinstance(event, Start) for event in bare(events)) == 4 * starts


def test_a_click_in_a_pause_does_not_keep_the_utterance_open() -> None:
    silence = ((10, 0.02), (2, 0.9), (30, 0.02))
    events = bare(run(PLAIN, plain((40, 0.9), *silence)))
    assert events == [Start(0), Pause(40 * FRAME + 4800), End(40 * FRAME + 4800, "silence")]


def test_a_burst_right_after_speech_belongs_to_it() -> None:
    """As in a final plosive: closed for 100 ms, then one frame of noise."""
    events = bare(run(PLAIN, plain((40, 0.9), (3, 0.02), (1, 0.8), (40, 0.02))))
    assert utterances(events) == [(0, 44 * FRAME + 4800, "silence")]


def test_a_long_utterance_is_cut_where_speech_is_least_likely() -> None:
    config = EndpointConfig(max_utterance=10, cut_search=4)
    dip = 250  # frame; 8 s
    frames = plain((400, 0.9))
    frames[dip - 1 : dip + 2] = [(0.2, 0.09)] * 3
    frames[dip + 20] = (0.9, 0.0)  # quieter, but speech
    cut = dip * FRAME + FRAME // 2
    at = 10 * RATE // FRAME * FRAME  # one more frame would be too long
    assert run(config, frames)[1:3] == [(at, End(cut, "cut")), (at, Start(cut))]


def test_a_long_utterance_is_cut_where_it_is_softest() -> None:
    config = EndpointConfig(max_utterance=10, cut_search=4)
    frames = [(0.97 + 0.02 * (i % 2), 0.1) for i in range(400)]
    frames[220:223] = [(0.99, 0.01)] * 3
    frames[290] = (0.99, 0.0)  # within the last second, which the next utterance needs
    cut = 221 * FRAME + FRAME // 2
    assert End(cut, "cut") in bare(run(config, frames))


def test_a_long_utterance_in_a_pause_ends_there() -> None:
    config = EndpointConfig(max_utterance=10, min_silence=5)
    speech = 9 * RATE // FRAME
    events = bare(run(config, plain((speech, 0.9), (100, 0.02))))
    assert events == [Start(0), Pause(speech * FRAME + 4800), End(speech * FRAME + 4800, "silence")]


def test_sessions_do_not_share_anything() -> None:
    first, second = Endpointer(PLAIN), Endpointer(PLAIN)
    for _ in range(10):
        first.push(0.9, 0.1)
    assert second.push(0.9, 0.1) == []
    assert second.finish(FRAME) == []


# ----------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 0.0),
        ("threshold", 1.0),
        ("release", -1),
        ("min_speech", 0.6),
        ("pre_roll", -0.1),
        ("hangover", 6),
        ("min_silence", 0),
        ("max_utterance", 2.9),
        ("max_utterance", 61),
        ("cut_search", 0.1),
        ("min_silence", float("nan")),
        ("min_silence", float("inf")),
        ("min_silence", "0.6"),
        ("min_silence", True),
        ("min_silence", None),
    ],
)
def test_values_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^endpoint {field} .* is out of range; allowed: \S+ to \S+$"):
        EndpointConfig(**{field: value})  # type: ignore[arg-type]


def test_values_that_limit_each_other() -> None:
    """A caller who changes one value need not know the others."""
    events = bare(run(EndpointConfig(min_silence=0.1), plain((40, 0.9), (40, 0.02))))
    assert events == [Start(0), Pause(40 * FRAME + 1600), End(40 * FRAME + 1600, "silence")]
    assert bare(run(EndpointConfig(threshold=0.2), plain((40, 0.25), (40, 0.19))))[0] == Start(0)
    cut = utterances(bare(run(EndpointConfig(max_utterance=3), plain((100, 0.9)))))[0]
    assert RATE * 1.5 <= cut[1] <= RATE * 3


# ----------------------------------------------------------------- invariants

PROBABILITIES = st.sampled_from([0.0, 0.02, 0.3, 0.34, 0.35, 0.4, 0.49, 0.5, 0.7, 0.99, 1.0])
STRETCHES = st.lists(st.tuples(st.integers(1, 4) | st.integers(1, 120), PROBABILITIES, st.floats(0, 1)), max_size=40)
"""(frames, probability, level)"""


@st.composite
def configs(draw: st.DrawFn) -> EndpointConfig:
    return EndpointConfig(
        threshold=draw(st.floats(0.01, 0.99)),
        release=draw(st.floats(0.01, 0.99)),
        min_speech=draw(st.floats(0, 0.5)),
        pre_roll=draw(st.floats(0, 1)),
        hangover=draw(st.floats(0, 5)),
        min_silence=draw(st.floats(0.1, 10)),
        max_utterance=draw(st.floats(3, 12)),
        cut_search=draw(st.floats(0.5, 30)),
    )


@settings(deadline=None, max_examples=300)
@given(st.just(PLAIN) | configs(), STRETCHES, st.integers(0, FRAME - 1))
def test_invariants(config: EndpointConfig, stretches: list[tuple[int, float, float]], rest: int) -> None:
    frames = [(probability, level) for count, probability, level in stretches for _ in range(count)]
    timed = run(config, frames, rest)
    events = bare(timed)
    total = len(frames) * FRAME + rest
    found = utterances(events)

    boundary = 0
    for start, end, _ in found:  # nothing overlaps, nothing is empty, nothing lies outside the session
        assert boundary <= start < end <= total
        assert end - start <= config.max_utterance * RATE
        boundary = end

    search = min(config.cut_search, config.max_utterance / 2)
    open_pause: int | None = None
    for index, (at, event) in enumerate(timed):
        following = events[index + 1] if index + 1 < len(events) else None
        match event:
            case Start(sample):
                assert open_pause is None
                assert sample <= at
                assert sample >= at - RATE * max(config.pre_roll + config.min_speech + 0.02, search) - FRAME
            case Pause(sample):
                assert open_pause is None
                assert sample <= at
                open_pause = sample
                assert isinstance(following, Resume | End)
            case Resume():
                assert open_pause is not None
                open_pause = None
            case End(sample, "silence"):
                assert sample == open_pause
                open_pause = None
            case End(sample, "cut"):
                assert open_pause is None
                assert following == Start(sample)
                assert at - RATE * search - FRAME <= sample <= at - RATE * min(1, search / 2)
            case End(sample, _):
                assert sample in (total, open_pause)
                assert following is None
                open_pause = None

    # Speech that lasts is in an utterance, whole.
    need = max(1, round(config.min_speech * RATE / FRAME))
    release = min(config.release, config.threshold)
    inside = np.zeros(total, bool)
    for start, end, _ in found:
        inside[start:end] = True
    active = 0
    for index, (probability, _) in enumerate(frames):
        active = active + 1 if probability >= (release if active else config.threshold) else 0
        if active >= need:
            assert inside[(index + 1 - active) * FRAME : (index + 1) * FRAME].all()


@settings(deadline=None, max_examples=300)
@given(st.just(PLAIN) | configs(), STRETCHES)
def test_no_speech_begins_before_what_is_settled(
    config: EndpointConfig, stretches: list[tuple[int, float, float]]
) -> None:
    endpointer, settled = Endpointer(config), 0
    for probability, level in [(probability, level) for count, probability, level in stretches for _ in range(count)]:
        for event in endpointer.push(probability, level):
            if isinstance(event, Start):
                assert event.sample + round(config.pre_roll * RATE) >= settled
        assert settled <= endpointer.settled
        settled = endpointer.settled
    endpointer.finish(FRAME * sum(count for count, _, _ in stretches))
    assert settled <= endpointer.settled


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 30)), max_size=30))
def test_no_burst_shorter_than_min_speech_starts(bursts: list[tuple[int, int]]) -> None:
    frames = plain(*(part for on, off in bursts for part in ((on, 1.0), (off, 0.3))))
    assert run(PLAIN, frames) == []


@given(STRETCHES, st.integers(0, 500))
def test_silence_before_only_shifts(stretches: list[tuple[int, float, float]], silence: int) -> None:
    """Nothing depends on how long the session has lasted."""
    frames = [(probability, level) for count, probability, level in stretches for _ in range(count)]
    lead = plain((silence + 40, 0.0))
    shift = silence * FRAME
    late = utterances(bare(run(PLAIN, lead + frames)))
    early = utterances(bare(run(PLAIN, plain((40, 0.0)) + frames)))
    assert late == [(start + shift, end + shift, reason) for start, end, reason in early]


# ---------------------------------------------------------------- real speech


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    samples, _ = soundfile.read(RECORDING, dtype="float32")
    return np.asarray(samples, np.float32)


def judged(samples: NDArray[np.float32]) -> list[tuple[float, float]]:
    """What the detector and the levels say of real audio."""
    vad = Vad(silero_weights.load())
    state = vad.new_state()
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    (probabilities,) = vad([frames.ravel()], [state])
    levels = np.sqrt(np.mean(np.square(frames), axis=1))
    return list(zip(probabilities.tolist(), levels.tolist(), strict=True))


def test_a_spoken_sentence_is_one_utterance_with_all_of_its_sound(speech: NDArray[np.float32]) -> None:
    quiet = np.zeros(RATE, np.float32)
    hiss = np.random.default_rng(0).normal(0, 0.001, len(speech) + 2 * RATE)
    samples = (np.concatenate((quiet, speech, quiet)) + hiss).astype(np.float32)
    frames = judged(samples)
    found = utterances(bare(run(PLAIN, frames)))
    assert len(found) == 1
    levels = np.array([level for _, level in frames])
    loud = np.flatnonzero(levels > 0.06 * np.percentile(levels, 95))
    start, end, reason = found[0]
    assert reason == "silence"
    assert start < loud[0] * FRAME
    assert end > (loud[-1] + 1) * FRAME


def test_noise_alone_is_silence() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 20 * RATE).astype(np.float32)
    assert run(PLAIN, judged(noise)) == []


def test_speech_without_a_pause_is_cut_between_words(speech: NDArray[np.float32]) -> None:
    """Repetitions that follow closely: each cut falls where the detector hears no speech and it is quiet."""
    frames = judged(np.tile(speech, 10))
    found = utterances(bare(run(EndpointConfig(min_silence=5, max_utterance=8), frames)))
    cuts = [end for _, end, reason in found if reason == "cut"]
    assert len(cuts) >= 2
    loud = float(np.percentile([level for _, level in frames], 95))
    for cut in cuts:
        probability, level = frames[cut // FRAME]
        assert probability < 0.1
        assert level < loud / 30
