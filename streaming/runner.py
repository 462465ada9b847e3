"""How the work of sessions is computed, in batches. Nothing here knows threads or scheduling, or owns a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from parastream.model import Punctuator, SpeechModel
from parastream.streaming.session import Session, SessionConfig
from parastream.streaming.vad import FRAME, Vad
from parastream.streaming.work import FinalWork, PunctuationWork, VadWork, WindowWork, Work

logger = logging.getLogger("parastream.engine")

UNRECOGNISABLE = "the recogniser could not deal with this audio"
"""What a session is told whose work failed."""

P = ParamSpec("P")
W = TypeVar("W", bound=Work)


@dataclass(frozen=True)
class Models:
    """Everything that sessions share."""

    speech: SpeechModel
    """Hears the streaming windows."""
    vad: Vad
    final: SpeechModel | None = None
    """Hears whole utterances; None where `speech` does that too."""
    punctuation: Punctuator | None = None
    """Sets marks in final text; None for bare words."""


class Runner:
    """Everything that computes: runs batches of work of one kind and gives each session its result."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._final = models.final or models.speech

    def warm_up(self) -> None:
        """Run every model once."""
        self.models.speech.warm_up()
        if self.models.final is not None:
            self.models.final.warm_up()
        vad = self.models.vad
        vad([np.zeros(FRAME, np.float32)], [vad.new_state()])
        if self.models.punctuation is not None:
            self.models.punctuation.punctuate("warm up")

    @property
    def final_layers(self) -> int:
        """Encoder layers of a full-context pass."""
        return self._final.config.encoder.num_blocks

    def new_session(self, config: SessionConfig, name: str = "") -> Session:
        """Return a session on these models."""
        return Session(
            config,
            self.models.speech,
            self.models.vad.new_state(),
            punctuated=self.models.punctuation is not None,
            name=name,
        )

    def run_vad(self, batch: Sequence[VadWork]) -> None:
        """Judge the next frames of each of several sessions."""
        heard = self.models.vad([w.samples for w in batch], [w.state for w in batch])
        for work, probabilities in zip(batch, heard, strict=True):
            _apply(work.session.apply_vad, work, probabilities)

    def run_windows(self, batch: Sequence[WindowWork]) -> None:
        """Compute one window for each of several utterances."""
        network = self.models.speech.network
        # Copies, so that a batch that fails can be computed again.
        streams = [work.utterance.stream for work in batch]
        states = [network.new_state() if stream is None else stream.copy() for stream in streams]
        heard = network.step([w.features for w in batch], states, [w.last for w in batch])
        for work, state, tokens in zip(batch, states, heard, strict=True):
            work.utterance.stream = None if work.last or not work.wanted else state
            _apply(work.session.apply_window, work, tokens)

    def run_finals(self, batch: Sequence[FinalWork], *, layers: int) -> Generator[None]:
        """Compute full-context passes over several utterances, and yield after every few encoder layers."""
        network = self._final.network
        heard = yield from network.transcribe_in_slices([w.features for w in batch], layers=layers)
        for work, tokens in zip(batch, heard, strict=True):
            _apply(work.session.apply_final, work, tokens)

    def run_punctuation(self, batch: Iterable[PunctuationWork]) -> None:
        """Set marks in several utterances."""
        punctuation = self.models.punctuation
        for work in batch:
            assert punctuation is not None, "a session without a punctuation model asked for marks"
            marked, context = punctuation.mark_words(work.words, work.context, end=work.end)
            _apply(work.session.apply_punctuation, work, marked, context)

    def run_all(self, session: Session) -> None:
        """Do all the work that a session has, for a driver that has no other session."""
        while work := session.work():
            for item in work:
                match item:
                    case VadWork():
                        self.run_vad([item])
                    case WindowWork():
                        self.run_windows([item])
                    case FinalWork():
                        for _ in self.run_finals([item], layers=self.final_layers):
                            pass
                    case PunctuationWork():
                        self.run_punctuation([item])


def _apply(apply: Callable[Concatenate[W, P], None], work: W, *results: P.args, **named: P.kwargs) -> None:
    """Give a session its result. One that cannot take it ends; the others of the batch get theirs."""
    try:
        apply(work, *results, **named)
    except Exception:
        logger.exception("session %s failed", work.session.name)
        work.session.fail(UNRECOGNISABLE)
