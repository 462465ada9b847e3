"""Sessions on real speech with the real models: framing, endpoints, bad input, bounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.errors import ModelConfigError
from parastream.model.tokens import Tokens
from parastream.streaming import AudioFormat, Encoding, EndpointConfig, Models, SessionConfig
from parastream.streaming.events import (
    Event,
    Flushed,
    InputRejected,
    Partial,
    Progress,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
)
from parastream.streaming.runner import Runner
from parastream.streaming.vad import FRAME
from parastream.streaming.work import FinalWork, VadWork, WindowWork

from ..conftest import SAMPLE_TEXTS
from .driver import converse, drive, finals
from .scripted import ScriptedSession, hypothesis

Audio = NDArray[np.int16]
FLOATS = SessionConfig(format=AudioFormat(Encoding.F32LE))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def outline(events: list[Event]) -> list[tuple[str, float, float, tuple[object, ...]]]:
    return [(f.text, f.start, f.end, f.words) for f in finals(events)]


def test_three_sentences_become_three_punctuated_finals(models: Models, sample: Audio) -> None:
    events = converse(models, cut(sample.tobytes(), 3200), SessionConfig())
    assert [final.text for final in finals(events)] == SAMPLE_TEXTS
    assert events[-1] == SessionEnded(len(sample) / 16000)


def test_each_utterance_is_told_in_order_and_once(models: Models, sample: Audio) -> None:
    events = converse(models, cut(sample.tobytes(), 3200), SessionConfig())
    started = [e for e in events if isinstance(e, SpeechStarted)]
    ended = [e for e in events if isinstance(e, SpeechEnded)]
    assert [e.utterance for e in started] == [e.utterance for e in ended] == [0, 1, 2]
    assert [f.utterance for f in finals(events)] == [0, 1, 2]
    last_end = 0.0
    for start, final, end in zip(started, finals(events), ended, strict=True):
        assert last_end <= start.time == final.start < final.end == end.time
        last_end = final.end
        times = [t for word in final.words for t in (word.start, word.end)]
        assert times == sorted(times)
        assert final.start <= times[0]
        assert times[-1] <= final.end
        assert all(0 < word.confidence <= 1 for word in final.words)


@pytest.mark.parametrize("size", [3200, 1 << 20])
def test_a_flush_ends_the_utterance_there_and_loses_nothing(models: Models, sample: Audio, size: int) -> None:
    """It is asked for in the silence after the first sentence, before it is long enough, and in the middle of words."""
    runner = Runner(models)
    session = runner.new_session(SessionConfig())
    events: list[Event] = []
    borders = [int(3.2 * 16000), int(6.0 * 16000), len(sample)]
    for first, end in pairwise([0, *borders]):
        for piece in cut(sample[first:end].tobytes(), size):
            session.receive_audio(piece)
            if size == 3200:
                drive(runner, session)
                events += session.events()
        session.receive_flush()
    session.receive_end()
    drive(runner, session)
    events += session.events()
    ends = [end.time * 16000 for end in events if isinstance(end, SpeechEnded)]
    starts = [start.time * 16000 for start in events if isinstance(start, SpeechStarted)]
    assert len(ends) == 4
    assert ends[0] <= borders[0]
    assert finals(events)[0].text == SAMPLE_TEXTS[0]
    assert ends[1] == starts[2] == pytest.approx(borders[1], abs=8)
    flushes = [(index, event.time) for index, event in enumerate(events) if isinstance(event, Flushed)]
    assert [time * 16000 for _, time in flushes] == pytest.approx(borders, abs=8)  # half a millisecond
    for index, time in flushes:  # everything before it has been told
        assert all(f in events[:index] for f in finals(events) if f.end <= time)
    assert isinstance(events[-1], SessionEnded)


def test_stable_text_only_grows(models: Models, sample: Audio) -> None:
    events = converse(models, cut(sample.tobytes(), 3200), SessionConfig())
    partials = [e for e in events if isinstance(e, Partial)]
    assert {p.utterance for p in partials} == {0, 1, 2}
    for before, after in pairwise(partials):
        if before.utterance == after.utterance:
            assert after.stable.startswith(before.stable)
    assert all(p.draft for p in partials)


@pytest.fixture(scope="module")
def two_sentences(sample: Audio) -> bytes:
    return sample[: 8 * 16000 + 8000].tobytes()


@pytest.fixture(scope="module")
def expected(models: Models, two_sentences: bytes) -> dict[bool, list[tuple[str, float, float, tuple[object, ...]]]]:
    found = {
        final_pass: outline(converse(models, [two_sentences], SessionConfig(final_pass=final_pass)))
        for final_pass in (True, False)
    }
    assert [text for text, *_ in found[True]] == SAMPLE_TEXTS[:2]
    return found


FRAMINGS = st.one_of(
    st.lists(st.integers(1, 8001), min_size=1, max_size=12),
    st.sampled_from([[1] * 999 + [50_000], [3] * 500 + [7777], [1, 200_000], [960], [1919, 1921], [200_000]]),
)
"""The sizes of pieces, in bytes, again and again. Each piece of a byte costs as much as one of a second."""


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=FRAMINGS, final_pass=st.booleans())
def test_any_framing_gives_the_same_text_and_times(
    models: Models,
    two_sentences: bytes,
    expected: dict[bool, list[tuple[str, float, float, tuple[object, ...]]]],
    sizes: list[int],
    final_pass: bool,
) -> None:
    data, pieces, i = two_sentences, [], 0
    while data:
        pieces.append(data[: sizes[i % len(sizes)]])
        data = data[len(pieces[-1]) :]
        i += 1
    events = converse(models, pieces, SessionConfig(final_pass=final_pass))
    assert outline(events) == expected[final_pass]


def test_a_session_without_audio_only_ends(models: Models) -> None:
    assert converse(models, [], SessionConfig()) == [SessionEnded(0.0)]


def test_less_than_a_vad_frame_of_audio(models: Models, sample: Audio) -> None:
    events = converse(models, [sample[:96].tobytes()], SessionConfig())
    assert events == [Progress(96 / 16000, 0.0), SessionEnded(0.006)]


def test_speech_up_to_the_very_last_sample_is_kept(models: Models, sample: Audio) -> None:
    # The third speaker's last word ends about a second before the recording does.
    events = converse(models, [sample[: len(sample) - 18000].tobytes()], SessionConfig())
    assert finals(events)[-1].text == SAMPLE_TEXTS[-1]


def test_speech_from_the_first_sample_is_kept(models: Models, sample: Audio) -> None:
    (utterance,) = [f for f in finals(converse(models, [sample.tobytes()], SessionConfig())) if f.utterance == 1]
    speech = sample[int(16000 * utterance.start) : int(16000 * utterance.end)]
    (final,) = finals(converse(models, [speech.tobytes()], SessionConfig()))
    assert final.text == SAMPLE_TEXTS[1]


def test_five_minutes_of_silence_say_nothing_and_hold_no_memory(models: Models) -> None:
    runner = Runner(models)
    session = runner.new_session(SessionConfig())
    rng = np.random.default_rng(0)
    for _ in range(300):
        session.receive_audio(rng.integers(-3, 4, 16000).astype("<i2").tobytes())
        drive(runner, session)
    assert session.held_seconds < 15
    session.receive_end()
    drive(runner, session)
    assert session.events() == [SessionEnded(300.0)]


def test_an_endless_utterance_is_cut_and_keeps_its_words(models: Models, sample: Audio) -> None:
    endpoint = EndpointConfig(max_utterance=4, cut_search=2, min_silence=2)
    for final_pass in (True, False):
        config = SessionConfig(punctuate=False, final_pass=final_pass, endpoint=endpoint)
        events = converse(models, cut(sample.tobytes(), 3200), config)
        assert len(finals(events)) > 3
        assert all(f.end - f.start <= 4.0 for f in finals(events))
        assert " ".join(f.text for f in finals(events)) == (
            "enter one seventy six rubout GMEF three nine ten twenty seven sixty two"
        )


def test_partials_can_be_left_out(models: Models, sample: Audio) -> None:
    events = converse(models, [sample.tobytes()], SessionConfig(partials=False))
    assert not [e for e in events if isinstance(e, Partial)]
    assert [f.text for f in finals(events)] == SAMPLE_TEXTS


def test_bare_words_without_punctuation(models: Models, sample: Audio) -> None:
    events = converse(models, [sample.tobytes()], SessionConfig(punctuate=False))
    assert [f.text for f in finals(events)] == [
        "enter one seventy six",
        "rubout GMEF three nine",
        "ten twenty seven sixty two",
    ]


def test_half_a_sample_at_the_end_is_told_after_the_finals(models: Models, sample: Audio) -> None:
    events = converse(models, [sample.tobytes() + b"x"], SessionConfig())
    assert [f.text for f in finals(events)] == SAMPLE_TEXTS
    rejected, ended = events[-2:]
    assert isinstance(rejected, InputRejected)
    assert rejected.code == "incomplete_sample"
    assert "1 of the 2 bytes" in rejected.message
    assert isinstance(ended, SessionEnded)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_ends_the_input_but_loses_nothing(
    models: Models, sample: Audio, value: float
) -> None:
    samples = np.append(sample.astype("<f4") / 32768, np.float32(value))
    events = converse(models, [samples.tobytes(), samples.tobytes()], FLOATS)
    assert [f.text for f in finals(events)] == SAMPLE_TEXTS
    rejected, ended = events[-2:]
    assert isinstance(rejected, InputRejected)
    assert rejected.code == "invalid_audio"
    assert f"sample {len(sample)}" in rejected.message
    assert ended == SessionEnded(len(sample) / 16000)


def test_a_model_without_streaming_form_needs_the_final_pass(models: Models, speech: SpeechModel) -> None:
    offline = replace(speech, config=replace(speech.config, model="Paraformer"))
    runner = Runner(replace(models, front=offline))
    with pytest.raises(ModelConfigError, match="no streaming form"):
        runner.new_session(SessionConfig(final_pass=False))


def test_an_offline_model_still_gives_finals(models: Models, speech: SpeechModel, sample: Audio) -> None:
    offline = replace(models, front=replace(speech, config=replace(speech.config, model="Paraformer")))
    events = converse(offline, [sample.tobytes()], SessionConfig())
    assert not [e for e in events if isinstance(e, Partial)]
    assert [f.text for f in finals(events)] == SAMPLE_TEXTS


def test_a_pass_over_a_pause_is_void_when_speech_goes_on(models: Models) -> None:
    frames = [0.9] * 30 + [0.0] * 12 + [0.9] * 30 + [0.0] * 30
    session = ScriptedSession(models.speech, models.vad, SessionConfig(), []).session
    passes: list[FinalWork] = []
    for probability in frames:
        session.receive_audio(bytes(2 * FRAME))
        for work in session.work(max_vad_frames=1):
            match work:
                case VadWork():
                    session.apply_vad(work, np.array([probability], np.float32))
                case WindowWork():
                    session.apply_window(work, Tokens.none())
                case FinalWork():
                    passes.append(work)
    session.work()
    assert [work.wanted for work in passes] == [False, True]
    assert passes[0].utterance is passes[1].utterance
    assert [work.decided for work in passes] == [True, True]
    session.apply_final(passes[0], hypothesis())
    assert finals(session.events()) == []
    session.apply_final(passes[1], hypothesis())
    assert len(finals(session.events())) == 1
