"""What a session takes is what is stated, and does not grow."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from types import FunctionType, ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.streaming import EndpointConfig, Models, Session, SessionConfig
from parastream.streaming.memory import array_bytes, session_memory
from parastream.streaming.runner import Runner
from parastream.streaming.vad import VadState
from parastream.streaming.work import FinalWork, Utterance, VadWork, WindowWork, Work

from .driver import drive, steps

Audio = NDArray[np.int16]
SECOND = 16000


def hear(runner: Runner, session: Session, audio: Audio) -> Iterator[list[Work]]:
    """Does the work of a session that takes half a second at a time; yields what it has handed out before each step."""
    for start in range(0, len(audio), SECOND // 2):
        session.receive_audio(audio[start : start + SECOND // 2].tobytes())
        yield from steps(runner, session)


@pytest.mark.parametrize("max_utterance", [20.0, 4.0])
def test_a_session_takes_what_is_stated(models: Models, sample: Audio, max_utterance: float) -> None:
    endpoint = EndpointConfig(max_utterance=max_utterance, min_silence=10.0 if max_utterance > 10 else 0.6)
    config = SessionConfig(endpoint=endpoint)
    stated = session_memory(models, config)
    runner = Runner(models)
    session = runner.new_session(config)
    most = dict.fromkeys(("network", "samples", "states"), 0)
    newest: Utterance | None = None
    states: list[VadState] = []
    for work in hear(runner, session, np.tile(sample, 3)):
        for item in work:
            match item:
                case VadWork():
                    states = [item.state]
                case WindowWork() | FinalWork():
                    newest = item.utterance
        real = {
            "network": array_bytes(newest and newest.stream),
            "samples": int(session.held_seconds * SECOND) * 4,
            "states": array_bytes(states) + array_bytes(newest and [newest.frontend, newest.rows]),
        }
        most = {name: max(value, real[name]) for name, value in most.items()}
    assert most["network"] == stated.network
    assert stated.samples / 3 < most["samples"] <= stated.samples
    assert stated.states / 3 < most["states"] <= stated.states
    assert stated.total < 6e6


def test_a_model_that_remembers_everything_takes_more_the_longer_an_utterance_may_be(models: Models) -> None:
    speech = models.speech
    unlimited = replace(models, front=replace(speech, config=replace(speech.config, encoder_look_back=-1)))
    short, long = (
        session_memory(unlimited, SessionConfig(endpoint=EndpointConfig(max_utterance=seconds))).network
        for seconds in (10.0, 20.0)
    )
    encoder = speech.config.encoder
    assert long - short == pytest.approx(10 / 0.06 * encoder.num_blocks * 2 * encoder.size * 4, rel=0.01)


def reachable(session: Session, speech: SpeechModel) -> tuple[int, int]:
    """Objects that only this session keeps, and the bytes of the arrays among them."""
    shared = (type, ModuleType, FunctionType, Models, SpeechModel)
    seen = {id(speech)}
    waiting: list[object] = [session]
    objects: list[object] = []
    while waiting:
        value = waiting.pop()
        if id(value) not in seen and not isinstance(value, shared):
            seen.add(id(value))
            objects.append(value)
            waiting += gc.get_referents(value)
    return len(objects), sum(value.nbytes for value in objects if isinstance(value, np.ndarray) and value.base is None)


def test_three_minutes_leave_nothing_behind(models: Models, sample: Audio) -> None:
    """After each minute, in the same place of the same recording, a session holds what it held before."""
    runner = Runner(models)
    session = runner.new_session(SessionConfig())
    held = []
    finals = 0
    for _ in range(3):
        for _ in range(5):
            session.receive_audio(sample.tobytes())
            drive(runner, session)
            finals += len(session.events())
        held.append(reachable(session, models.speech))
    assert finals > 3 * 5 * 6
    objects, size = zip(*held, strict=True)
    assert max(objects) - min(objects) <= 10
    assert max(size) <= 1.1 * min(size)
