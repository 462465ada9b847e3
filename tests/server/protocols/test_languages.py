"""The language that a client names, in each protocol; and the one that was found, in each that has a place for it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from parastream.server.protocols.base import Adapter
from parastream.server.protocols.deepgram.adapter import Deepgram
from parastream.server.protocols.funasr.adapter import FunASR
from parastream.server.protocols.funasr_realtime import FunASRRealtime
from parastream.server.protocols.openai.adapter import OpenAIRealtime
from parastream.server.protocols.wyoming import Wyoming
from parastream.streaming.events import Event, SpeechEnded

from ..fakes import FakeEngine
from .talking import Talk, said

KNOWN = ("zh", "en", "yue", "ja", "ko")
QUIET = bytes(320)


def talk_of(kind: type[Adapter], path: str = "/") -> Talk:
    """A talk with a server whose models know several languages."""
    talk = Talk(kind, path)
    knows(talk.engine)
    talk.adapter.start()
    return talk


def knows(engine: FakeEngine) -> None:
    engine.languages = KNOWN


def wyoming(kind: str, data: dict[str, Any], payload: bytes = b"") -> bytes:
    return json.dumps({"type": kind, "data": data, "payload_length": len(payload)}).encode() + b"\n" + payload


def deepgram_asks(language: str) -> Talk:
    return talk_of(Deepgram, f"/v1/listen?encoding=linear16&sample_rate=16000&language={language}")


def openai_asks(language: str) -> Talk:
    talk = talk_of(OpenAIRealtime)
    options = {"type": "transcription", "audio": {"input": {"transcription": {"language": language}}}}
    talk.say({"type": "session.update", "session": options})
    talk.say({"type": "input_audio_buffer.append", "audio": base64.b64encode(QUIET).decode()})
    return talk


def funasr_asks(language: str) -> Talk:
    talk = talk_of(FunASR)
    talk.say({"mode": "2pass", "svs_lang": language, "is_speaking": True}, QUIET)
    return talk


def wyoming_asks(language: str) -> Talk:
    talk = talk_of(Wyoming)
    talk.say(wyoming("transcribe", {"language": language}))
    talk.say(wyoming("audio-chunk", {"rate": 16000, "width": 2, "channels": 1}, QUIET))
    return talk


def test_funasrs_realtime_server_takes_names() -> None:
    talk = talk_of(FunASRRealtime)
    for named, heeded in (("中文", "zh"), ("Japanese", "ja"), ("ko", "ko"), ("Klingon", None), ("", None)):
        talk.say(f"LANGUAGE: {named}", "START", QUIET, "STOP")
        assert talk.stream.config.language == heeded


@pytest.mark.parametrize("ask", [deepgram_asks, openai_asks, funasr_asks, wyoming_asks])
@pytest.mark.parametrize(
    ("named", "heeded"),
    [("ja", "ja"), ("en-US", "en"), ("zh_CN", "zh"), ("zh-HK", "yue"), ("KO", "ko"), ("fr", None), ("auto", None)],
)
def test_a_language_is_heeded_where_the_models_know_it(ask: Any, named: str, heeded: str | None) -> None:
    assert ask(named).stream.config.language == heeded


def test_none_is_named() -> None:
    for talk in (talk_of(FunASR), talk_of(FunASR)):
        talk.say({"mode": "2pass", "svs_lang": None}, QUIET)
        assert talk.stream.config.language is None


def found(text: str, language: str) -> list[Event]:
    final = replace(said(0, text), language=language)
    return [SpeechEnded(0, final.end, "silence"), final]


@pytest.mark.parametrize(
    ("query", "told"), [("language=multi", ["ja"]), ("detect_language=true", ["ja"]), ("language=ja", None), ("", None)]
)
def test_deepgrams_clients_are_told_what_was_found_if_they_ask(query: str, told: list[str] | None) -> None:
    talk = talk_of(Deepgram, f"/v1/listen?encoding=linear16&sample_rate=16000&{query}")
    talk.tell([*found("hai", "ja")][1:])
    (result,) = talk.heard()
    assert result["channel"]["alternatives"][0].get("languages") == told


@pytest.mark.parametrize(("named", "told"), [(None, "ko"), ("en", "en")])
def test_wyomings_clients_are_told_what_was_found_or_named(named: str | None, told: str) -> None:
    talk = talk_of(Wyoming)
    talk.say(wyoming("transcribe", {"language": named} if named else {}))
    talk.say(wyoming("audio-chunk", {"rate": 16000, "width": 2, "channels": 1}, QUIET))
    talk.tell(found("ne", "ko")[1:])
    talk.say(wyoming("audio-stop", {}))
    data = "".join(talk.raw())
    assert data.count(f'"language":"{told}"') == 2  # of the start and of the whole


@pytest.mark.parametrize(("named", "heeded"), [("language=ja", "ja"), ("language=fr", "ko"), ("", "ko")])
def test_who_names_no_language_speaks_the_servers(named: str, heeded: str) -> None:
    talk = Talk(Deepgram, f"/v1/listen?encoding=linear16&sample_rate=16000&{named}", language="ko")
    knows(talk.engine)
    talk.adapter.start()
    assert talk.stream.config.language == heeded
