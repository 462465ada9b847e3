"""Deepgram Flux: turns by hand, and Deepgram's own client."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.server.app import Server
from parastream.server.protocols.deepgram.flux import Flux
from parastream.server.protocols.deepgram.turns import Thresholds, confidence_after, silence_of
from parastream.server.routes import parse
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import Engine
from parastream.streaming import events as ev

from ...conftest import SAMPLE_TEXTS
from ..fakes import FakeEngine, asynchronous, serving
from . import talking
from .talking import Message, hears, said

with warnings.catch_warnings():  # it speaks through a part of websockets that will go
    warnings.filterwarnings("ignore", r"websockets\.", DeprecationWarning)
    from deepgram import AsyncDeepgramClient
    from deepgram.environment import DeepgramClientEnvironment
    from deepgram.listen.v2.client import AsyncV2Client
    from deepgram.listen.v2.socket_client import AsyncV2SocketClient

RAW = "/v2/listen?model=flux-general-en&encoding=linear16&sample_rate=16000"
EAGER = RAW + "&eager_eot_threshold=0.5"  # 0.3 s
SLOW = EAGER + "&eot_threshold=0.8"  # 1.03 s
AUDIO = bytes(320)


class Talk(talking.Talk):
    """A connection whose audio the test tells of."""

    def __init__(self, path: str = RAW, audio: bytes = AUDIO, **settings: Any) -> None:
        super().__init__(Flux, path, **settings)
        self.adapter.start()
        self.say(audio)
        self.stream.hold_end = True
        (connected,) = self.heard()
        assert (connected["type"], connected["sequence_id"]) == ("Connected", 0)

    def silence(self, until: float) -> None:
        """Audio up to there has been looked at."""
        self.tell([ev.Progress(until, until)])

    def begin(self, utterance: int, start: float) -> None:
        """An utterance begins, unless it has."""
        if (id(self.stream), utterance) not in self._started:
            self._started.add((id(self.stream), utterance))
            self.tell([ev.SpeechStarted(utterance, start)])

    def ended(self, utterance: int, text: str, start: float, reason: ev.EndReason = "silence") -> None:
        """An utterance of words of 0.25 s is over; its hangover follows the last of them."""
        self.begin(utterance, start)
        final = said(utterance, text, start=start)
        final = ev.Final(utterance, start, final.end + 0.3, text, final.words, final.confidence)
        self.tell([ev.SpeechEnded(utterance, final.end, reason), final])

    def turns(self) -> list[tuple[int, str, str]]:
        """The number, event and transcript of each turn's messages."""
        return [(each["turn_index"], each["event"], each["transcript"]) for each in self.heard()]


def test_numbers_and_swear_words_are_written_as_a_client_asks() -> None:
    plain, written = Talk().stream.config, Talk(RAW + "&numerals=true&profanity_filter=true").stream.config
    assert (plain.itn, written.itn) == (False, True)
    shown = [[each.text for each in config.replacements.apply(["shit"])[0]] for config in (plain, written)]
    assert shown == [["shit"], ["s***"]]


# --- thresholds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thresholds", "eager", "end", "trigger"),
    [
        (Thresholds(), 0.6, 0.6, "model"),
        (Thresholds(0.5), 0.3, 0.3, "model"),  # no shorter than pauses between words
        (Thresholds(0.9), 2.314, 2.314, "model"),
        (Thresholds(0.9, timeout=1.0), 1.0, 1.0, "timeout"),
        (Thresholds(1.0), 5.0, 5.0, "timeout"),
        (Thresholds(1.0, timeout=60.0), 10.0, 60.0, "timeout"),
        (Thresholds(eager=0.3), 0.3, 0.6, "model"),
        (Thresholds(eager=0.6), 0.386, 0.6, "model"),
        (Thresholds(0.5, eager=0.9), 0.3, 0.3, "model"),
    ],
)
def test_thresholds_are_silences(thresholds: Thresholds, eager: float, end: float, trigger: str) -> None:
    assert thresholds.eager_silence == pytest.approx(eager, abs=0.001)
    assert thresholds.end_silence == pytest.approx(end, abs=0.001)
    assert thresholds.trigger == trigger


@given(st.floats(0.01, 0.99))
def test_a_confidence_is_reached_after_its_silence(confidence: float) -> None:
    assert confidence_after(silence_of(confidence)) == pytest.approx(confidence, abs=1e-4)
    assert silence_of(1.0) == math.inf


# --- turns -------------------------------------------------------------------------------------------


def test_a_turn_begins_with_words_and_ends_with_silence() -> None:
    talk = Talk()
    assert talk.stream.config.endpoint.min_silence == pytest.approx(0.6)
    talk.tell([hears(0, "", "")])
    assert talk.turns() == []
    talk.tell([hears(0, "", "one")])
    assert talk.turns() == [(0, "StartOfTurn", "one")]
    talk.tell([hears(0, "one", " two"), hears(0, "one two", " three")])
    assert talk.turns() == [(0, "Update", "one two three")]  # the newest of those that were not sent
    talk.ended(0, "One two three.", 1.0)
    (end,) = talk.heard()
    assert (end["event"], end["transcript"], end["trigger"]) == ("EndOfTurn", "One two three.", "model")
    assert [word["word"] for word in end["words"]] == ["One", "two", "three."]
    assert end["words"][0]["start"] == end["audio_window_start"] == 1.0
    assert end["end_of_turn_confidence"] == 0.7
    talk.ended(1, "Four.", 9.0)
    assert talk.turns() == [(1, "StartOfTurn", "Four."), (1, "EndOfTurn", "Four.")]


def test_noises_are_no_turns() -> None:
    talk = Talk(EAGER)
    talk.ended(0, "", 1.0)
    talk.silence(9.0)
    assert talk.turns() == []


def test_an_end_that_was_told_eagerly_comes_true() -> None:
    talk = Talk(EAGER)
    assert talk.stream.config.endpoint.min_silence == pytest.approx(0.3)
    talk.ended(0, "One.", 1.0)  # up to 1.25
    begin, eager = talk.heard()
    assert (begin["event"], eager["event"], eager["transcript"]) == ("StartOfTurn", "EagerEndOfTurn", "One.")
    assert eager["end_of_turn_confidence"] == pytest.approx(confidence_after(0.3))
    assert "trigger" not in eager
    talk.silence(1.25 + 0.6)
    assert talk.heard() == []  # somebody may have begun to speak just now
    talk.silence(1.25 + 0.7)
    (end,) = talk.heard()
    assert (end["event"], end["transcript"], end["trigger"]) == ("EndOfTurn", "One.", "model")
    talk.silence(9.0)
    assert talk.heard() == []


def test_a_speaker_who_goes_on_resumes_the_turn() -> None:
    talk = Talk(EAGER)
    talk.ended(0, "One.", 1.0)
    talk.tell([hears(1, "and", " two", start=1.4)])
    assert talk.turns() == [
        (0, "StartOfTurn", "One."),
        (0, "EagerEndOfTurn", "One."),
        (0, "TurnResumed", "One."),
        (0, "Update", "One. and two"),
    ]
    talk.silence(9.0)
    assert talk.turns() == []  # the utterance is still open
    talk.ended(1, "And two.", 1.4)
    talk.silence(12.0)
    assert talk.turns() == [(0, "EagerEndOfTurn", "One. And two."), (0, "EndOfTurn", "One. And two.")]


def test_a_noise_resumes_a_turn_and_leaves_its_text() -> None:
    talk = Talk(EAGER)
    talk.ended(0, "One.", 1.0)
    talk.ended(1, "", 1.5)
    assert talk.turns()[1:] == [
        (0, "EagerEndOfTurn", "One."),
        (0, "TurnResumed", "One."),
        (0, "EagerEndOfTurn", "One."),
    ]


def test_a_pause_that_was_too_long_lies_between_two_turns() -> None:
    """Though its end is not known to have passed when somebody speaks again."""
    talk = Talk(EAGER)
    talk.ended(0, "One.", 1.0)
    talk.tell([hears(1, "two", start=1.6)])  # speech at 1.9, pre-roll before it
    assert talk.turns()[1:] == [(0, "EagerEndOfTurn", "One."), (0, "EndOfTurn", "One."), (1, "StartOfTurn", "two")]


@pytest.mark.parametrize(("start", "same"), [(1.3, True), (1.7, False)])
def test_a_speaker_who_goes_on_before_the_final_text_is_there(start: float, same: bool) -> None:
    talk = Talk(EAGER)
    talk.tell([hears(0, "one"), hears(1, "two", start=start)])
    assert talk.turns() == [(0, "StartOfTurn", "one")]
    talk.ended(0, "One.", 1.0)
    events = talk.turns()
    if same:
        assert events == [(0, "Update", "One. two")]
    else:
        assert events == [(0, "Update", "One."), (0, "EndOfTurn", "One."), (1, "StartOfTurn", "two")]


def test_an_utterance_that_was_cut_goes_on_in_the_same_turn() -> None:
    talk = Talk()
    talk.ended(0, "One", 1.0, "cut")
    talk.silence(9.0)
    talk.ended(1, "two.", 1.55)
    assert talk.turns() == [(0, "StartOfTurn", "One"), (0, "EndOfTurn", "One two.")]


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_ends_a_turn(begun: bool) -> None:
    talk = Talk()
    if begun:
        talk.tell([hears(0, "one", " t")])
        talk.heard()
    talk.adapter.receive('{"type":"ForceEndTurn"}')
    if begun:
        talk.ended(0, "One two.", 1.0, "flush")
    talk.tell([ev.Flushed(2.0)])
    end = [message for message in talk.heard() if message["event"] == "EndOfTurn"]
    assert [(each["transcript"], each["trigger"], each["end_of_turn_confidence"]) for each in end] == (
        [("One two.", "manual", 1.0)] if begun else []
    )


def test_a_turn_ends_with_the_audio() -> None:
    talk = Talk(SLOW)
    talk.ended(0, "One.", 1.0)
    talk.say({"type": "CloseStream"}, AUDIO)
    talk.ended(1, "two", 1.5, "finish")
    talk.tell([ev.SessionEnded(2.0)])
    last = talk.turns()[-1]
    assert (last, talk.close_code) == ((0, "EndOfTurn", "One. two"), 1000)


def test_a_turn_ends_by_its_timeout() -> None:
    talk = Talk(RAW + "&eot_threshold=1.0&eot_timeout_ms=12000")
    assert talk.stream.config.endpoint.min_silence == 10
    talk.ended(0, "One.", 1.0)
    assert talk.turns() == [(0, "StartOfTurn", "One.")]
    talk.silence(13.0)
    assert talk.turns() == []
    talk.silence(13.4)
    (end,) = talk.heard()
    assert (end["event"], end["trigger"]) == ("EndOfTurn", "timeout")


UTTERANCES = st.lists(
    st.tuples(st.sampled_from(["", "One.", "Two three."]), st.floats(0.31, 3.0), st.sampled_from(["silence", "cut"])),
    max_size=8,
)


@given(UTTERANCES, st.sampled_from([RAW, EAGER, SLOW]))
def test_what_clients_rely_on(utterances: list[tuple[str, float, ev.EndReason]], path: str) -> None:
    talk = Talk(path)
    clock, heard = 1.0, []
    for number, (text, pause, reason) in enumerate(utterances):
        talk.ended(number, text, clock, reason)
        clock += 0.25 * len(text.split()) + (pause if reason == "silence" else 0.3)
        talk.silence(clock)
        heard += talk.heard()
    talk.say({"type": "CloseStream"})
    talk.tell([ev.SessionEnded(clock)])
    heard += talk.heard()
    by_turn: dict[int, list[Message]] = {}
    for message in heard:
        by_turn.setdefault(message["turn_index"], []).append(message)
    assert list(by_turn) == list(range(len(by_turn)))
    for turn in by_turn.values():
        events = [message["event"] for message in turn]
        assert (events[0], events[-1]) == ("StartOfTurn", "EndOfTurn")
        assert events.count("StartOfTurn") == events.count("EndOfTurn") == 1
        eager = ""
        for message in turn:
            match message["event"]:
                case "EagerEndOfTurn":
                    assert message["transcript"]
                    assert not eager
                    eager = message["transcript"]
                case "TurnResumed":
                    assert eager
                    eager = ""
                case _:
                    assert not eager or message["transcript"] == eager
    assert (
        " ".join(turn[-1]["transcript"] for turn in by_turn.values()).split()
        == " ".join(text for text, _, _ in utterances).split()
    )
    numbers = [message["sequence_id"] for message in heard]
    assert numbers == sorted(set(numbers))


# --- what is asked for -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("eot_threshold=0.4", "eot_threshold=0.4 is not supported; allowed: 0.5 to 1.0"),
        ("eot_threshold=high", "eot_threshold=high is not supported"),
        ("eager_eot_threshold=0.95", "allowed: 0.3 to 0.9"),
        ("eot_timeout_ms=100", "allowed: milliseconds from 500 to 60000"),
        ("eot_timeout_ms=60001", "allowed: milliseconds from 500 to 60000"),
        ("redact=pci", "redact is not supported"),
        ("encoding=amr-nb", "encoding 'amr-nb' is not supported"),
    ],
)
def test_what_is_refused(query: str, message: str) -> None:
    with pytest.raises(RefusalError) as refused:
        Flux.check(parse(f"/v2/listen?{query}"))
    assert message in refused.value.explained
    assert message in Flux.headers_of(refused.value.error)["dg-error"]


def configured(talk: Talk, **fields: Any) -> Message:
    talk.say({"type": "Configure", **fields})
    (answer,) = talk.heard()
    return answer


def test_thresholds_can_be_changed_as_far_as_pauses_are_known() -> None:
    talk = Talk(EAGER)
    answer = configured(talk, thresholds={"eot_threshold": 0.8, "eot_timeout_ms": 3000}, keyterms=["x"])
    shown = {"eager_eot_threshold": 0.5, "eot_threshold": 0.8, "eot_timeout_ms": 3000}
    assert (answer["type"], answer["thresholds"], answer["keyterms"]) == ("ConfigureSuccess", shown, ["x"])
    talk.ended(0, "One.", 1.0)
    talk.silence(2.0)
    assert [event for _, event, _ in talk.turns()] == ["StartOfTurn", "EagerEndOfTurn"]
    talk.silence(2.4)
    assert [event for _, event, _ in talk.turns()] == ["EndOfTurn"]


def test_thresholds_that_need_shorter_pauses_come_too_late() -> None:
    talk = Talk()
    answer = configured(talk, thresholds={"eager_eot_threshold": 0.5})
    assert (answer["type"], answer["code"]) == ("ConfigureFailure", "CONFIGURE_THRESHOLDS")
    assert "0.60 s" in answer["description"]
    assert configured(talk, language_hints=["en"])["language_hints"] == ["en"]


def test_thresholds_before_the_audio_are_those_that_it_begins_with() -> None:
    talk = talking.Talk(Flux, "/v2/listen?model=flux-general-en&keyterm=a&keyterm=b")
    talk.adapter.start()
    talk.say({"type": "ForceEndTurn"}, {"type": "Configure", "thresholds": {"eager_eot_threshold": 0.5}})
    connected, success = talk.heard()
    assert (connected["sequence_id"], success["sequence_id"], success["keyterms"]) == (0, 1, ["a", "b"])
    talk.say(wav(np.zeros(100, np.int16), 8000))
    assert talk.stream.config.format.rate == 8000
    assert talk.stream.config.endpoint.min_silence == pytest.approx(0.3)
    talk.say(b"")
    assert talk.close_code == 1000


def test_a_session_without_audio_is_closed_at_once() -> None:
    talk = talking.Talk(Flux, RAW.replace("&encoding=linear16", ""))
    talk.adapter.start()
    talk.say({"type": "CloseStream"})
    assert talk.close_code == 1000


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("nonsense", "INVALID_JSON"),
        ('{"type":"KeepAlive"}', "INVALID_MESSAGE"),
        ('{"type":"Configure","thresholds":{"eot_threshold":2}}', "INVALID_MESSAGE"),
    ],
)
def test_mistakes_end_the_connection_after_what_was_said(message: str, code: str) -> None:
    talk = Talk(SLOW)
    talk.ended(0, "One.", 1.0)
    talk.say(message)
    talk.tell([ev.SessionEnded(2.0)])
    *_, end, error = talk.heard()
    assert (end["event"], end["transcript"]) == ("EndOfTurn", "One.")
    assert (error["type"], error["code"], talk.close_code) == ("Error", code, 1008)


@pytest.mark.parametrize(
    ("audio", "message"),
    [(b"raw" * 100, "the audio has no WAV header"), (b"", "")],
)
def test_audio_without_a_header_needs_an_encoding(audio: bytes, message: str) -> None:
    talk = talking.Talk(Flux, "/v2/listen?model=flux-general-en")
    talk.adapter.start()
    talk.say(audio)
    assert message in talk.heard()[-1].get("description", "")
    assert talk.adapter.ending is not None


def test_a_wav_file_of_a_rate_that_is_not_supported() -> None:
    talk = talking.Talk(Flux, "/v2/listen?model=flux-general-en")
    talk.adapter.start()
    talk.say(wav(np.zeros(1000, np.int16), 96000))
    assert talk.heard()[-1]["description"].startswith("a WAV header says: audio rate 96000 is not supported")


def test_a_model_that_is_still_being_loaded() -> None:
    talk = talking.Talk(Flux, RAW)
    talk.engine.loading = True
    talk.adapter.start()
    assert talk.heard()[-1]["code"] == "NOT_READY"


def wav(samples: NDArray[np.int16], rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


# --- Deepgram's client -------------------------------------------------------------------------------


@asynccontextmanager
async def conversing(server: Server, **options: Any) -> AsyncIterator[AsyncV2SocketClient]:
    base = f"ws://127.0.0.1:{server.port}"
    environment = DeepgramClientEnvironment(base=base, production=base, agent=base, agent_rest=base)
    listen: AsyncV2Client = AsyncDeepgramClient(api_key="any", environment=environment).listen.v2
    options = {"model": "flux-general-en", "encoding": "linear16", "sample_rate": 16000, **options}
    async with listen.connect(**options) as connection:
        yield connection


@pytest.mark.parametrize("options", [{}, {"eager_eot_threshold": 0.5, "eot_threshold": 0.7}], ids=["plain", "eager"])
def test_deepgrams_client_hears_turns(engine: Engine, sample: NDArray[np.int16], options: dict[str, float]) -> None:
    @asynchronous
    async def run() -> None:
        heard: list[Any] = []
        async with serving(engine) as server, conversing(server, **options) as connection:
            for piece in talking.pieces(sample.tobytes(), 6400):
                await connection.send_media(piece)
            await connection.send_close_stream()
            async for message in connection:
                heard.append(message)
        assert heard[0].type == "Connected"
        assert {message.type for message in heard[1:]} == {"TurnInfo"}
        ends = [message for message in heard[1:] if message.event == "EndOfTurn"]
        assert [end.turn_index for end in ends] == [0, 1, 2]
        if not options:
            assert [end.transcript for end in ends] == SAMPLE_TEXTS
        assert ("EagerEndOfTurn" in {message.event for message in heard[1:]}) is bool(options)

    run()


@asynchronous
async def test_deepgrams_client_changes_thresholds_and_ends_turns() -> None:
    async with serving(FakeEngine()) as server, conversing(server) as connection:
        assert (await connection.recv()).type == "Connected"
        await connection.send_configure({"type": "Configure", "thresholds": {"eot_threshold": 0.9}})
        success: Any = await connection.recv()
        assert (success.type, success.thresholds.eot_threshold) == ("ConfigureSuccess", 0.9)
        await connection.send_media(b"x" * 100)
        await connection.send_force_end_turn()
        events: list[Any] = []
        while not events or events[-1].event != "EndOfTurn":
            events.append(await connection.recv())
        assert events[-1].trigger == "manual"
