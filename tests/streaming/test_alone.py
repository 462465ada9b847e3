"""Whole utterances only: sessions and engines without a model for streaming windows, on a small SenseVoice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import load_final_pass, silero_weights
from parastream.model.errors import ModelConfigError
from parastream.streaming import Engine, EngineConfig, Models, SessionConfig, Transcriber, Vad
from parastream.streaming.endpoint import EndpointConfig
from parastream.streaming.events import Event, Final, Partial, SpeechEnded, SpeechStarted, Tags
from parastream.streaming.memory import session_memory
from parastream.streaming.runner import Listener, Runner
from parastream.streaming.work import FinalWork, VadWork

from .driver import finals
from .listening import talk

SENSEVOICE = Path(__file__).parents[1] / "reference" / "sensevoice" / "model"
LANGUAGES = ("zh", "en", "yue", "ja", "ko")


def load_alone() -> Models:
    return Models(None, Vad(silero_weights.load()), load_final_pass(SENSEVOICE, dtype="float32"))


@pytest.fixture(scope="module")
def alone() -> Models:
    return load_alone()


def hear(models: Models, config: SessionConfig, seconds: float, *, spoken: float) -> list[Event]:
    """What is told of noise that a script takes for speech until the second `spoken`."""
    runner = Runner(models)
    session = runner.new_session(config)
    noise = np.random.default_rng(3).normal(0, 3000, int(seconds * 16000)).astype("<i2")
    session.receive_audio(noise.tobytes())
    session.receive_end()
    judged = 0
    while work := session.work(max_vad_frames=1000):
        for item in work:
            match item:
                case VadWork():
                    places = 0.032 * np.arange(judged, judged + item.frames)
                    judged += item.frames
                    session.apply_vad(item, np.where(places < spoken, 0.9, 0.0).astype(np.float32))
                case FinalWork():
                    for _ in runner.run_finals([item], steps=3):
                        pass
                case other:
                    raise AssertionError(other)
    return session.events()


def test_an_utterance_gets_its_final_and_no_partials(alone: Models) -> None:
    told = hear(alone, SessionConfig(), 3.0, spoken=2.0)
    assert [type(event) for event in told[:3]] == [SpeechStarted, SpeechEnded, Final]
    final = told[2]
    assert isinstance(final, Final)
    assert final.text
    assert final.ear == "model"
    assert final.language in LANGUAGES
    assert not any(isinstance(event, Partial | Tags) for event in told)


def test_tags_and_the_language_are_for_who_asks(alone: Models) -> None:
    told = hear(alone, SessionConfig(tags=True, language="ko"), 3.0, spoken=2.0)
    kinds = [type(event) for event in told]
    place = kinds.index(Final)
    tags, final = told[place - 1 : place + 1]
    assert isinstance(tags, Tags)
    assert isinstance(final, Final)
    assert (tags.utterance, final.language) == (0, "ko")
    assert tags.emotion or tags.sound


def test_no_marks_are_no_marks(alone: Models) -> None:
    """SenseVoice writes plainly by itself, so nothing is taken off its text afterwards."""
    plain, marked = (
        [final.text for final in finals(hear(alone, SessionConfig(punctuate=marks), 3.0, spoken=2.0))]
        for marks in (False, True)
    )
    assert plain != marked


@pytest.mark.parametrize(("asked", "longest"), [(60.0, 30.0), (20.0, 20.0)])
def test_utterances_are_no_longer_than_the_model_takes(alone: Models, asked: float, longest: float) -> None:
    config = SessionConfig(endpoint=EndpointConfig(max_utterance=asked))
    lengths = [final.end - final.start for final in finals(hear(alone, config, 62.0, spoken=62.0))]
    assert all(length <= longest for length in lengths)
    assert max(lengths) > longest - 7  # cuts look back 6 s


def test_what_cannot_be_had_is_refused(alone: Models) -> None:
    runner = Runner(alone)
    with pytest.raises(ModelConfigError, match="does not know the language 'fr'; it knows zh, en, yue, ja, ko"):
        runner.new_session(SessionConfig(language="fr"))
    with pytest.raises(ModelConfigError, match="the model has no streaming form; ask for the final pass too"):
        runner.new_session(SessionConfig(final_pass=False))


def test_who_listens(alone: Models, models: Models) -> None:
    assert alone.name == "model"
    (only,) = alone.listeners
    assert only[:-1] == ("model", LANGUAGES, False, True)
    assert only.computing.compute == "mlx"
    assert models.listeners == (Listener("asr-small-en", ("en",), True, True, models.speech.computing),)
    both = Models(models.front, models.vad, alone.final, None, alone.final)
    assert [(each.partials, each.finals) for each in both.listeners] == [(True, False), (False, True), (False, True)]


def test_memory_without_windows(alone: Models) -> None:
    memory = session_memory(alone, SessionConfig())
    assert memory.network == 0
    assert 0 < memory.states < 10_000


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(load_alone, EngineConfig(target_utilisation=math.inf))
    engine.start()
    engine.wait_ready(60)
    yield engine
    engine.close()


def test_the_engine_serves_it(engine: Engine, sample: NDArray[np.int16]) -> None:
    (listener,) = talk(engine, [sample])
    heard = finals(listener.events)
    assert len(heard) == 3
    assert all(final.ear == "model" for final in heard)
    assert any(final.text for final in heard)


def test_a_recording(alone: Models, sample: NDArray[np.int16]) -> None:
    transcriber = Transcriber(None, punctuation=None, final=alone.final, vad=alone.vad)
    transcript = transcriber.transcribe(sample.astype(np.float32) / 32768, 16000)
    assert len(transcript.utterances) == 3
