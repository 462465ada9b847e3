"""Clients of `funasr-realtime-server`: commands by hand."""

from __future__ import annotations

import json
import logging

import pytest
from parastream.server.protocols.funasr_realtime import FunASRRealtime
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import events as ev

from ..fakes import FakeEngine, asynchronous, expected_texts, serving
from .talking import Message, Talk, connected, hears, said

AUDIO = b"ab" * 640
STARTED, STOPPED = {"event": "started"}, {"event": "stopped"}


def result(*sentences: tuple[str, int, int], partial: str = "", start: int | None = None, ms: int = 40) -> Message:
    """A result that is not the last one."""
    return {
        "sentences": [{"text": text, "start": first, "end": last} for text, first, last in sentences],
        "partial": partial,
        "partial_start_ms": ms if start is None else start,
        "duration_ms": ms,
        "is_final": False,
    }


def last(*sentences: tuple[str, int, int], ms: int = 40) -> Message:
    return result(*sentences, start=0, ms=ms) | {"is_final": True}


def started() -> Talk:
    """A session with some audio, whose end waits for the test."""
    talk = Talk(FunASRRealtime)
    talk.say("START", AUDIO)
    talk.stream.hold_end = True
    assert talk.heard() == [STARTED]
    return talk


def test_sentences_gather_and_a_partial_follows_them() -> None:
    talk = started()
    talk.tell([hears(0, "enter", " one")])
    assert talk.heard() == [result(partial="enter one", start=1000)]
    talk.tell([said(0, "Enter one."), hears(1, "two", start=3)])
    one = ("Enter one.", 1000, 1500)
    assert talk.heard() == [result(one, partial=" two", start=3000)]  # the newest of what was not sent yet
    talk.say(AUDIO)
    talk.tell([said(1, "", start=3)])
    assert talk.heard() == [result(one, ms=80)]
    talk.tell([said(2, "")])
    assert talk.heard() == []  # nothing that was told has changed
    talk.say("stop\n")
    assert talk.heard() == []
    talk.tell([said(3, "Three.", start=5), ev.SessionEnded(9.0)])
    three = (" Three.", 5000, 5250)
    assert talk.heard() == [result(one, three, ms=80), last(one, three, ms=80), STOPPED]
    assert talk.adapter.listening


def test_chinese_sentences_are_put_together_without_spaces() -> None:
    talk = started()
    talk.tell([said(0, "你好。"), said(1, "世界。")])
    assert [sentence["text"] for sentence in talk.heard()[-1]["sentences"]] == ["你好。", "世界。"]


def test_commits_end_what_is_being_said_and_begin_anew() -> None:
    talk = Talk(FunASRRealtime)
    talk.say("START", "COMMIT")
    assert talk.heard() == [STARTED, last(ms=0)]
    talk.say(AUDIO, "commit")
    (first,) = [message for message in talk.heard() if message["is_final"]]
    assert [sentence["text"] for sentence in first["sentences"]] == expected_texts(AUDIO)
    talk.say(2 * AUDIO, "COMMIT", "STOP")
    *_, second, end, stopped = talk.heard()
    assert (second["is_final"], len(second["sentences"])) == (True, 1)
    assert not second["sentences"][0]["text"].startswith(" ")
    assert (end["sentences"], end["is_final"], stopped) == ([], True, STOPPED)


def test_settings_are_answered_and_change_nothing() -> None:
    talk = Talk(FunASRRealtime)
    talk.say("HOTWORDS: one ,two,,", "Language:中文", "LANGUAGE:", "START", "hotwords:x:y")
    assert talk.heard() == [
        {"event": "hotwords_set", "hotwords": ["one", "two"]},
        {"event": "language_set", "language": "中文"},
        {"event": "language_set", "language": ""},
        STARTED,
        {"event": "hotwords_set", "hotwords": ["x:y"]},
    ]


@pytest.mark.parametrize("text", ["", "BEGIN", '{"mode":"2pass"}', "POSTPROCESS_HOTWORDS:a=>b", "START:"])
def test_other_commands_are_refused_and_the_session_goes_on(text: str, caplog: pytest.LogCaptureFixture) -> None:
    talk = Talk(FunASRRealtime)
    talk.say("START", text, AUDIO, "STOP")
    _, error, *_, end, _ = talk.heard()
    assert (error["event"], error["code"]) == ("error", "unexpected_message")
    assert error["allowed"] == ["START", "COMMIT", "STOP", "HOTWORDS:…", "LANGUAGE:…"]
    assert [sentence["text"] for sentence in end["sentences"]] == expected_texts(AUDIO)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_audio_outside_a_session_is_ignored() -> None:
    talk = Talk(FunASRRealtime)
    talk.say(AUDIO, "STOP", "COMMIT", "START", b"", "STOP")
    assert talk.engine.streams == []
    stopped, error, *rest = talk.heard()
    assert (stopped, error["event"]) == (STOPPED, "error")
    assert "send START first" in error["error"]
    assert rest == [STARTED, STOPPED]


def test_a_session_is_told_of_when_the_one_before_it_is_through() -> None:
    talk = started()
    first = talk.stream
    talk.say("STOP", "START", "HOTWORDS:x", AUDIO)
    second = talk.stream
    second.hold_end = True
    talk.tell([hears(0, "three"), hears(0, "three four"), said(0, "Three four.")], second)
    talk.say("STOP", "START", "STOP")
    assert talk.heard() == []
    talk.tell([said(0, "One."), ev.SessionEnded(1.0)], first)
    one, words = ("One.", 1000, 1250), ("Three four.", 1000, 1500)
    hotwords = {"event": "hotwords_set", "hotwords": ["x"]}
    assert talk.heard() == [result(one), last(one), STOPPED, STARTED, hotwords, result(words)]
    talk.tell([ev.SessionEnded(1.0)], second)
    assert talk.heard() == [last(words), STOPPED, STARTED, STOPPED]


def test_a_start_ends_a_session_that_was_not_stopped() -> None:
    talk = Talk(FunASRRealtime)
    talk.say("START", AUDIO, "START")
    *_, end, stopped, again = talk.heard()
    assert [sentence["text"] for sentence in end["sentences"]] == expected_texts(AUDIO)
    assert (stopped, again) == (STOPPED, STARTED)


@pytest.mark.parametrize("commands", [("START", "STOP"), ("HOTWORDS:x",)])
def test_commands_do_not_pile_up(commands: tuple[str, ...]) -> None:
    talk = started()
    talk.say("STOP", "START", *(200 * commands))
    assert talk.heard() == []
    talk.tell([said(0, "One."), ev.SessionEnded(1.0)])
    *_, error = talk.heard()
    assert (error["code"], talk.close_code) == ("slow_client", 1008)


def test_an_error_comes_after_what_was_said_in_every_session() -> None:
    talk = started()
    first = talk.stream
    talk.say("STOP", "START", AUDIO)
    talk.adapter.fail(RefusalError("slow_client", "too slow"))
    talk.tell([said(0, "One."), ev.SessionEnded(1.0)], first)
    *_, error = heard = talk.heard()
    assert error == {"event": "error", "error": "too slow", "code": "slow_client"}
    told = [sentence["text"] for message in heard for sentence in message.get("sentences", ())]
    assert {"One.", *expected_texts(AUDIO)} <= set(told)


@asynchronous
async def test_a_path_and_a_port_of_its_own() -> None:
    async with serving(FakeEngine(), listen=("funasr-realtime=0",)) as server:
        for port in (server.port, server.ports["funasr-realtime"]):
            server.port = port
            async with connected(server, "/funasr-realtime") as websocket:
                await websocket.send("START")
                assert json.loads(await websocket.recv()) == STARTED
