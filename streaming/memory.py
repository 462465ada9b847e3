"""What a session takes: bounds that hold however long it lasts and however fast its client sends."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

import numpy as np
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.endpoint import kept_seconds
from parastream.streaming.runner import Models
from parastream.streaming.session import SessionConfig
from parastream.streaming.vad import FRAME

COLLECTED = 1.0
"""Seconds of audio that a session takes at a time, and backlog from which on it takes none."""

_SPARE = 1.5  # samples are kept in an array that may be so many times larger than what it has to hold


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """Bytes of the arrays of one session, at most."""

    network: int
    """What the streaming pass remembers of an utterance: keys and values, inputs of filters; none between two."""
    features: int
    """Rows of an utterance that has ended, and of a pause in the next one, that wait for full-context passes."""
    samples: int
    """Audio of the utterances that are not told yet, or what the next one may refer back to."""
    states: int
    """Of voice activity and frontend."""

    @property
    def total(self) -> int:
        """All of them. What has come in but was not taken yet waits besides, as the bytes it came in."""
        return self.network + self.features + self.samples + self.states


def session_memory(models: Models, config: SessionConfig) -> SessionMemory:
    """States what a session takes; on the thread that runs the models, because it makes a state and uses it."""
    speech = models.speech
    frontend, vad = speech.frontend.new_state(), models.vad.new_state()
    window = np.zeros(speech.window_samples, np.float32)
    rows = [speech.frontend.step(window, frontend, final=False) for _ in range(2)][-1]
    models.vad([np.zeros(FRAME, np.float32)], [vad])
    utterance = config.endpoint.max_utterance
    longest = int(utterance / (speech.frontend.row_samples / SAMPLE_RATE)) + 1
    network = 0
    if speech.config.streams:
        stream = speech.network.new_state()
        speech.network.step([rows], [stream], [False])
        network = array_bytes(stream)
        if speech.config.encoder_look_back < 0:  # all windows of the utterance are remembered
            encoder = speech.config.encoder
            network += longest * encoder.num_blocks * 2 * encoder.size * stream.encoder.memory.itemsize
    held = max(utterance, kept_seconds(config.endpoint)) + 3 * COLLECTED
    return SessionMemory(
        network=network,
        features=2 * longest * rows.shape[1] * rows.itemsize,
        samples=int(_SPARE * held * SAMPLE_RATE) * 4,
        states=array_bytes(frontend) + array_bytes(vad),
    )


def array_bytes(value: object) -> int:
    """Bytes of the arrays in a value made of dataclasses and sequences. A view counts as what it keeps alive."""
    match value:
        case np.ndarray(base=np.ndarray() as base):
            return int(base.nbytes)
        case list() | tuple() | deque():
            return sum(map(array_bytes, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(array_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return int(getattr(value, "nbytes", 0))
