"""Clients of FunASR: messages by hand, then real speech over sockets."""

from __future__ import annotations

import asyncio
import functools
import io
import json
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
from funasr_client import AsyncFunASRClient
from funasr_client.utils import merge_messages
from numpy.typing import NDArray
from parastream.model.errors import CapacityError
from parastream.model.hotwords import Hotword
from parastream.server.protocols.funasr.adapter import FunASR
from parastream.streaming import AudioFormat, Encoding, Engine
from parastream.streaming import events as ev

from ...conftest import SAMPLE_TEXTS
from ...waiting import until
from ..fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving
from .talking import Message, Talk, all_of, connected, hears, pieces, said, speak

BEGIN = {"is_speaking": True, "chunk_size": [5, 10, 5], "chunk_interval": 10, "itn": False, "wav_name": "demo"}
END = {"is_speaking": False}
AUDIO = b"ab" * 700
SLICE = ("slice_type", "index", "start_time", "end_time")


def message(mode: str, text: str, *, final: bool = False, name: object = "demo", **more: Any) -> Message:
    return {"mode": mode, "text": text, "wav_name": name, "is_final": final, **more}


def sentence(text: str, mark: str, start: int, end: int, stamps: list[list[int]]) -> Message:
    """One of `stamp_sents`."""
    return {"text_seg": text, "punc": mark, "start": start, "end": end, "ts_list": stamps}


def bare(messages: list[Message]) -> list[Message]:
    """Messages without their times."""
    return [{key: value for key, value in each.items() if key not in ("timestamp", "stamp_sents")} for each in messages]


def heard(talk: Talk) -> list[Message]:
    """What was sent since the last time, without the fields that only the C++ server has."""
    return [{key: value for key, value in each.items() if key not in SLICE} for each in talk.heard()]


# --- what is said, mode by mode ------------------------------------------------------------------


def test_two_passes() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO)
    talk.stream.hold_end = True
    assert heard(talk) == []
    talk.tell([hears(0, "", "en"), hears(0, "enter", " o"), hears(0, "enter", " one")])
    assert heard(talk) == [message("2pass-online", "enter")]
    talk.tell([hears(0, "enter one two", " three"), ev.SpeechEnded(0, 2.0, "silence"), said(0, "Enter one, two.")])
    assert heard(talk) == [
        message("2pass-online", " one two"),
        message(
            "2pass-offline",
            "Enter one, two.",
            timestamp="[[1000,1250],[1250,1500],[1500,1750]]",
            stamp_sents=[
                sentence("Enter one", ",", 1000, 1500, [[1000, 1250], [1250, 1500]]),
                sentence("two", ".", 1500, 1750, [[1500, 1750]]),
            ],
        ),
    ]
    talk.tell([hears(1, "four", " five"), said(1, "Four five.")])
    assert bare(heard(talk)) == [message("2pass-online", " four"), message("2pass-offline", " Four five.")]
    talk.say(END)
    talk.tell([said(2, "Six."), said(3, "Seven.")])
    assert bare(heard(talk)) == [message("2pass-offline", " Six.")]
    talk.tell([ev.SessionEnded(9.0)])
    assert bare(heard(talk)) == [message("2pass-offline", " Seven.", final=True)]
    assert talk.adapter.listening


def test_texts_of_chinese_are_put_together_without_spaces() -> None:
    talk = Talk(FunASR)
    talk.say(AUDIO)
    talk.tell([said(0, "你好。"), hears(1, "世"), said(1, "世界。")])
    assert [each["text"] for each in heard(talk)] == ["你好。", "世", "世界。"]


def test_an_utterance_is_not_told_of_before_the_final_of_the_one_before_it() -> None:
    """Clients take everything appended since the last final for what the next final replaces."""
    talk = Talk(FunASR)
    talk.say(AUDIO)
    talk.tell([hears(0, "one"), hears(1, "two", " t")])
    talk.tell([hears(2, "four"), hears(1, "two three")])
    assert [each["text"] for each in heard(talk)] == ["one"]
    talk.tell([said(0, "One.")])
    assert [each["text"] for each in heard(talk)] == ["One.", " two three"]
    talk.tell([said(1, "Two three.")])
    assert [each["text"] for each in heard(talk)] == [" Two three.", " four"]


def test_a_second_pass_that_hears_nothing_takes_the_words_back() -> None:
    talk = Talk(FunASR)
    talk.say(AUDIO)
    talk.tell([said(0, "")])
    assert heard(talk) == []
    talk.tell([hears(1, "a"), said(1, "")])
    assert heard(talk) == [
        message("2pass-online", "a", name="microphone"),
        message("2pass-offline", "", name="microphone"),
    ]


def test_a_final_does_not_begin_with_punctuation() -> None:
    talk = Talk(FunASR)
    talk.say(AUDIO)
    talk.tell([said(0, "， one two.")])
    (final,) = heard(talk)
    assert final["text"] == "one two."
    assert json.loads(final["timestamp"]) == [[1250, 1500], [1500, 1750]]


def test_one_pass() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | {"mode": "online"}, AUDIO)
    talk.stream.hold_end = True
    config = talk.stream.config
    assert (config.punctuate, config.final_pass, config.partials) == (False, False, True)
    talk.tell([hears(0, "one", " t"), said(0, "one two")])
    talk.tell([hears(1, "three four"), said(1, "three four")])
    assert heard(talk) == [message("online", "one"), message("online", " two"), message("online", " three four")]
    talk.say(END)
    talk.tell([hears(2, "five"), said(2, "five six"), ev.SessionEnded(9.0)])
    assert heard(talk) == [message("online", " five"), message("online", " six", final=True)]


@pytest.mark.parametrize(
    ("mode", "name"), [("offline", "offline"), ("office", "2pass-offline"), (" Offline", "offline")]
)
def test_a_recording_gets_one_message(mode: str, name: str) -> None:
    """Clients of this mode take the first message for the last."""
    talk = Talk(FunASR)
    talk.say(BEGIN | {"mode": mode}, AUDIO)
    talk.stream.hold_end = True
    assert not talk.stream.config.partials
    talk.tell([said(0, "One two."), said(1, "")])
    talk.say(END)
    talk.tell([said(2, "Three.", start=4)])
    assert heard(talk) == []
    talk.tell([ev.SessionEnded(9.0)])
    assert heard(talk) == [
        message(
            name,
            "One two. Three.",
            final=True,
            timestamp="[[1000,1250],[1250,1500],[4000,4250]]",
            stamp_sents=[
                sentence("One two", ".", 1000, 1500, [[1000, 1250], [1250, 1500]]),
                sentence("Three", ".", 4000, 4250, [[4000, 4250]]),
            ],
        )
    ]


# --- which server a client was made for ---------------------------------------------------------

FIRST_MESSAGES = {
    "Python, file": {
        "chunk_size": [5, 10, 5], "chunk_interval": 10, "encoder_chunk_look_back": 4, "decoder_chunk_look_back": 0,
        "audio_fs": 16000, "wav_name": "demo", "wav_format": "pcm", "is_speaking": True, "hotwords": "", "itn": True,
    },
    "html5": {"chunk_size": [5, 10, 5], "wav_name": "h5", "is_speaking": True, "chunk_interval": 10, "itn": False},
    "Go": {
        "chunk_size": [5, 10, 5], "chunk_interval": 10, "audio_fs": 16000, "wav_name": "demo", "wav_format": "pcm",
        "is_speaking": True, "hotwords": "{}", "itn": True,
    },
    "C#, microphone": {
        "chunk_size": [5, 10, 5], "chunk_interval": 10, "wav_name": "microphone", "is_speaking": True,
    },
    "C#, mp3": {
        "chunk_size": "5,10,5", "chunk_interval": 10, "wav_name": "a.wav", "is_speaking": True, "wav_format": "pcm",
    },
    "C#, offline": {"wav_name": "a.wav", "is_speaking": True, "hotwords": ""},
    "funasr-client": {"is_speaking": True, "chunk_size": [5, 10, 5], "audio_fs": 16000, "itn": True},
}  # fmt: skip
"""What clients of FunASR's servers begin with, but for the mode."""


@pytest.mark.parametrize(
    ("client", "mode", "names"),
    [
        ("Python, file", "online", {"online"}),
        ("Python, file", "offline", {"offline"}),
        ("Python, file", "2pass", {"2pass-online", "2pass-offline"}),
        ("html5", "online", {"online"}),
        ("html5", "offline", {"offline"}),
        ("Go", "offline", {"offline"}),
        ("C#, microphone", "online", {"2pass-online"}),
        ("C#, microphone", "offline", {"2pass-offline"}),
        ("C#, microphone", "2pass", {"2pass-online", "2pass-offline"}),
        ("C#, mp3", "offline", {"2pass-offline"}),
        ("C#, mp3", "office", {"2pass-offline"}),
        ("C#, offline", "offline", {"offline"}),
        ("funasr-client", "online", {"2pass-online"}),
        ("funasr-client", "offline", {"2pass-offline"}),
        ("funasr-client", "2pass", {"2pass-online", "2pass-offline"}),
    ],
)
def test_answers_are_called_as_the_server_calls_them_that_a_client_was_made_for(
    client: str, mode: str, names: set[str]
) -> None:
    talk = Talk(FunASR)
    talk.say(FIRST_MESSAGES[client] | {"mode": mode}, AUDIO)
    talk.stream.hold_end = True
    talk.say(END)
    if talk.stream.config.partials:
        talk.tell([hears(0, "one")])
    talk.tell([said(0, "One two."), said(1, "Three."), ev.SessionEnded(3.0)])
    answers = talk.heard()
    assert {answer["mode"] for answer in answers} == names
    assert ["slice_type" in answer for answer in answers] == [
        name.startswith("2pass") for name in map(mode_of, answers)
    ]


def mode_of(answer: Message) -> str:
    assert isinstance(answer["mode"], str)
    return answer["mode"]


def test_answers_of_the_real_time_server_say_where_in_the_utterance_they_belong() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | {"mode": "2pass"}, AUDIO)
    talk.stream.hold_end = True
    talk.tell([hears(0, "one"), hears(0, "one two"), said(0, "One two.", start=0.5), said(1, "", start=2)])
    talk.tell([hears(2, "three", start=3), said(2, "Three.", start=3)])
    talk.say(END, BEGIN, AUDIO)
    talk.tell([said(0, "Four.", start=1)])
    first, second = talk.engine.streams
    talk.tell([ev.SessionEnded(4.0)], first)
    assert [[answer.get(name) for name in SLICE] for answer in talk.heard()] == [
        [0, 0, None, None],
        [1, 0, None, None],
        [2, 0, 500, 1000],
        [0, 1, None, None],
        [2, 1, 3000, 3250],
        [None] * 4,  # nothing follows
        [2, 2, 1000, 1250],
    ]
    talk.say({"mode": "online"})
    assert second is talk.stream


def test_utterances_of_one_pass_are_counted_too() -> None:
    talk = Talk(FunASR)
    talk.say(FIRST_MESSAGES["funasr-client"] | {"mode": "online"}, AUDIO)
    talk.tell([hears(0, "one"), said(0, "one two"), said(1, ""), said(2, "three")])
    assert [(answer["text"], answer["slice_type"], answer["index"]) for answer in talk.heard()] == [
        ("one", 0, 0),
        (" two", 1, 0),
        (" three", 0, 1),
    ]


def test_a_file_client_that_names_no_mode_gets_one_answer_for_each_file() -> None:
    """FunASR's C++ file client: its server knows no modes, and it counts messages to know when it is done."""
    first = {
        "chunk_size": [5, 10, 5], "chunk_interval": 10, "wav_name": "one", "wav_format": "pcm", "audio_fs": 16000,
        "itn": True, "is_speaking": True,
    }  # fmt: skip
    talk = Talk(FunASR)
    for name in ("one", "two"):
        talk.say(first | {"wav_name": name}, 3 * AUDIO, END)
        (answer,) = talk.heard()
        assert (answer["mode"], answer["wav_name"], answer["text"]) == (
            "offline",
            name,
            " ".join(expected_texts(3 * AUDIO)),
        )


# --- the end of an input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "shown"), [("2pass", "2pass-offline"), ("online", "online"), ("offline", "offline"), ("", "2pass-offline")]
)
@pytest.mark.parametrize("audio", [b"", b"x"])
@pytest.mark.parametrize(
    "end", [END, {"is_finished": True}, {"is_speaking": 0}, {"is_speaking": True, "is_finished": 1}]
)
def test_nothing_said(mode: str, shown: str, audio: bytes, end: Message) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | {"mode": mode}, audio)
    if audio:
        talk.stream.hold_end = True
    talk.say(end)
    if audio:
        talk.tell([said(0, ""), ev.SessionEnded(0.0)])
    assert heard(talk) == [message(shown, "", final=True)]


@pytest.mark.parametrize("mode", ["2pass", "online", "offline"])
@pytest.mark.parametrize("said_anything", [True, False])
def test_an_acknowledgement_is_the_last_message(mode: str, said_anything: bool) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | {"mode": mode}, AUDIO if said_anything else b"", END | {"is_end": True})
    *results, acknowledgement = heard(talk)
    assert acknowledgement == message(mode, "", final=True, is_end=True)
    assert bool(results) is said_anything
    assert not any(result["is_final"] or "is_end" in result for result in results)
    if said_anything:
        assert (
            "".join(result["text"] for result in results if result["mode"] != "2pass-online")
            == expected_texts(AUDIO)[0]
        )


def test_inputs_follow_one_another() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO, END, BEGIN | {"wav_name": "second"}, AUDIO * 2, END, END)
    last = [(each["text"], each["wav_name"]) for each in heard(talk) if each["is_final"]]
    assert last == [(*expected_texts(AUDIO), "demo"), (*expected_texts(AUDIO * 2), "second"), ("", "second")]
    assert len(talk.engine.streams) == 2
    assert all(stream.ended for stream in talk.engine.streams)


def test_an_input_is_told_of_when_the_one_before_it_is_through() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO)
    first = talk.stream
    first.hold_end = True
    talk.say(END | {"is_end": True}, BEGIN | {"wav_name": 2, "mode": "online"}, AUDIO)
    heard(talk)
    second = talk.stream
    second.hold_end = True
    talk.tell([hears(0, "three"), said(0, "three four")], second)
    talk.say(END, BEGIN | {"wav_name": "third"}, END)
    assert heard(talk) == []
    talk.tell([said(0, "One."), ev.SessionEnded(1.0)], first)
    assert bare(heard(talk)) == [
        message("2pass-offline", "One."),
        message("2pass", "", final=True, is_end=True),
        message("online", "three", name=2),  # what follows may turn out to be the last
    ]
    talk.tell([hears(1, "five", ""), said(1, "five"), ev.SessionEnded(1.0)], second)
    assert heard(talk) == [
        message("online", " four", name=2),
        message("online", " five", name=2, final=True),
        message("online", "", name="third", final=True),
    ]


def test_audio_without_any_message_is_recognised() -> None:
    talk = Talk(FunASR)
    talk.say(AUDIO, END)
    assert [each["text"] for each in heard(talk)][-1] == expected_texts(AUDIO)[0]
    talk.say(AUDIO)
    assert len(talk.engine.streams) == 2


def test_an_incomplete_sample_does_no_harm() -> None:
    talk = Talk(FunASR)
    talk.say(AUDIO)
    talk.stream.hold_end = True
    talk.say(END)
    talk.tell([said(0, "One."), ev.InputRejected("incomplete_sample", "odd"), ev.SessionEnded(1.0)])
    assert [each["text"] for each in heard(talk)] == ["One."]
    assert heard(talk) == []


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk_size": "5,10,5"},
        {"chunk_size": [0, 10, 5], "chunk_interval": 10, "encoder_chunk_look_back": 4, "decoder_chunk_look_back": 0},
        {"chunk_size": 7, "chunk_interval": "ten"},
        {"hotwords": ""},
        {"hotwords": '{"阿里巴巴":20}'},
        {"hotwords": '{"hello":"20"}'},
        {"hotwords": "one,two"},
        {"hotwords": "one two"},
        {"hotwords": {"one": 1}},
        {"itn": False, "svs_lang": "auto", "svs_itn": True},
        {"audio_fs": 16000.0},
        {"audio_fs": "16000"},
        {"audio_fs": None, "wav_format": "", "mode": None, "wav_name": ""},
        {"wav_format": "PCM"},
        {"wav_format": "wav"},
        {"wav_format": ".pcm"},
        {"is_speaking": 1, "is_finished": False, "unheard": "of"},
    ],
)
def test_every_form_of_a_field_is_accepted(fields: Message) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | fields, AUDIO, END)
    assert [each["text"] for each in heard(talk)][-1] == expected_texts(AUDIO)[0]
    assert talk.stream.config.format == AudioFormat(rate=16000)


@pytest.mark.parametrize(
    ("fields", "itn"),
    [({}, False), ({"itn": True}, True), ({"itn": 0}, False), ({"itn": True, "mode": "online"}, False)],
)
def test_numbers_are_written_where_a_client_asks_for_it(fields: Message, itn: bool) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | fields, AUDIO)
    assert talk.stream.config.itn == itn


def test_what_asks_for_numbers_is_true_or_false() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | {"itn": "some"})
    (refused,) = talk.heard()
    assert (refused["error"], refused["allowed"]) == ("`itn` is 'some'", ["true", "false"])


def test_hotwords_hold_for_what_follows_and_change_what_goes_on() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | {"hotwords": '{"阿里巴巴":20,"MLX":"40"}'})
    talk.say(b"ab" * 100)
    talk.say({"hotwords": "one,two"})
    talk.say({"hotwords": "New York 10\niPhone\n"})
    talk.say({"hotwords": 7})
    assert talk.engine.streams[0].expected == [
        (Hotword("阿里巴巴"), Hotword("MLX", 2.0)),
        (Hotword("one"), Hotword("two")),
        (Hotword("New York", 0.5), Hotword("iPhone")),
        (),
    ]


def test_settings_hold_for_what_follows() -> None:
    talk = Talk(FunASR)
    talk.say(
        {"audio_fs": 8000, "wav_name": "a"}, {"mode": "offline"}, {"is_speaking": True}, {"audio_fs": 8000.0}, AUDIO
    )
    assert talk.stream.config.format.rate == 8000
    talk.say({"audio_fs": 16000, "mode": "2pass", "wav_name": "b"}, END)
    assert [(each["mode"], each["wav_name"]) for each in heard(talk)] == [("offline", "a")]
    talk.say(AUDIO, END)
    assert talk.stream.config.format.rate == 16000
    assert {each["wav_name"] for each in heard(talk)} == {"b"}


@pytest.mark.parametrize("text", ["", "hello", "{", "[]", "3", "null", "[" * 100_000, '{"mode":"2pass"} x'])
def test_what_is_no_json_object_does_not_end_the_connection(text: str) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO, text)
    (answer,) = heard(talk)
    assert answer["error"].startswith("text messages carry one JSON object each")
    assert {key: answer[key] for key in ("mode", "text", "wav_name", "is_final", "code")} == message(
        "2pass", "", code="invalid_json"
    )
    talk.say(AUDIO, END)
    assert heard(talk)[-1]["text"] == expected_texts(AUDIO * 2)[0]


@pytest.mark.parametrize(
    ("fields", "code", "close_code", "error"),
    [
        ({"mode": "3pass"}, "unsupported", 1003, "there is no mode '3pass', but 2pass, online and offline"),
        ({"mode": ["2pass"]}, "unsupported", 1003, "there is no mode ['2pass'], but 2pass, online and offline"),
        ({"audio_fs": "16k"}, "invalid_message", 1007, "`audio_fs` is '16k'; it must be a whole number"),
        ({"audio_fs": 1.5}, "invalid_message", 1007, "`audio_fs` is 1.5; it must be a whole number"),
        ({"audio_fs": True}, "invalid_message", 1007, "`audio_fs` is True; it must be a whole number"),
        ({"audio_fs": [16000]}, "invalid_message", 1007, "`audio_fs` is [16000]; it must be a whole number"),
        ({"audio_fs": "inf"}, "invalid_message", 1007, "`audio_fs` is 'inf'; it must be a whole number"),
        ({"wav_format": 1}, "invalid_message", 1007, "`wav_format` is 1"),
        ({"wav_name": {}}, "invalid_message", 1007, "`wav_name` must be a string of at most 1000 characters"),
        ({"wav_name": "x" * 1001}, "invalid_message", 1007, "`wav_name` must be a string of at most 1000 characters"),
        ({"is_speaking": "no"}, "invalid_message", 1007, "`is_speaking` is 'no'"),
        ({"is_finished": {}}, "invalid_message", 1007, "`is_finished` is {}"),
        ({"is_speaking": False, "is_end": "yes"}, "invalid_message", 1007, "`is_end` is 'yes'"),
    ],
)
def test_wrong_values_end_the_connection_but_lose_no_audio(
    fields: Message, code: str, close_code: int, error: str
) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO, fields, b"ignored", END)
    *results, last = heard(talk)
    assert [each["text"] for each in results][-1] == expected_texts(AUDIO)[0]
    assert not any(result["is_final"] for result in results)
    last.pop("allowed", None)
    assert last == message("2pass", "", final=True, code=code, error=error)
    assert talk.close_code == close_code
    assert talk.stream.audio == AUDIO


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"audio_fs": 4000}, "audio rate 4000 is not supported; allowed: whole numbers 8000 to 48000"),
        ({"audio_fs": 1e30}, "audio rate 1000000000000000019884624838656 is not supported"),
    ],
)
def test_audio_that_cannot_be_had(fields: Message, error: str) -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN | fields, AUDIO)
    (last,) = heard(talk)
    assert last["error"].startswith(error)
    assert (last["code"], last["is_final"], talk.close_code) == ("unsupported", True, 1003)
    assert talk.engine.streams == []


def wav(samples: NDArray[np.int16], rate: int, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("fields", [{}, {"wav_format": "PCM", "audio_fs": 44100}, {"wav_format": "others"}])
@pytest.mark.parametrize("size", [1, 7, 44, 960, 10_000])
def test_the_header_of_a_wav_file_is_no_audio(fields: Message, size: int) -> None:
    samples = np.arange(2000, dtype=np.int16)
    talk = Talk(FunASR)
    data = wav(np.stack([samples, samples], axis=1), 8000)
    talk.say(BEGIN | fields | {"mode": "offline"}, *(data[first : first + size] for first in range(0, len(data), size)))
    assert talk.stream.audio == np.repeat(samples, 2).tobytes()
    assert talk.stream.config.format == AudioFormat(Encoding.S16LE, 8000, 2, "mix")
    talk.say(END)
    assert heard(talk)[-1]["is_final"]


def test_a_wav_file_that_cannot_be_read() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, wav(np.zeros(100, np.int16), 8000, "IMA_ADPCM"))
    (last,) = heard(talk)
    assert (last["error"], talk.close_code) == ("a WAV header says format 17 with 4 bits", 1003)


# --- the server's side fails ----------------------------------------------------------------------


def test_no_room_for_another() -> None:
    talk = Talk(FunASR)
    talk.engine.refusal = CapacityError("the machine is busy")
    talk.say(BEGIN, AUDIO)
    assert heard(talk) == [message("2pass", "", final=True, code="capacity", error="the machine is busy")]
    assert talk.close_code == 1013


def test_a_stopping_server_tells_what_was_heard() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO, END, BEGIN | {"mode": "offline", "wav_name": "second"}, AUDIO)
    heard(talk)
    talk.admission.drain()
    text = expected_texts(AUDIO)[0]
    *results, last = heard(talk)
    assert bare(results[-1:]) == [message("offline", text, name="second")]
    assert (last["code"], last["is_final"], last["wav_name"]) == ("shutting_down", True, "second")
    assert talk.close_code == 1001


def test_a_failure_while_inputs_wait_for_one_another_loses_nothing() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO)
    first = talk.stream
    first.hold_end = True
    talk.say(END, BEGIN | {"wav_name": "second"}, AUDIO)
    second = talk.stream
    heard(talk)
    talk.tell([said(0, "Two.")], second)
    talk.say({"mode": "wrong"})
    assert heard(talk) == []
    talk.tell([said(0, "One."), ev.SessionEnded(1.0)], first)
    texts = [(each["text"], each["wav_name"], each["is_final"]) for each in heard(talk)]
    assert texts[:2] == [("One.", "demo", False), ("Two.", "second", False)]
    assert texts[-1] == ("", "second", True)
    assert talk.close_code == 1003


def test_an_error_is_the_acknowledgement_of_those_who_wait_for_one() -> None:
    talk = Talk(FunASR)
    talk.say(BEGIN, AUDIO)
    talk.stream.hold_end = True
    talk.say(END | {"is_end": True})
    talk.tell([said(0, "One."), ev.InputRejected("internal_error", "broken"), ev.SessionEnded(1.0)])
    result, last = heard(talk)
    assert (result["text"], result["is_final"]) == ("One.", False)
    assert last == message("2pass", "", final=False, is_end=True, code="internal", error="broken")
    assert talk.close_code == 1011


def test_a_client_that_never_reads_is_cut_off() -> None:
    talk = Talk(FunASR, max_unsent=256)
    talk.say(BEGIN, b"x" * (200 * UTTERANCE))
    (last,) = heard(talk)
    assert (last["code"], talk.close_code) == ("slow_client", 1008)
    assert talk.stream.cancelled


# --- over sockets ---------------------------------------------------------------------------------


class Page:
    """What FunASR's clients show: the texts that are final, and what was appended to them since."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.finals = ""
        self.appended = ""

    def show(self, text: str) -> Message:
        message: Message = json.loads(text)
        self.messages.append(message)
        if message["mode"] in ("online", "2pass-online"):
            self.appended += message["text"]
        else:
            self.finals += message["text"]
            self.appended = ""
        assert isinstance(message["is_final"], bool)
        assert "timestamp" not in message or json.loads(message["timestamp"])
        return message


ALL = " ".join(SAMPLE_TEXTS)
WORDS = "enter one seventy six rubout GMEF three nine ten twenty seven sixty two"


async def show_until_final(websocket: Any) -> Page:
    page = Page()
    while not page.show(await websocket.recv())["is_final"]:
        pass
    return page


@pytest.mark.parametrize(("mode", "path"), [("2pass", "/"), ("online", "//"), ("offline", "/?token=none")])
def test_speech(engine: Engine, sample: NDArray[np.int16], mode: str, path: str) -> None:
    @asynchronous
    async def run() -> None:
        async with (
            serving(engine) as server,
            connected(server, path, subprotocols=["binary"] if mode == "2pass" else None) as websocket,
        ):
            assert websocket.subprotocol == ("binary" if mode == "2pass" else None)
            showing = asyncio.create_task(show_until_final(websocket))
            await speak(websocket, BEGIN | {"mode": mode}, sample.tobytes(), END, size=1920)
            page = await showing
        finals = [each for each in page.messages if each["mode"] in ("2pass-offline", "offline") and each["text"]]
        match mode:
            case "online":
                assert page.appended == WORDS
            case "2pass":
                assert page.finals == ALL
                assert page.appended == ""
                assert [each["text"].strip() for each in finals] == SAMPLE_TEXTS
            case "offline":
                assert [each["text"] for each in page.messages] == [ALL]
                assert len(json.loads(page.messages[0]["timestamp"])) == len(ALL.split())
        assert [each["is_final"] for each in page.messages] == [False] * (len(page.messages) - 1) + [True]

    run()


@pytest.mark.parametrize("mode", ["2pass", "offline"])
def test_funasr_client(engine: Engine, sample: NDArray[np.int16], mode: Literal["2pass", "offline"]) -> None:
    """The client of that name on PyPI, which looks for `2pass-offline` in every mode."""

    @asynchronous
    async def run() -> None:
        heard: list[Any] = []
        async with serving(engine) as server:
            client = AsyncFunASRClient[Any](f"ws://127.0.0.1:{server.port}/", mode=mode, callback=heard.append)
            async with client:
                for piece in pieces(sample.tobytes(), 6400):
                    await client.send(piece)
        merged = merge_messages(heard)
        assert merged["text"] == ALL
        assert merged["stamp_sents"][0]["text_seg"].startswith("Enter one")
        # These utterances are too short for text that is stable between their first words and their finals.
        assert {message["slice_type"] for message in heard} == ({0, 2} if mode == "2pass" else {2})

    run()


@asynchronous
async def test_any_cut_of_a_wav_file_gives_the_same_finals(engine: Engine, sample: NDArray[np.int16]) -> None:
    """The web page sends files in messages of 960 bytes, the C++ client ones of 200 KB."""
    data = wav(sample[: 4 * 16000], 16000)
    raw = data[44:]
    results = []
    async with serving(engine) as server, connected(server, "/") as websocket:
        for audio, size, pause in ((raw, 3200, 0.005), (data, 960, 0), (data, 204_800, 0), (data, 1001, 0)):
            showing = asyncio.create_task(show_until_final(websocket))
            begin = BEGIN | {"mode": "offline"}
            await speak(websocket, begin, audio, END, size=size, pause=functools.partial(asyncio.sleep, pause))
            results.append((await showing).messages)
    assert [each["text"] for each in results[0]] == SAMPLE_TEXTS[:1]
    assert all(result == results[0] for result in results)


@asynchronous
async def test_a_client_may_send_many_recordings_without_waiting_for_answers(
    engine: Engine, sample: NDArray[np.int16]
) -> None:
    pieces = (sample[: 4 * 16000], sample[4 * 16000 : 9 * 16000 - 8000])
    async with serving(engine) as server, connected(server, "/") as websocket:

        async def listen() -> list[Page]:
            return [await show_until_final(websocket) for _ in range(20)]

        listening = asyncio.create_task(listen())
        for number in range(20):
            end = END | {"is_end": number % 3 == 0}
            await speak(websocket, BEGIN | {"wav_name": number}, pieces[number % 2].tobytes(), end, size=64000)
        pages = await listening
    assert [page.finals for page in pages] == SAMPLE_TEXTS[:2] * 10
    assert [{each["wav_name"] for each in page.messages} for page in pages] == [{number} for number in range(20)]
    assert ["is_end" in page.messages[-1] for page in pages] == [number % 3 == 0 for number in range(20)]


@asynchronous
async def test_finals_come_from_a_server_that_stops(engine: Engine, sample: NDArray[np.int16]) -> None:
    async with serving(engine, drain_timeout=20, close_timeout=5) as server, connected(server, "/") as websocket:
        await speak(websocket, BEGIN, sample[: 3 * 16000].tobytes())
        await until(lambda: server._admission.open[0].seconds == 3)
        closing = asyncio.create_task(server.close())
        texts, code = await all_of(websocket)
        await closing
    page = Page()
    last = [page.show(text) for text in texts][-1]
    assert page.finals.split()[:2] == ["Enter", "one"]
    assert (last["code"], code) == ("shutting_down", 1001)


@asynchronous
async def test_a_silent_client_gets_its_finals_and_an_error() -> None:
    async with serving(FakeEngine(), idle_timeout=0.2) as server, connected(server, "/") as websocket:
        await speak(websocket, BEGIN, AUDIO)
        texts, code = await all_of(websocket)
    page = Page()
    last = [page.show(text) for text in texts][-1]
    assert page.finals == expected_texts(AUDIO)[0]
    assert (last["code"], last["is_final"], code) == ("idle_timeout", True, 1008)


@asynchronous
async def test_a_recording_may_come_in_one_message() -> None:
    engine = FakeEngine()
    async with serving(engine) as server, connected(server, "/", max_size=None) as websocket:
        await websocket.send(json.dumps(BEGIN | {"mode": "offline"}))
        await websocket.send(bytes(3 << 20))
        await until(lambda: bool(engine.streams))
    assert len(engine.streams[0].audio) == 3 << 20


@asynchronous
async def test_a_port_of_its_own() -> None:
    async with serving(FakeEngine(), listen=("funasr=0",)) as server:
        server.port = server.ports["funasr"]
        for path in ("/", "/v1/stream", "/vosk"):
            async with connected(server, path) as websocket:
                await speak(websocket, BEGIN, END)
                assert json.loads(await websocket.recv()) == message("2pass-offline", "", final=True)
