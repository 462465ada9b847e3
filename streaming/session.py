"""One speaker's session as a state machine: audio in, events out, and in between the work it needs done.

    receive_audio ─▶ samples ─▶ VAD frames ─▶ endpoints ─▶ utterances ─▶ windows, final pass, marks ─▶ events

A session does no I/O and no inference. `work()` says what to compute next, `apply_…()` take the results, and
`events()` drains what to tell the client. Whoever drives it (an `Engine` for many sessions, a `Transcriber` for
a file) may batch the work of many sessions in any order; a session's own work is handed out so that its
results do not depend on how the audio was cut into messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.choice import believe, choose
from parastream.model.errors import ModelConfigError
from parastream.model.final_pass import Capabilities, Hypothesis
from parastream.model.hotwords import Hotwords
from parastream.model.punctuation import Context
from parastream.model.replacements import Replacements
from parastream.model.search.search import WordSearch
from parastream.model.tokens import Tokens
from parastream.streaming.audio import SAMPLE_RATE, AudioFormat, AudioInput
from parastream.streaming.endpoint import (
    End,
    EndpointConfig,
    Endpointer,
    EndpointEvent,
    Pause,
    Resume,
    Start,
    kept_seconds,
)
from parastream.streaming.events import (
    EndReason,
    Event,
    Flushed,
    InputRejected,
    Progress,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
    Tags,
)
from parastream.streaming.heard import Heard
from parastream.streaming.hearing import hearing
from parastream.streaming.observer import FinalTiming, PartialTiming
from parastream.streaming.refinement import Refinement
from parastream.streaming.rendering import (
    capitalised,
    continued,
    ends_sentence,
    session_time,
    spelled_words,
    unmarked,
)
from parastream.streaming.replay import Replay
from parastream.streaming.reports import final_of, partial_of, streamed_of
from parastream.streaming.sample_buffer import Arrivals, SampleBuffer
from parastream.streaming.vad import FRAME, VadState
from parastream.streaming.wording import replaced, with_numbers
from parastream.streaming.work import Ear, FinalWork, PunctuationWork, Utterance, VadWork, WindowWork, Work

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class SessionConfig:
    """What a client asked for."""

    format: AudioFormat = AudioFormat()
    partials: bool = True
    """Whether text is shown while an utterance lasts."""
    punctuate: bool = True
    """Whether final text gets marks and capitals."""
    itn: bool = False
    """Whether final text has numbers as people write them."""
    replacements: Replacements = Replacements()
    """What is to stand in place of words that were heard."""
    final_pass: bool = True
    """Whether final text comes from a full-context pass; otherwise it is what the streaming pass heard."""
    language: str | None = None
    """What is spoken, as an ISO 639 code that the final passes know; None: they find out."""
    tags: bool = False
    """Whether `Tags` are told, where a model knows them."""
    hotwords: Hotwords = ()
    """What is expected to be said."""
    endpoint: EndpointConfig = EndpointConfig()
    entitled: bool = True
    """Whether a second of its audio has a claim on being recognised each second; an uploaded recording has none."""


class _Phase(Enum):
    RECEIVING = auto()
    """Audio may still come."""
    FLUSHING = auto()
    """The input has ended; utterances are being finished."""
    ENDED = auto()
    """`SessionEnded` has been told."""


class Session:
    """One speaker's session; not thread-safe, belongs to whoever drives it."""

    def __init__(
        self,
        config: SessionConfig,
        speech: SpeechModel | None,
        vad: VadState,
        *,
        punctuated: bool,
        search: WordSearch | None = None,
        ears: Mapping[Ear, Capabilities] = MappingProxyType({}),
        name: str = "",
        replay: Replay | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin a session.

        Args:
            config: What the client asked for.
            speech: The model that hears its windows, if there is one.
            vad: A fresh state.
            punctuated: Whether there is a punctuation model.
            search: Finds the words of windows; where it is left out, they are the best tokens.
            ears: What the final passes can do.
            name: Names the session in `timings`.
            replay: What has been told already, if this goes on with a session of another engine.
            clock: Stamps the timings. Nothing that the session tells its client depends on it.

        Raises:
            ModelConfigError: Only the streaming pass was asked for, and the model has none; or the language is not
                among those of the final pass.
        """
        if not config.final_pass and (speech is None or not speech.config.streams):
            name = "the model" if speech is None else f"{speech.name} is a {speech.config.model}, which"
            raise ModelConfigError(f"{name} has no streaming form; ask for the final pass too")
        self.config = config
        self.name = name
        self.timings: Sequence[PartialTiming | FinalTiming] = ()
        """How long the partials and finals took that `events` returned last."""
        self.refines = False
        """Whether partials of utterances that begin from now on may be refined; whoever drives the session knows."""
        self._clock = clock
        self._arrivals = Arrivals()
        self._hotwords = config.hotwords
        self._input = AudioInput(config.format)
        self._phase = _Phase.RECEIVING
        self._samples = SampleBuffer()
        self._vad_state = vad
        self._vad_position = 0
        self._vad_busy = False
        earlier = Replay() if replay is None else replay
        heard = hearing(config.endpoint, config.language, ears if config.final_pass else {})
        self._endpointer = Endpointer(
            heard.endpoint,
            [round(time * SAMPLE_RATE) for time in earlier.begun],
            int(earlier.silent * SAMPLE_RATE),
        )
        self._utterances: deque[Utterance] = deque()
        self._utterance_count = 0
        self._flushes: deque[tuple[int, float]] = deque()  # samples at which to end the open utterance; when asked
        self._end_asked = 0.0
        self._flushed: deque[tuple[int, int]] = deque()  # those that took effect, and the utterances before each
        self._window_busy = False
        self._punctuate = config.punctuate and punctuated
        self._better = heard.better
        self._goes_on = earlier.goes_on  # whether the last utterance was cut in the middle of a sentence
        self._context = Context()
        self._rejected: InputRejected | None = None
        self._events: list[Event] = []
        self._heard: list[tuple[int, float, bool, bool]] = []  # as in `PartialTiming`: of partials in the events
        self._closed: list[Utterance] = []  # utterances whose finals are in the events
        self._progress = Progress(0.0, 0.0)
        streaming = speech is not None and speech.config.streams and (config.partials or not config.final_pass)
        self._front = speech if streaming else None  # hears windows
        self._search = None if self._front is None else search or WordSearch(self._front.tokenizer)
        self._keep = SAMPLE_RATE * kept_seconds(heard.endpoint)
        self._longest = int(heard.endpoint.max_utterance * SAMPLE_RATE)

    # ------------------------------------------------------------------ input

    def receive_audio(self, data: bytes, arrived: float | None = None) -> None:
        """Take audio bytes of any length, which arrived now unless said otherwise.

        Unusable audio ends the input; what came before it is recognised.
        """
        if self._phase is not _Phase.RECEIVING:
            return
        self._take(self._input.push(data), self._clock() if arrived is None else arrived)
        if self._input.error is not None:
            self.reject("invalid_audio", str(self._input.error))

    def _take(self, samples: Float32, arrived: float) -> None:
        if len(samples):
            self._samples.append(samples)
            self._arrivals.add(self._samples.end, arrived)

    def receive_end(self, arrived: float | None = None) -> None:
        """End the input: what is left is recognised, then `SessionEnded` is told."""
        if self._phase is not _Phase.RECEIVING:
            return
        self._end_asked = self._clock() if arrived is None else arrived
        self._take(self._input.finish(), self._end_asked)
        self._phase = _Phase.FLUSHING
        if self._input.leftover and self._rejected is None:
            size = self.config.format.frame_bytes
            self._rejected = InputRejected(
                "incomplete_sample",
                f"the audio ends with {self._input.leftover} of the {size} bytes of a sample frame"
                f" ({self.config.format.encoding.value}, {self.config.format.channels} channel(s));"
                " those bytes were dropped",
            )
        self._finish_input()
        self._tell_finished()

    def receive_flush(self, arrived: float | None = None) -> None:
        """End the open utterance with the audio received so far; `Flushed` is told when that is done."""
        if self._phase is _Phase.RECEIVING:
            self._flushes.append((self._samples.end, self._clock() if arrived is None else arrived))
            if not self._vad_busy:
                self._flush()
            self._close_unmarked()

    def receive_hotwords(self, hotwords: Hotwords) -> None:
        """Expect other hotwords from here on, in the open utterance, too."""
        if self._phase is _Phase.RECEIVING:
            self._hotwords = hotwords
            for utterance in self._utterances:
                if utterance.end is None and utterance.heard is not None:
                    utterance.heard.expect(hotwords)

    def reject(self, code: str, message: str) -> None:
        """End the input because of what was wrong with it."""
        if self._phase is _Phase.RECEIVING:
            self._rejected = InputRejected(code, message)
            self.receive_end()

    def fail(self, message: str) -> None:
        """End the session at once because its work could not be done."""
        if self._phase is not _Phase.ENDED:
            self._phase = _Phase.ENDED
            self._events.append(InputRejected("internal_error", message))
            self._events.append(SessionEnded(session_time(self._samples.end)))

    @property
    def ended(self) -> bool:
        """Whether everything has been told."""
        return self._phase is _Phase.ENDED

    @property
    def received(self) -> float:
        """Seconds of audio that have come in: whole sample frames over their rate."""
        return self._input.frames_received / self.config.format.rate

    @property
    def backlog(self) -> float:
        """Seconds of audio that have come in but have not been looked at; see `Progress.time`.

        Audio whose final text is not there yet counts too, beyond one utterance of the longest kind. So a driver that
        takes no more audio while there is a backlog bounds what a session keeps.
        """
        return self.received - self._looked_at()

    def _looked_at(self) -> float:
        """Return up to which second everything has been told that can be told without more audio."""
        place = self._vad_position
        if self._utterances:
            oldest, newest = self._utterances[0], self._utterances[-1]
            if newest.end is None and self._front is not None and newest.seen < newest.due:
                place = newest.seen
            if oldest.end is not None:
                place = min(place, oldest.start + self._longest)
        if place == self._vad_position and self._samples.end - place < FRAME:
            return self.received
        # A window may become due after its audio has been told as looked at, when no window was due.
        return max(self._progress.time, min(place / SAMPLE_RATE, self.received))

    # ------------------------------------------------------------------- work

    def work(self, *, max_vad_frames: int = 20) -> list[Work]:
        """Return what can be computed now; each piece is handed out once and must come back by `apply_…`.

        At most `max_vad_frames` are judged at a time, so that windows are heard while their utterance lasts.
        """
        work: list[Work] = []
        if self.ended:
            return work
        frames = min((self._samples.end - self._vad_position) // FRAME, max_vad_frames)
        if frames and not self._vad_busy:
            self._vad_busy = True
            samples = self._samples[self._vad_position : self._vad_position + frames * FRAME]
            work.append(VadWork(self, samples, self._vad_state))
        for utterance in self._utterances:
            window = self._next_window(utterance)
            if window is not None:
                work.append(window)
            work += self._next_finals(utterance)
        marks = self._next_punctuation()
        if marks is not None:
            work.append(marks)
        return work

    def apply_vad(self, work: VadWork, probabilities: Float32) -> None:
        """Take the speech probability of each frame (n,)."""
        self._vad_busy = False
        frames = work.samples.reshape(-1, FRAME)
        levels = np.sqrt(np.vecdot(frames, frames) / FRAME)
        for probability, level in zip(probabilities.tolist(), levels.tolist(), strict=True):
            self._vad_position += FRAME
            self._follow(self._endpointer.push(probability, level))
            self._flush()
        self._drop_audio()
        self._finish_input()
        self._tell_finished()

    def apply_window(self, work: WindowWork, tokens: Tokens) -> None:
        """Take the tokens that a window adds."""
        self._window_busy = False
        work.utterance.seen = work.stop
        self._hear(work, tokens)
        self._tell_finished()

    def apply_final(self, work: FinalWork, hypothesis: Hypothesis) -> None:
        """Take what a final pass heard, which counts unless speech has gone on since."""
        if work.wanted:
            work.utterance.hypotheses[work.ear] = hypothesis
            work.utterance.timeline.done = self._clock()
        self._tell_finished()

    def forgo(self, utterance: Utterance) -> None:
        """Do without the better ear for an utterance: its final goes out as soon as it can."""
        utterance.forgone = True
        self._tell_finished()

    def apply_punctuation(self, work: PunctuationWork, marked: Sequence[str], context: Context) -> None:
        """Take the marked words, and the context for the next utterance."""
        self._context = context
        self._close(work.utterance, work.said, marked)
        self._tell_finished()

    def skip(self, work: WindowWork) -> None:
        """Take back a window that is not `wanted` any more."""
        assert not work.wanted
        self._window_busy = False

    @property
    def held_seconds(self) -> float:
        """Seconds of audio that the session has memory for; `session_memory` says how many there may be."""
        return self._samples.allocated / SAMPLE_RATE

    def events(self) -> list[Event]:
        """Return what has happened since the last call, in order; last, how far the session has come."""
        events, self._events = self._events, []
        self.timings = self._take_timings() if self._heard or self._closed else ()
        if not self.ended:
            progress = Progress(self._looked_at(), self._endpointer.settled / SAMPLE_RATE)
            if progress != self._progress:
                self._progress = progress
                events.append(progress)
        return events

    def _take_timings(self) -> list[PartialTiming | FinalTiming]:
        now = self._clock()
        timings: list[PartialTiming | FinalTiming] = [
            PartialTiming(self.name, index, audio_in, now, ahead, refined)
            for index, audio_in, ahead, refined in self._heard
        ]
        timings += (utterance.timing(self.name, now) for utterance in self._closed)
        self._heard, self._closed = [], []
        return timings

    def _tell_finished(self) -> None:
        self._close_unmarked()
        self._finish_session()

    # -------------------------------------------------------------- endpoints

    def _follow(self, endpoints: Sequence[EndpointEvent], asked: float | None = None) -> None:
        """Take endpoints of audio that has been judged, or that a client asked for at an instant."""
        audio_in = self._arrivals.at(self._vad_position) if asked is None else asked
        for event in endpoints:
            match event:
                case Start(sample):
                    self._begin(sample)
                case Pause(sample):
                    self._utterances[-1].pass_end = sample
                    self._utterances[-1].hypotheses.clear()
                case Resume():
                    self._utterances[-1].pass_end = None
                    self._utterances[-1].asked.clear()
                    self._utterances[-1].hypotheses.clear()
                case End(sample, reason):
                    self._end(self._utterances[-1], sample, reason, audio_in)
        utterance = self._utterances[-1] if self._utterances else None
        if utterance is not None and utterance.end is None and self._front is not None:
            # Fixed here, at the frame that completes a window, so that timing cannot change what is heard.
            hop = self._front.window_samples
            due = utterance.start + (self._vad_position - utterance.start) // hop * hop
            utterance.windows_in.extend([audio_in] * ((due - utterance.due) // hop))
            utterance.due = due

    def _begin(self, sample: int) -> None:
        utterance = self._new_utterance(self._utterance_count, sample)
        if self.refines and self._better and self._front is not None and self.config.partials:
            utterance.refinement = Refinement.begin(sample)
        self._utterances.append(utterance)
        self._events.append(SpeechStarted(self._utterance_count, session_time(sample)))
        self._utterance_count += 1

    def _new_utterance(self, index: int, start: int) -> Utterance:
        frontend = None if self._front is None else self._front.frontend.new_state()
        heard = None if self._search is None else Heard(self._search, self._hotwords)
        return Utterance(index, start, frontend, heard, fed=start, due=start, seen=start)

    def _end(self, utterance: Utterance, sample: int, reason: EndReason, audio_in: float) -> None:
        if reason == "cut" and self._front is not None and not self.config.final_pass:
            # Windows have gone on past the cut: what they heard there belongs to the next utterance.
            hop = self._front.window_samples
            utterance = self._utterances[-1] = self._new_utterance(utterance.index, utterance.start)
            utterance.due = utterance.start + (sample - utterance.start) // hop * hop
            utterance.windows_in.extend([audio_in] * ((utterance.due - utterance.start) // hop))
        utterance.timeline.audio_in, utterance.timeline.decided = audio_in, self._clock()
        utterance.end, utterance.reason = sample, reason
        if self.config.final_pass:  # there are no more windows
            utterance.stream = utterance.frontend = None
        if utterance.pass_end != sample:
            utterance.pass_end = sample
            utterance.hypotheses.clear()

    def _flush(self) -> None:
        """End the open utterance where a client wanted it, once the last whole frame before has been judged."""
        while self._flushes and self._flushes[0][0] - self._vad_position < FRAME:
            sample, asked = self._flushes.popleft()
            self._follow(self._endpointer.flush(sample), asked)
            self._flushed.append((sample, self._utterance_count))

    def _finish_input(self) -> None:
        """End the open utterance once the last whole frame has been judged."""
        if self._phase is _Phase.FLUSHING and self._samples.end - self._vad_position < FRAME:
            if self._vad_busy:
                return
            self._follow(self._endpointer.finish(self._samples.end), self._end_asked)

    def _drop_audio(self) -> None:
        oldest = min([self._vad_position - self._keep, *(u.start for u in self._utterances)])
        self._samples.drop_before(oldest)

    # ---------------------------------------------------------------- passes

    def _next_window(self, utterance: Utterance) -> WindowWork | None:
        if self._front is None or self._window_busy or utterance.flushed:
            return None
        hop = self._front.window_samples
        final_here = utterance.end is not None and self.config.final_pass
        if utterance.fed + hop <= utterance.due and not final_here:
            stop, last = utterance.fed + hop, False
        elif utterance.end is not None and not self.config.final_pass:
            stop, last = max(utterance.end, utterance.fed), True
            utterance.flushed = True
        else:
            return None
        samples = self._samples[utterance.fed : stop]
        assert utterance.frontend is not None
        utterance.fed = stop
        self._window_busy = True
        audio_in = utterance.timeline.audio_in if last else utterance.windows_in.popleft()
        return WindowWork(self, utterance, samples, utterance.frontend, stop, last, audio_in)

    def _hear(self, work: WindowWork, tokens: Tokens) -> None:
        utterance = work.utterance
        assert self._front is not None
        work.heard.take(tokens)
        if work.last:
            utterance.hypotheses[Ear.FIRST] = streamed_of(utterance, self._front, self.config.language, end=work.stop)
            utterance.timeline.done = self._clock()
        elif self.config.partials and utterance.end is None:
            if utterance.refinement is not None:
                utterance.refinement.follow(work.stop)
            if len(tokens):
                self._tell_partial(utterance, work.audio_in)

    def _tell_partial(self, utterance: Utterance, audio_in: float) -> None:
        """Tell what has been heard, thanks to audio that arrived at an instant."""
        assert self._front is not None
        self._events.append(partial_of(utterance, self._front, self.config.replacements))
        refined = (refinement := utterance.refinement) is not None and refinement.heard > refinement.start
        self._heard.append((utterance.index, audio_in, utterance.timeline.ahead, refined))

    # ------------------------------------------------------------- refinement

    def refinable(self, *, every: int) -> FinalWork | None:
        """Return what the better ear could hear of an open utterance, if that is so many samples more than before.

        Whoever has it heard begins with `Refinement.ask`, and then comes `apply_refinement`.
        """
        utterance = self._utterances[-1] if self._utterances else None
        if utterance is None or utterance.refinement is None or utterance.pass_end is not None:
            return None
        end = self._vad_position
        if self.ended or utterance.refinement.due(end, self._better) < every:
            return None
        samples = self._samples[utterance.start : end]
        return FinalWork.refining(self, utterance, samples, end, self._hotwords, self._arrivals.at(end))

    def apply_refinement(self, work: FinalWork, hypothesis: Hypothesis) -> None:
        """Take what the better ear has heard of an utterance, which counts while that is open."""
        refinement = work.refinement
        refinement.busy = False
        if work.wanted:
            assert self._front is not None
            streamed = streamed_of(work.utterance, self._front, self.config.language)
            marks, goes_on = self.config.punctuate, self._goes_on
            if refinement.take(hypothesis, streamed, work.end, goes_on=goes_on, marks=marks):
                self._tell_partial(work.utterance, work.audio_in)

    def _next_finals(self, utterance: Utterance) -> list[FinalWork]:
        end = utterance.pass_end
        if end is None or not self.config.final_pass:
            return []
        wanted = [Ear.FIRST] + [Ear.BETTER] * self._wants_better(utterance, end)
        new = [ear for ear in wanted if utterance.asked.get(ear) != end]
        utterance.asked.update(dict.fromkeys(new, end))
        samples = self._samples[utterance.start : end]
        alone = len(wanted) == 1
        return [FinalWork(self, utterance, samples, end, ear, self._hotwords, alone=alone) for ear in new]

    def _wants_better(self, utterance: Utterance, end: int) -> bool:
        return not utterance.forgone and end - utterance.start <= self._better

    # ---------------------------------------------------------------- finals

    def _settled(self) -> tuple[Utterance, Hypothesis] | None:
        """Return the oldest utterance and what was said in it, if all that it still needs is marks."""
        utterance = self._utterances[0] if self._utterances else None
        if utterance is None or utterance.end is None or utterance.marking:
            return None
        first, better = utterance.hypotheses.get(Ear.FIRST), utterance.hypotheses.get(Ear.BETTER)
        if first is None:
            return None
        if better is not None:
            return utterance, choose(better, first)
        if self.config.final_pass and self._wants_better(utterance, utterance.end):
            return None
        return utterance, believe(first)

    def _next_punctuation(self) -> PunctuationWork | None:
        settled = self._settled()
        if settled is None:
            return None
        utterance, said = settled
        utterance.marking = True
        return PunctuationWork(self, utterance, said, self._context, utterance.reason != "cut")

    def _close_unmarked(self) -> None:
        """Finish utterances that need no marks, oldest first, and tell of flushes with nothing left before them."""
        while (settled := self._settled()) is not None:
            utterance, said = settled
            if self._punctuate and said.words and not said.marked:
                break
            self._close(utterance, said)
        oldest = self._utterances[0].index if self._utterances else self._utterance_count
        while self._flushed and self._flushed[0][1] <= oldest:
            self._events.append(Flushed(session_time(self._flushed.popleft()[0])))

    def _close(self, utterance: Utterance, said: Hypothesis, marked: Sequence[str] | None = None) -> None:
        assert utterance.end is not None
        assert utterance.reason is not None
        spelled = [word.text for word in said.words] if marked is None else marked
        if said.marked:
            spelled = continued(spelled) if self._goes_on else capitalised(spelled)
            spelled = spelled if self.config.punctuate else unmarked(spelled)
        self._goes_on = utterance.reason == "cut" and not ends_sentence(spelled)
        written = replaced(spelled_words(said.calibrated_words, spelled), self.config.replacements)
        if self.config.itn:
            written = with_numbers(written, said.language)
        utterance.timeline.marked = utterance.timeline.done if marked is None else self._clock()
        self._closed.append(utterance)
        self._utterances.popleft()
        self._events.append(SpeechEnded(utterance.index, session_time(utterance.end), utterance.reason))
        if self.config.tags and (said.emotion or said.sound):
            self._events.append(Tags(utterance.index, said.emotion or "", said.sound or ""))
        self._events.append(final_of(utterance, said, written))

    def _finish_session(self) -> None:
        judged = not self._vad_busy and self._samples.end - self._vad_position < FRAME
        if self._phase is _Phase.FLUSHING and judged and not self._utterances:
            self._phase = _Phase.ENDED
            if self._rejected is not None:
                self._events.append(self._rejected)
            self._events.append(SessionEnded(session_time(self._samples.end)))
