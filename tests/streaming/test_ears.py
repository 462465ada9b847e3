"""Two final passes over one utterance: who decides, who waits, and what becomes of the text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parastream.model.calibration import Calibration
from parastream.model.final_pass import Capabilities, Hypothesis
from parastream.streaming import Models, SessionConfig
from parastream.streaming.endpoint import EndpointConfig
from parastream.streaming.events import Final, Partial
from parastream.streaming.session import Session
from parastream.streaming.vad import FRAME
from parastream.streaming.work import Ear, FinalWork, PunctuationWork, VadWork, WindowWork

from .scripted import hypothesis, token

WHISPER = Capabilities(("en",), writes_marks=True, takes_hotwords=True, gives_word_times=True, longest_seconds=29.0)
PARAFORMER = Capabilities(
    ("en",), writes_marks=False, takes_hotwords=False, gives_word_times=True, longest_seconds=None
)
SPEECH, SILENCE = [0.9] * 30, [0.0] * 30


def better(text: str, **said: object) -> Hypothesis:
    return hypothesis(text, **{"ear": "whisper", "marked": True, "mean_log_probability": -0.1} | said)  # type: ignore[arg-type]


class Talk:
    """A session that two ears listen to; the test says what they hear."""

    def __init__(
        self, models: Models, config: SessionConfig = SessionConfig(), ears: Capabilities | None = WHISPER
    ) -> None:
        vad = models.vad.new_state()
        each = {Ear.FIRST: PARAFORMER} | ({} if ears is None else {Ear.BETTER: ears})
        self.session = Session(config, models.speech, vad, punctuated=True, ears=each)
        self.passes: list[FinalWork] = []
        self.marks: list[PunctuationWork] = []

    def say(self, probabilities: list[float]) -> None:
        for probability in probabilities:
            self.session.receive_audio(bytes(2 * FRAME))
            self.look(probability)

    def look(self, probability: float = 0.0) -> None:
        for work in self.session.work(max_vad_frames=1):
            match work:
                case VadWork():
                    self.session.apply_vad(work, np.array([probability], np.float32))
                case WindowWork():
                    self.session.apply_window(work, token())
                case FinalWork():
                    self.passes.append(work)
                case PunctuationWork():
                    self.marks.append(work)

    def hear(self, ear: Ear, said: Hypothesis) -> None:
        """Let an ear finish its newest pass."""
        self.session.apply_final([work for work in self.passes if work.ear is ear][-1], said)
        self.look()

    def finals(self) -> list[Final]:
        return [event for event in self.session.events() if isinstance(event, Final)]


def test_each_utterance_is_heard_by_both_and_the_rule_decides(models: Models) -> None:
    talk = Talk(models)
    talk.say(SPEECH + SILENCE)
    assert {work.ear for work in talk.passes} == {Ear.FIRST, Ear.BETTER}
    assert len({len(work.samples) for work in talk.passes}) == 1
    talk.hear(Ear.FIRST, hypothesis("hello word"))
    assert (talk.finals(), talk.marks) == ([], []), "it waits for the better ear"
    talk.hear(Ear.BETTER, better("Hello, world."))
    (final,) = talk.finals()
    assert (final.text, final.ear) == ("Hello, world.", "whisper")
    assert [word.text for word in final.words] == ["Hello,", "world."]
    assert talk.marks == [], "it has marks of its own"


@pytest.mark.parametrize("ear", [Ear.FIRST, Ear.BETTER])
def test_numbers_are_written_whoever_heard_them(models: Models, ear: Ear) -> None:
    talk = Talk(models, SessionConfig(itn=True), WHISPER if ear is Ear.BETTER else None)
    talk.say(SPEECH + SILENCE)
    talk.hear(Ear.FIRST, hypothesis("it cost twenty five dollars"))
    if ear is Ear.BETTER:
        talk.hear(Ear.BETTER, better("It cost twenty-five dollars."))
    for work in talk.marks:
        talk.session.apply_punctuation(work, ["It", "cost", "twenty", "five", "dollars."], work.context)
    (final,) = talk.finals()
    assert final.text == "It cost $25."
    *_, cost, written = final.words
    end = 0.5 if ear is Ear.FIRST else 0.4  # words of a tenth of a second each
    assert written.start == cost.end
    assert written.end - final.start == pytest.approx(end, abs=0.001)


@pytest.mark.parametrize("order", [(Ear.FIRST, Ear.BETTER), (Ear.BETTER, Ear.FIRST)])
@pytest.mark.parametrize(
    "unsure", [{"looped": True}, {"mean_log_probability": -0.7}], ids=["a loop", "an unlikely text"]
)
def test_the_first_ear_is_right_where_the_better_one_is_unsure(
    models: Models, unsure: dict[str, object], order: tuple[Ear, Ear]
) -> None:
    talk = Talk(models)
    talk.say(SPEECH + SILENCE)
    said = {Ear.FIRST: hypothesis("three nine", confidence=0.9), Ear.BETTER: better("Mine.", **unsure)}
    for ear in order:
        talk.hear(ear, said[ear])
    (marks,) = talk.marks
    talk.session.apply_punctuation(marks, ["Three", "nine."], marks.context)
    (final,) = talk.finals()
    assert (final.text, final.ear) == ("Three nine.", "scripted")


def test_confidences_mean_something_but_the_rule_reads_them_as_they_are(models: Models) -> None:
    talk = Talk(models, SessionConfig(punctuate=False))
    talk.say(SPEECH + SILENCE)
    # Calibrated, this one would be sure enough for its text to be taken.
    talk.hear(Ear.FIRST, hypothesis("three nine", confidence=0.5, calibration=Calibration(1.0, 5.0)))
    talk.hear(Ear.BETTER, better("Mine.", mean_log_probability=-0.5, calibration=Calibration(1.0, 1.0)))
    (final,) = talk.finals()
    assert final.ear == "whisper"
    assert [word.confidence for word in final.words] == [0.7311]
    assert final.confidence == 0.7311


def test_confidences_of_partials_mean_something(models: Models) -> None:
    assert models.front is not None
    front = replace(models.front, streaming_calibration=Calibration(offset=np.log(3)))
    talk = Talk(replace(models, front=front), ears=None)
    talk.say(SPEECH)
    partials = [event for event in talk.session.events() if isinstance(event, Partial)]
    assert {word.confidence for partial in partials for word in partial.words} == {0.75}  # every window hears 0.5


def test_nothing_is_said_where_the_better_ear_is_sure_that_nobody_speaks(models: Models) -> None:
    talk = Talk(models)
    talk.say(SPEECH + SILENCE)
    talk.hear(Ear.FIRST, hypothesis("bed bed bed"))
    talk.hear(Ear.BETTER, better("You.", no_speech=0.9))
    (final,) = talk.finals()
    assert (final.text, final.words, final.ear) == ("", (), "whisper")


def test_a_final_that_would_be_late_goes_out_without_the_better_ear(models: Models) -> None:
    talk = Talk(models, SessionConfig(punctuate=False))
    talk.say(SPEECH + SILENCE)
    talk.hear(Ear.FIRST, hypothesis("hello word"))
    (late,) = [work for work in talk.passes if work.better]
    talk.session.forgo(late.utterance)
    (final,) = talk.finals()
    assert (final.text, final.ear) == ("hello word", "scripted")
    assert not late.wanted
    talk.session.apply_final(late, better("Hello, world."))
    assert talk.finals() == []


def test_a_pass_of_either_ear_over_a_pause_is_void_when_speech_goes_on(models: Models) -> None:
    talk = Talk(models)
    talk.say(SPEECH + SILENCE[:12])
    early = list(talk.passes)
    talk.say(SPEECH + SILENCE)
    assert [work.wanted for work in early] == [False, False]
    assert len(talk.passes) == 4
    for work in early:
        talk.session.apply_final(work, better("Too early."))
    assert talk.finals() == []
    talk.hear(Ear.FIRST, hypothesis())
    talk.hear(Ear.BETTER, better("In time."))
    assert [final.text for final in talk.finals()] == ["In time."]


def test_utterances_are_cut_earlier_while_the_better_ear_listens(models: Models) -> None:
    config = SessionConfig(endpoint=EndpointConfig(max_utterance=6.0, cut_search=1.0))
    talk = Talk(models, config, replace(WHISPER, best_seconds=4.0))
    talk.say([0.9] * 130)
    assert 3.0 <= min(work.end for work in talk.passes if work.ear is Ear.FIRST) / 16000 <= 4.0
    streaming = Talk(models, replace(config, final_pass=False), replace(WHISPER, best_seconds=4.0))
    streaming.say([0.9] * 130)
    assert not streaming.finals()


def test_an_utterance_that_is_too_long_for_the_better_ear_does_without(models: Models) -> None:
    talk = Talk(models, SessionConfig(punctuate=False), replace(WHISPER, longest_seconds=1.0))
    talk.say(SPEECH + SPEECH + SILENCE)
    assert [work.ear for work in talk.passes if work.wanted] == [Ear.FIRST]
    talk.hear(Ear.FIRST, hypothesis("alone"))
    assert [final.text for final in talk.finals()] == ["alone"]


def test_a_client_that_wants_no_marks_gets_none_of_the_better_ears(models: Models) -> None:
    talk = Talk(models, SessionConfig(punctuate=False))
    talk.say(SPEECH + SILENCE)
    talk.hear(Ear.FIRST, hypothesis())
    talk.hear(Ear.BETTER, better("Enter GMEF, please."))
    (final,) = talk.finals()
    assert final.text == "enter GMEF please"
    assert [word.text for word in final.words] == ["enter", "GMEF", "please"]


def test_after_a_cut_the_sentence_goes_on_in_small_letters(models: Models) -> None:
    talk = Talk(models, SessionConfig(endpoint=EndpointConfig(max_utterance=3.0, cut_search=1.0)))
    talk.say(SPEECH * 4 + SILENCE)
    heard: list[str] = []
    for text in ("They walked", "And talked."):
        for work in talk.passes:
            if work.utterance is talk.passes[0].utterance and work.wanted:
                said = hypothesis() if work.ear is Ear.FIRST else better(text)
                talk.session.apply_final(work, said)
        heard += [final.text for final in talk.finals()]
        talk.passes = [work for work in talk.passes if work.utterance is not talk.passes[0].utterance]
    assert heard == ["They walked", "and talked."]


def test_without_a_better_ear_nothing_waits(models: Models) -> None:
    talk = Talk(models, SessionConfig(punctuate=False), None)
    talk.say(SPEECH + SILENCE)
    assert [work.ear for work in talk.passes] == [Ear.FIRST]
    talk.hear(Ear.FIRST, hypothesis("hello"))
    assert [final.text for final in talk.finals()] == ["hello"]
