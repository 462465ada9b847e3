"""How the work of sessions is computed, in batches. Nothing here knows threads or scheduling, or owns a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from parastream.model import Punctuator, SpeechModel
from parastream.model.computing import Computing
from parastream.model.errors import NoRoomError
from parastream.model.final_pass import FinalInput, FinalPass
from parastream.model.paraformer_pass import ParaformerPass
from parastream.model.process import free_kept_memory
from parastream.model.punctuation import Context
from parastream.model.search.search import WordSearch
from parastream.streaming.aside import Begun
from parastream.streaming.replay import Replay
from parastream.streaming.session import Session, SessionConfig
from parastream.streaming.vad import FRAME, Vad
from parastream.streaming.work import Ear, FinalWork, PunctuationWork, VadWork, WindowWork, Work

logger = logging.getLogger("parastream.engine")

Judged = list[NDArray[np.float32]]
"""How likely it is that frames are speech, of each of several sessions."""
Marked = tuple[Sequence[str], Context]
"""The marked words of an utterance, and the context of the next one."""

UNRECOGNISABLE = "the recogniser could not deal with this audio"
"""What a session is told whose work failed."""

P = ParamSpec("P")
W = TypeVar("W", bound=Work)

_MANY = 16
"""Utterances that are computed side by side from which on a large batch takes about as long as a small one."""
_LANES = 2
"""Utterances that are taken to be computed side by side where no model hears windows."""
ALL_STEPS = 1 << 16
"""More than any pass takes."""


class Listener(NamedTuple):
    """A model that listens."""

    name: str
    languages: tuple[str, ...]
    partials: bool
    """Whether it hears streaming windows."""
    finals: bool
    """Whether it hears whole utterances."""
    computing: Computing


@dataclass(frozen=True)
class Models:
    """Everything that sessions share."""

    front: SpeechModel | None
    """Hears the streaming windows; None where only whole utterances are heard."""
    vad: Vad
    final: FinalPass | None = None
    """Hears every whole utterance; None where `front` does that too. One of the two is there."""
    punctuation: Punctuator | None = None
    """Sets marks in final text that has none of its own; None for bare words."""
    better: FinalPass | None = None
    """Hears whole utterances, too, where there is room; `model.choice` decides between the two."""
    search: WordSearch | None = None
    """Finds the words of `front`; None for one without a language model."""

    @property
    def speech(self) -> SpeechModel:
        """The model of the streaming windows, for who knows that there is one."""
        assert self.front is not None, "there is no model for streaming windows"
        return self.front

    @property
    def lanes(self) -> int:
        """How many utterances of a batch are computed side by side."""
        return _LANES if self.front is None else self.front.network.lanes

    @property
    def crowded(self) -> bool:
        """Whether a large batch takes about as long as a small one, as on a GPU."""
        return self.lanes >= _MANY

    @cached_property
    def finder(self) -> WordSearch | None:
        """What finds the words of `front`, where that is there."""
        return self.search or (None if self.front is None else WordSearch(self.front.tokenizer))

    @cached_property
    def first(self) -> FinalPass:
        """What hears every whole utterance."""
        return ParaformerPass(self.speech, self.finder) if self.final is None else self.final

    def check(self) -> None:
        """Compute something that has been computed before, with all the memory that there is; fail where that fails."""
        free_kept_memory()
        self.first.warm_up()

    @property
    def name(self) -> str:
        """Name of the model that partials come from, or else the finals."""
        return self.first.name if self.front is None else self.front.name

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        """All that listen."""
        found = [] if self.better is None else [_listener(self.better)]
        if self.final is not None:
            found.insert(0, _listener(self.final))
        if self.front is not None and (self.front.config.streams or self.final is None):
            front, hears_all = self.front, self.final is None
            found.insert(0, Listener(front.name, front.languages, front.config.streams, hears_all, front.computing))
        return tuple(found)


def _listener(ear: FinalPass) -> Listener:
    return Listener(ear.name, ear.capabilities.languages, partials=False, finals=True, computing=ear.computing)


class Runner:
    """Everything that computes: runs batches of work of one kind and gives each session its result."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._full = False  # of late there was no memory for utterances that begin
        self._ears = {Ear.FIRST: models.first}
        if models.better is not None:
            self._ears[Ear.BETTER] = models.better

    def warm_up(self) -> None:
        """Run every model once."""
        if self.models.front is not None:
            self.models.front.warm_up()
            self.models.front.network.plan()
        if self.models.final is not None:
            self.models.final.warm_up()
        if self.models.better is not None:
            self.models.better.warm_up()
        vad = self.models.vad
        vad([np.zeros(FRAME, np.float32)], [vad.new_state()])
        if self.models.punctuation is not None:
            self.models.punctuation.punctuate("warm up")

    @property
    def ears(self) -> Mapping[Ear, FinalPass]:
        """The final passes that there are."""
        return self._ears

    def new_session(self, config: SessionConfig, name: str = "", replay: Replay | None = None) -> Session:
        """Return a session on these models; see `Session` for what it goes on with."""
        return Session(
            config,
            self.models.front,
            self.models.vad.new_state(),
            punctuated=self.models.punctuation is not None,
            search=self.models.finder,
            ears={ear: final_pass.capabilities for ear, final_pass in self._ears.items()},
            name=name,
            replay=replay,
        )

    def judge(self, batch: Sequence[VadWork]) -> Judged:
        """Return how likely it is that each of the next frames of several sessions is speech; on any thread."""
        return self.models.vad([w.samples for w in batch], [w.state for w in batch])

    def run_vad(self, batch: Sequence[VadWork], judged: Begun[Judged] | None = None) -> None:
        """Judge the next frames of each of several sessions, unless `judge` has done that."""
        heard = self.judge(batch) if judged is None else judged.result()
        for work, probabilities in zip(batch, heard, strict=True):
            _apply(work.session.apply_vad, work, probabilities)

    @property
    def features_anywhere(self) -> bool:
        """Whether `rows_of` may be called on any thread, since it needs no MLX."""
        return self.models.front is not None and not self.models.front.frontend.on_device

    def rows_of(self, batch: Sequence[WindowWork]) -> list[NDArray[np.float32]]:
        """Return the new rows of features of each window, which are computed once, and by one thread at a time."""
        frontend, todo = self.models.speech.frontend, [work for work in batch if work.rows is None]
        # One by one where it makes no difference: if one fails, those before it keep their rows.
        parts = [todo] if frontend.on_device else [[work] for work in todo]
        for part in parts:
            samples, states = [work.samples for work in part], [work.frontend for work in part]
            for work, rows in zip(part, frontend.steps(samples, states, [w.last for w in part]), strict=True):
                work.rows = rows
        return [work.rows for work in batch if work.rows is not None]

    def placed(self, batch: Sequence[WindowWork]) -> list[WindowWork]:
        """Give utterances that begin a state, and return all windows but those for whose states there is no memory."""
        full = False
        try:
            for work in batch:
                if work.utterance.stream is None:
                    work.utterance.stream = self.models.speech.network.new_state()
        except NoRoomError as error:
            full = True
            if not self._full:
                logger.warning("utterances that begin wait for others to end: %s", error)
        self._full = full
        return [work for work in batch if work.utterance.stream is not None]

    def run_windows(self, batch: Sequence[WindowWork], *, hurry: bool = False) -> None:
        """Compute one window for each of several utterances.

        `hurry`: from here on the utterances do without the language model, unless their finals depend on it.
        """
        if hurry:
            for work in batch:
                if work.session.config.final_pass:
                    work.heard.leave_model()
        network = self.models.speech.network
        # Copies, so that a batch that fails can be computed again.
        streams = [work.utterance.stream for work in batch]
        states = [network.new_state() if stream is None else stream.copy() for stream in streams]
        wanted = [work.heard.wanted for work in batch]
        rows = self.rows_of(batch)
        heard = network.step(rows, states, [w.last for w in batch], wanted)
        for work, state, new, tokens in zip(batch, states, rows, heard, strict=True):
            if self.models.final is None and work.session.config.final_pass:
                work.utterance.rows.append(new)
            work.utterance.stream = None if work.last or not work.wanted else state
            _apply(work.session.apply_window, work, tokens)

    def run_finals(self, batch: Sequence[FinalWork], *, steps: int) -> Generator[None]:
        """Compute final passes of one ear over several utterances, and yield after every few steps."""
        ear = self._ears[batch[0].ear]
        hypotheses = yield from ear.transcribe_in_slices(
            [
                FinalInput(
                    work.samples,
                    work.session.config.language,
                    work.hotwords,
                    marks=work.session.config.punctuate,
                    draft=work.draft,
                    alone=work.alone,
                    rows=() if work.better else work.utterance.rows,
                )
                for work in batch
            ],
            steps=steps,
        )
        for work, hypothesis in zip(batch, hypotheses, strict=True):
            apply = work.session.apply_refinement if work.refines else work.session.apply_final
            _apply(apply, work, hypothesis)

    def run_punctuation(self, batch: Iterable[PunctuationWork], begun: Begun[Marked] | None = None) -> None:
        """Set marks in several utterances, unless `mark` has done that."""
        for work in batch:
            marked, context = self.mark(work) if begun is None else begun.result()
            _apply(work.session.apply_punctuation, work, marked, context)

    def mark(self, work: PunctuationWork) -> Marked:
        """Return the marked words of an utterance and the next context; on any thread."""
        punctuation = self.models.punctuation
        assert punctuation is not None, "a session without a punctuation model asked for marks"
        return punctuation.mark_words(work.words, work.context, end=work.end)

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
                        for _ in self.run_finals([item], steps=ALL_STEPS):
                            pass
                    case PunctuationWork():
                        self.run_punctuation([item])


def refuse(work: Work) -> None:
    """End the session whose work cannot be computed; without the better ear it goes on."""
    if isinstance(work, FinalWork) and work.refines:
        work.refinement.over = True
    elif isinstance(work, FinalWork) and work.better:
        work.session.forgo(work.utterance)
    else:
        work.session.fail(UNRECOGNISABLE)


def _apply(apply: Callable[Concatenate[W, P], None], work: W, *results: P.args, **named: P.kwargs) -> None:
    """Give a session its result. One that cannot take it ends; the others of the batch get theirs."""
    try:
        apply(work, *results, **named)
    except Exception:
        logger.exception("session %s failed", work.session.name)
        work.session.fail(UNRECOGNISABLE)
