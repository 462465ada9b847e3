"""Refined partials: what two hypotheses in a row agree on is stable, and stays so until the final."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model.computing import Computing
from parastream.model.final_pass import FinalInput, Hypothesis, TimedWord
from parastream.model.loading import load_final_pass
from parastream.streaming import Engine, EngineConfig, Models, SessionConfig
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.capacity import LATE, Longest, Utilisation
from parastream.streaming.events import Final, Partial, SessionEnded
from parastream.streaming.refinement import EVERY, FIRST, Refinement
from parastream.streaming.runner import Runner
from parastream.streaming.schedule import ROOM
from parastream.streaming.session import Session
from parastream.streaming.vad import FRAME
from parastream.streaming.work import Ear, FinalWork, VadWork, WindowWork

from ..conftest import load_models
from .driver import drive, finals
from .listening import BLOCK, Listener, Recorder
from .scripted import hypothesis, token
from .test_ears import WHISPER, better

NOTHING = Hypothesis("front", (), marked=False)


def words(text: str, start: float = 0.0, each: float = 0.25) -> list[TimedWord]:
    return [
        TimedWord(word, start + each * place, start + each * (place + 1), 0.9)
        for place, word in enumerate(text.split())
    ]


class Listening:
    """One utterance that is refined; each hypothesis has a quarter of a second for a word."""

    def __init__(self, *, marks: bool = True, goes_on: bool = False) -> None:
        self.refinement = Refinement.begin(0)
        self._marks, self._goes_on = marks, goes_on
        self._end = 0

    def hear(self, text: str, streamed: str = "", **said: object) -> tuple[str, str]:
        """Return what is stable and all text after one more hypothesis, and what the streaming pass has heard."""
        self._end = max(self._end + SAMPLE_RATE // 2, len(text.split()) * SAMPLE_RATE // 4)
        heard = Hypothesis("better", tuple(words(text)), marked=True, mean_log_probability=-0.1, **said)  # type: ignore[arg-type]
        self.refinement.take(heard, NOTHING, self._end, goes_on=self._goes_on, marks=self._marks)
        return self.shown(streamed)

    def shown(self, streamed: str = "") -> tuple[str, str]:
        spoken = words(streamed)
        found, stable = self.refinement.words(spoken, max(0, len(spoken) - 1))
        texts = [word.text for word in found]
        return " ".join(texts[:stable]), " ".join(texts)


def test_words_that_two_hypotheses_agree_on_are_stable() -> None:
    talk = Listening()
    assert talk.hear("They walk") == ("", "They walk")
    assert talk.hear("They walked to") == ("They", "They walked to")
    assert talk.hear("they walked, to the") == ("They walked, to", "They walked, to the")
    assert talk.hear("Day walked to the house") == ("They walked, to the", "They walked, to the house")


def test_marks_at_the_end_are_not_stable_before_a_word_follows() -> None:
    talk = Listening()
    talk.hear("They walked.")
    assert talk.hear("They walked.") == ("They walked", "They walked")
    assert talk.hear("They walked. And") == ("They walked.", "They walked. And")


def test_the_streaming_pass_goes_on_in_front() -> None:
    talk = Listening()
    assert talk.shown("day walk to the") == ("", "day walk to the")
    talk.hear("They walked")
    assert talk.hear("They walked to the", "day walk to the house with") == ("They walked", "They walked to the with")


def test_nothing_changes_where_the_better_ear_is_not_believed() -> None:
    talk = Listening()
    talk.hear("They walked")
    before = talk.hear("They walked to")
    assert talk.hear("Thank you for watching", no_speech=0.9) == before
    assert talk.hear("They they they they they they", looped=True) == before
    assert talk.hear("") == before


def test_when_the_better_ear_falls_behind_the_streaming_pass_is_stable_again() -> None:
    talk = Listening()
    talk.hear("They walked to")
    talk.hear("They walked to the")
    streamed = "day walk to the house with all of them and then they talked on"
    talk.refinement.follow(talk.refinement.heard + 3 * SAMPLE_RATE)
    assert talk.shown(streamed)[0] == "They walked to"
    talk.refinement.follow(talk.refinement.heard + 3 * SAMPLE_RATE + 1)
    stable, text = talk.shown(streamed)
    assert stable == text.rsplit(" ", 1)[0]
    assert text.startswith("They walked to with all"), "words that may have been heard already are left out"
    assert talk.hear("They walked to the house") == talk.shown()
    assert talk.refinement.due(100 * SAMPLE_RATE, 1000 * SAMPLE_RATE) == 0


def test_a_client_without_marks_gets_none() -> None:
    talk = Listening(marks=False)
    talk.hear("They walked.")
    assert talk.hear("They walked. And") == ("they walked", "they walked and")


def test_the_sentence_of_a_cut_utterance_goes_on() -> None:
    talk = Listening(goes_on=True)
    talk.hear("And they")
    talk._goes_on = False
    assert talk.hear("And they walked") == ("and they", "and they walked")


def test_when_it_is_due() -> None:
    refinement, longest = Refinement.begin(1000), 10 * SAMPLE_RATE
    assert refinement.due(1000 + FIRST - 1, longest) == 0
    assert refinement.due(1000 + FIRST, longest) == FIRST
    refinement.asked = 1000 + FIRST
    assert refinement.due(1000 + FIRST + EVERY, longest) == EVERY
    assert refinement.due(1001 + longest, longest) == 0
    refinement.busy = True
    assert refinement.due(1000 + FIRST + EVERY, longest) == 0


TEXTS = st.lists(st.sampled_from(["Oh", "oh,", "no.", "yes", "Yes!", "well", "2"]), max_size=6).map(" ".join)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8), st.booleans())
def test_what_is_stable_only_grows(heard: list[tuple[str, str]], marks: bool) -> None:
    talk = Listening(marks=marks)
    shown = [talk.hear(text, streamed) for text, streamed in heard]
    talk.refinement.over = True
    shown.append(talk.shown())
    for (before, _), (after, text) in pairwise(shown):
        assert after.startswith(before)
        assert text.startswith(after)


# --- a session ------------------------------------------------------------------------------------


class Talk:
    """A session whose partials are refined; the test says what the better ear hears, and when."""

    def __init__(self, models: Models, config: SessionConfig = SessionConfig(), *, refines: bool = True) -> None:
        vad = models.vad.new_state()
        self.session = Session(
            config, models.speech, vad, punctuated=False, ears={Ear.FIRST: WHISPER, Ear.BETTER: WHISPER}
        )
        self.session.refines = refines
        self.passes: list[FinalWork] = []

    def say(self, probabilities: list[float]) -> None:
        for probability in probabilities:
            self.session.receive_audio(bytes(2 * FRAME))
            for work in self.session.work(max_vad_frames=1):
                match work:
                    case VadWork():
                        self.session.apply_vad(work, np.array([probability], np.float32))
                    case WindowWork():
                        self.session.apply_window(work, token())
                    case FinalWork():
                        self.passes.append(work)

    def refine(self, text: str) -> FinalWork:
        work = self.ask()
        self.session.apply_refinement(work, better(text, tokens=(len(text),)))
        return work

    def ask(self) -> FinalWork:
        work = self.session.refinable(every=EVERY)
        assert work is not None
        work.refinement.ask(work.end)
        return work

    def partials(self) -> list[Partial]:
        return [event for event in self.session.events() if isinstance(event, Partial)]


SPEECH, SILENCE = [0.9] * 40, [0.0] * 30


def test_a_session_tells_refined_partials_until_the_final(models: Models) -> None:
    talk = Talk(models)
    talk.say(SPEECH)
    assert {partial.stable for partial in talk.partials()} == {""}
    first = talk.refine("They walked")
    assert first.draft == ()
    talk.say(SPEECH)
    second = talk.ask()
    assert second.draft == (len("They walked"),)
    assert talk.session.refinable(every=1) is None, "it is under way"
    talk.session.apply_refinement(second, better("They walked to"))
    *_, newest = talk.partials()
    assert (newest.stable, (newest.stable + newest.draft)[:14]) == ("They walked", "They walked to")
    assert [timing.refined for timing in talk.session.timings if hasattr(timing, "refined")][-1]
    talk.say(SILENCE)
    for ear in (Ear.FIRST, Ear.BETTER):
        (work,) = [work for work in talk.passes if work.ear is ear]
        assert work.draft == (), "finals do not depend on how busy the machine was"
        talk.session.apply_final(work, better("They walk.") if work.better else hypothesis("day walk"))
    (final,) = [event for event in talk.session.events() if isinstance(event, Final)]
    assert final.text == "They walk."


def test_partials_end_where_what_they_tell_has_been_heard(models: Models) -> None:
    talk = Talk(models)
    talk.say(SPEECH * 2)
    talk.refine("They walked")
    talk.say(SPEECH)
    ends = [partial.end for partial in talk.partials()]
    assert ends == sorted(ends)


def test_what_comes_too_late_does_not_count(models: Models) -> None:
    talk = Talk(models)
    talk.say(SPEECH)
    late = talk.ask()
    talk.say(SILENCE)
    assert not late.wanted
    talk.session.events()
    talk.session.apply_refinement(late, better("They walked"))
    assert talk.partials() == []
    assert talk.session.refinable(every=0) is None


@pytest.mark.parametrize(
    ("config", "refines"),
    [(SessionConfig(partials=False), True), (SessionConfig(final_pass=False), True), (SessionConfig(), False)],
    ids=["no partials", "no final pass", "no room"],
)
def test_utterances_that_are_not_refined(config: SessionConfig, refines: bool, models: Models) -> None:
    talk = Talk(models, config, refines=refines)
    talk.say(SPEECH * 2)
    talk.session.refines = True
    assert talk.session.refinable(every=0) is None


# --- an engine ------------------------------------------------------------------------------------


class Counting:
    """A better ear that counts: a word for each quarter of a second, always the same ones."""

    name = "counting"
    capabilities = replace(WHISPER, best_seconds=None)
    computing = Computing("mlx", "float32")

    def __init__(self) -> None:
        self.heard: list[FinalInput] = []
        self.broken = False

    def warm_up(self) -> None:
        """There is nothing to warm up."""

    def steps(self, seconds: float) -> int:
        return 1

    def transcribe_in_slices(
        self, utterances: Sequence[FinalInput], *, steps: int
    ) -> Generator[None, None, list[Hypothesis]]:
        yield
        if self.broken:
            raise ValueError("it is broken")
        self.heard += utterances
        count = [" ".join(f"w{place}" for place in range(1 + int(4 * each.seconds))) for each in utterances]
        return [better(text, ear=self.name, tokens=(len(text),)) for text in count]


class Busy(Utilisation):
    """An engine's own account of how busy it is, by a test."""

    def __init__(self, share: float) -> None:
        super().__init__(0.0)
        self.share = share

    def at(self, now: float) -> float:
        return self.share


class Waits(Longest):
    """How long an engine's windows have waited, by a test."""

    def __init__(self, seconds: float) -> None:
        super().__init__(0.0)
        self.seconds = seconds

    def at(self, now: float) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def ear() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def loaded(ear: Counting, recorder: Recorder) -> Iterator[Engine]:
    def load() -> Models:
        return replace(load_models(), better=ear)

    engine = Engine(load, EngineConfig(target_utilisation=math.inf, refine=True), observers=[recorder])
    engine.start()
    engine.wait_ready(60)
    yield engine
    engine.close()


@pytest.fixture
def engine(loaded: Engine, ear: Counting, recorder: Recorder) -> Engine:
    """With room, on however busy a machine."""
    loaded._busy.live, loaded._waits = Busy(0.0), Waits(0.0)
    loaded.config = EngineConfig(target_utilisation=math.inf, refine=True, always_better=True)
    ear.broken = False
    ear.heard.clear()
    recorder.watch()
    return loaded


def speak(engine: Engine, sample: NDArray[np.int16], until: Callable[[list[Partial]], bool]) -> Listener:
    """Speak without a pause, as fast as the engine listens, until its partials are as they should be."""
    listener = Listener(engine)
    speech = sample[int(1.3 * SAMPLE_RATE) : int(2.3 * SAMPLE_RATE)]
    sent = 0
    while not until([event for event in listener.events if isinstance(event, Partial)]):
        piece = np.roll(speech, -sent)[:BLOCK]
        listener.stream.send(piece.tobytes())
        sent += BLOCK
        listener.wait_until(lambda sent=sent: listener.looked_at >= sent / SAMPLE_RATE)  # type: ignore[misc]
        assert sent < 60 * SAMPLE_RATE
    return listener


def stop(listener: Listener) -> list[str]:
    listener.stream.end()
    return [final.text for final in finals(listener.wait())]


def test_an_engine_refines_partials_where_there_is_room(
    engine: Engine, ear: Counting, recorder: Recorder, sample: NDArray[np.int16]
) -> None:
    listener = speak(engine, sample, lambda partials: any("W0 w1 w2 w3" in partial.stable for partial in partials))
    assert ear.heard[-1].draft != ()
    assert stop(listener)[0].startswith("W0 w1 w2")
    told = [event for event in listener.events if isinstance(event, Partial)]
    for one, other in pairwise(told):
        assert one.utterance != other.utterance or other.stable.startswith(one.stable)
    assert recorder.batches("refinements")
    assert any(timing.refined for timing in recorder.partials)


@pytest.mark.parametrize("why", ["busy", "late", "off"])
def test_where_there_is_no_room_partials_are_those_of_the_streaming_pass(
    why: str, engine: Engine, recorder: Recorder, sample: NDArray[np.int16]
) -> None:
    if why == "busy":
        engine._busy.live = Busy(ROOM)
    elif why == "late":
        engine._waits = Waits(2 * LATE)
    else:
        engine.config = replace(engine.config, refine=False)
    listener = speak(engine, sample, lambda partials: len(partials) > 4)
    stop(listener)
    told = [event for event in listener.events if isinstance(event, Partial)]
    assert any(partial.stable for partial in told), "what the streaming pass has settled is stable"
    assert not any("w1" in partial.stable + partial.draft for partial in told)
    assert recorder.batches("refinements") == []


def test_a_session_goes_on_when_refining_fails(engine: Engine, ear: Counting, sample: NDArray[np.int16]) -> None:
    ear.broken = True
    listener = speak(engine, sample, lambda partials: any(" " in partial.stable for partial in partials))
    ear.broken = False
    assert stop(listener)[0].startswith("W0 w1")
    assert isinstance(listener.events[-1], SessionEnded)


# --- real models ----------------------------------------------------------------------------------


RECORDING = Path(__file__).parents[1] / "data" / "librispeech" / "367-130732-0004.flac"


def test_real_models_agree_on_what_the_final_says(models: Models) -> None:
    """As an engine with nothing else to do: after each half second of audio the better ear hears the utterance."""
    runner = Runner(Models(models.front, models.vad, better=load_final_pass("whisper-tiny-en")))
    session = runner.new_session(SessionConfig())
    session.refines = True
    samples = soundfile.read(RECORDING, dtype="int16")[0]
    told: list[Partial] = []
    texts: list[str] = []
    for start in range(0, len(samples), SAMPLE_RATE // 2):
        session.receive_audio(samples[start : start + SAMPLE_RATE // 2].tobytes())
        if start + SAMPLE_RATE // 2 >= len(samples):
            session.receive_end()
        drive(runner, session)
        work = session.refinable(every=EVERY)
        if work is not None:
            work.refinement.ask(work.end)
            for _ in runner.run_finals([work], steps=5):
                pass
        for event in session.events():
            match event:
                case Partial():
                    told.append(event)
                case Final():
                    texts.append(event.text)
    (text,) = texts
    assert all(other.stable.startswith(one.stable) for one, other in pairwise(told))
    stable = told[-1].stable.split()
    assert len(stable) >= len(text.split()) / 2
    differing = sum(one.strip(".,") != other.strip(".,") for one, other in zip(stable, text.split(), strict=False))
    assert differing <= 2
