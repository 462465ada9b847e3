"""How much memory a session takes: bounds that hold however long it lasts and however fast its client sends."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

import numpy as np
from parastream.model import SpeechModel
from parastream.model.config import ROW_SECONDS
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.endpoint import kept_seconds
from parastream.streaming.runner import Models
from parastream.streaming.session import SessionConfig
from parastream.streaming.vad import FRAME

COLLECTED = 1.0
"""Seconds of audio that a session accepts at a time. While its backlog is as long as this, it accepts none."""

_SPARE = 1.5  # how many times larger than its contents the array of samples may be


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """Bytes of the arrays of one session, at most."""

    network: int
    """What the streaming pass remembers of an utterance: keys, values and the inputs of filters. Nothing in between."""
    samples: int
    """Audio of utterances whose final is not there yet, or that the next utterance may reach back to."""
    states: int
    """The states of voice activity detection and of the frontend, and features of the open utterance."""

    @property
    def total(self) -> int:
        """All of them. Audio that the session has not accepted yet waits as the bytes it came in and is not counted."""
        return self.network + self.samples + self.states


def session_memory(models: Models, config: SessionConfig) -> SessionMemory:
    """Return what a session takes. Call it on the thread that runs the models: it makes a state and uses it."""
    vad = models.vad.new_state()
    models.vad([np.zeros(FRAME, np.float32)], [vad])
    utterance = config.endpoint.max_utterance
    network, frontend = (0, 0) if models.front is None else _of_windows(models.front, utterance)
    if models.front is not None and models.final is None:  # which then hears the features of windows once more
        frontend += 4 * models.front.frontend.config.row_size * int(utterance / ROW_SECONDS)
    held = max(utterance, kept_seconds(config.endpoint)) + 3 * COLLECTED
    return SessionMemory(
        network=network,
        samples=int(_SPARE * held * SAMPLE_RATE) * 4,
        states=frontend + array_bytes(vad),
    )


def _of_windows(speech: SpeechModel, utterance: float) -> tuple[int, int]:
    """Return the bytes of network and frontend for the windows of an utterance of so many seconds."""
    frontend = speech.frontend.new_state()
    window = np.zeros(speech.window_samples, np.float32)
    rows = [speech.frontend.step(window, frontend, final=False) for _ in range(2)][-1]
    network = 0
    if speech.config.streams:
        stream = speech.network.new_state()
        speech.network.step([rows], [stream], [False])
        network = array_bytes(stream)
        if speech.config.encoder_look_back < 0:  # all windows of the utterance are remembered
            encoder = speech.config.encoder
            longest = int(utterance / (speech.frontend.row_samples / SAMPLE_RATE)) + 1
            network += longest * encoder.num_blocks * 2 * encoder.size * speech.network.value_bytes
    return network, array_bytes(frontend)


def array_bytes(value: object) -> int:
    """Return the bytes of the arrays in a value made of dataclasses and sequences.

    A view counts as what it keeps alive.
    """
    match value:
        case np.ndarray(base=np.ndarray() as base):
            return int(base.nbytes)
        case list() | tuple() | deque():
            return sum(map(array_bytes, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(array_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return int(getattr(value, "nbytes", 0))
