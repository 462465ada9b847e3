"""What a session asks to have computed, and the utterances that the work is about."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ROW_SECONDS
from parastream.model.final_pass import Hypothesis
from parastream.model.frontend import FrontendState
from parastream.model.hotwords import Hotwords
from parastream.model.punctuation import Context
from parastream.model.stream_state import StreamState
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.events import EndReason
from parastream.streaming.heard import Heard
from parastream.streaming.observer import FinalTiming
from parastream.streaming.refinement import Refinement
from parastream.streaming.vad import FRAME, VadState

if TYPE_CHECKING:
    from parastream.streaming.session import Session

Float32 = NDArray[np.float32]


@dataclass(eq=False, slots=True)
class VadWork:
    """Speech probabilities of the next frames; the result is one of each, (n,)."""

    session: Session
    samples: Float32
    """(n · 512,), with n at least 1."""
    state: VadState

    @property
    def frames(self) -> int:
        """How many frames."""
        return len(self.samples) // FRAME


@dataclass(eq=False, slots=True)
class WindowWork:
    """The next streaming window of an utterance; the result is the `Tokens` it adds."""

    session: Session
    utterance: Utterance
    samples: Float32
    """(N,) its new ones."""
    frontend: FrontendState
    """What its features begin with."""
    stop: int
    """Session sample at which it ends."""
    last: bool
    audio_in: float
    """When the last audio that it needs arrived."""
    rows: Float32 | None = None
    """Its new rows of features (n, row_size), once they are computed."""

    @property
    def heard(self) -> Heard:
        """What the windows before have heard."""
        assert self.utterance.heard is not None, "an utterance without a model for windows has one"
        return self.utterance.heard

    @property
    def wanted(self) -> bool:
        """Whether the result still matters; if not, `Session.skip` may take the place of `Session.apply_window`."""
        return not (self.session.config.final_pass and self.utterance.end is not None)


class Ear(Enum):
    """Which final pass."""

    FIRST = auto()
    """The one that every utterance gets."""
    BETTER = auto()
    """One that hears better but costs more, for where there is room."""


@dataclass(eq=False, slots=True)
class FinalWork:
    """A final pass over an utterance; the result is a `Hypothesis`."""

    session: Session
    utterance: Utterance
    samples: Float32
    """(N,) the whole utterance."""
    end: int
    """Session sample at which the utterance is taken to end."""
    ear: Ear
    hotwords: Hotwords = ()
    alone: bool = True
    """Whether no other ear hears it."""
    refines: bool = False
    """Whether it refines partials of an utterance that is open; the final needs another pass."""
    audio_in: float = 0.0
    """When the last audio arrived that it hears, if it refines partials."""
    draft: tuple[int, ...] = ()
    """Tokens that the ear may well hear, likewise: finals do not depend on what was heard of partials."""

    @property
    def refinement(self) -> Refinement:
        """What is being refined."""
        assert self.utterance.refinement is not None
        return self.utterance.refinement

    @property
    def fresh(self) -> int:
        """How many of its samples were not heard when the partials were refined the time before."""
        return self.end - self.refinement.asked

    @classmethod
    def refining(
        cls, session: Session, utterance: Utterance, samples: Float32, end: int, hotwords: Hotwords, audio_in: float
    ) -> FinalWork:
        """Return the work of the better ear on an utterance that is open, as far as it has been spoken."""
        return cls(
            session,
            utterance,
            samples,
            end,
            Ear.BETTER,
            hotwords,
            alone=False,
            refines=True,
            audio_in=audio_in,
            draft=utterance.refinement.tokens if utterance.refinement is not None else (),
        )

    @property
    def rows(self) -> int:
        """How many rows of features it is over, of 60 ms each."""
        return max(1, round(len(self.samples) / (ROW_SECONDS * SAMPLE_RATE)))

    @property
    def better(self) -> bool:
        """Whether the utterance can do without it."""
        return self.ear is Ear.BETTER

    @property
    def decided(self) -> bool:
        """Whether the utterance has ended; else the pass runs ahead, in a pause that may not last."""
        return self.utterance.end is not None

    @property
    def wanted(self) -> bool:
        """Whether the result still matters; if not, it need not be computed."""
        if self.refines:
            return self.utterance.end is None and not self.session.ended
        return self.utterance.pass_end == self.end and not (self.better and self.utterance.forgone)


@dataclass(eq=False, slots=True)
class PunctuationWork:
    """Marks for a finished utterance; the result is the marked words and the next context."""

    session: Session
    utterance: Utterance
    said: Hypothesis
    """What was said in it, without marks."""
    context: Context
    end: bool
    """Whether the utterance ends a sentence (it was not cut off)."""

    @property
    def words(self) -> list[str]:
        """Its words."""
        return [word.text for word in self.said.words]


Work = VadWork | WindowWork | FinalWork | PunctuationWork


@dataclass(slots=True)
class Timeline:
    """When an utterance passed the stations on its way; see `FinalTiming`. The session stamps what it knows itself."""

    audio_in: float = 0.0
    decided: float = 0.0
    done: float = 0.0
    marked: float = 0.0
    begun: float | None = None
    """Stamped by whoever runs the pass, as are the following."""
    overtaken: int = 0
    overtaken_seconds: float = 0.0
    ahead: bool = False


@dataclass(eq=False)
class Utterance:
    """One stretch of speech from its start to its final text."""

    index: int
    start: int
    """Session sample at which its audio begins."""
    frontend: FrontendState | None
    """None once there are no more windows, or where there are none at all."""
    heard: Heard | None
    """What the streaming pass has heard, where there is one."""
    stream: StreamState | None = None
    """Made by whoever runs the first window: it holds MLX arrays."""
    fed: int = 0
    """Session sample up to which windows have been handed out."""
    due: int = 0
    """Session sample up to which windows should be handed out."""
    seen: int = 0
    """Session sample up to which the results of windows have come back."""
    end: int | None = None
    """Session sample at which its audio ends, once that is known."""
    reason: EndReason | None = None
    """Why it ended, once it has."""
    flushed: bool = False
    """Whether the streaming pass has seen its end."""
    pass_end: int | None = None
    """Where its audio ends for the full-context pass: a pause that may not last, or its end."""
    asked: dict[Ear, int] = field(default_factory=dict)
    """Where it ended in the pass that was handed out last."""
    hypotheses: dict[Ear, Hypothesis] = field(default_factory=dict)
    """The results of those passes, or of the streaming pass where there is no other."""
    forgone: bool = False
    """Whether it does without the better ear, which would be too late."""
    marking: bool = False
    """Whether its punctuation has been handed out."""
    refinement: Refinement | None = None
    """What the better ear makes of it while it is open, where there is room for that."""
    rows: list[Float32] = field(default_factory=list)
    """The features of its windows, kept by whoever runs them, if the final pass begins with the same."""
    windows_in: deque[float] = field(default_factory=deque)
    """When the audio arrived that made each window due which has not been handed out."""
    timeline: Timeline = field(default_factory=Timeline)

    def timing(self, session: str, told: float) -> FinalTiming:
        """Return the stations of its final, which has been told at an instant."""
        assert self.end is not None
        assert self.reason is not None
        timeline = self.timeline
        return FinalTiming(
            session=session,
            utterance=self.index,
            seconds=(self.end - self.start) / SAMPLE_RATE,
            reason=self.reason,
            audio_in=timeline.audio_in,
            decided=timeline.decided,
            begun=timeline.begun,
            overtaken=timeline.overtaken,
            overtaken_seconds=timeline.overtaken_seconds,
            done=timeline.done,
            marked=timeline.marked,
            told=told,
            ahead=timeline.ahead,
        )
