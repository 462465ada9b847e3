"""Hotwords reach the engine in every protocol, from the beginning and when they change."""

from __future__ import annotations

import base64
import json

from parastream.model.hotwords import Hotword
from parastream.server.protocols.deepgram.flux import Flux
from parastream.server.protocols.funasr_realtime import FunASRRealtime
from parastream.server.protocols.openai.adapter import OpenAIRealtime
from parastream.server.protocols.vosk import Vosk

from .talking import Talk

ONE, TWO = (Hotword("New York"), Hotword("MLX")), (Hotword("Nguyễn"),)
AUDIO = b"ab" * 1600


def test_vosk() -> None:
    talk = Talk(Vosk)
    talk.say(
        {"config": {"phrase_list": ["New York", "MLX", "[unk]", 7]}}, AUDIO, {"config": {"phrase_list": ["Nguyễn"]}}
    )
    talk.say({"config": {"phrase_list": "none"}})
    assert talk.stream.expected == [ONE, TWO]


def test_deepgram_flux() -> None:
    talk = Talk(Flux, "/v2/listen?encoding=linear16&sample_rate=16000&keyterm=New%20York&keyterm=MLX")
    talk.adapter.start()
    talk.say(AUDIO, {"type": "Configure", "keyterms": ["Nguyễn"]}, {"type": "Configure"})
    assert talk.stream.expected == [ONE, TWO]


def test_deepgram_flux_before_audio() -> None:
    talk = Talk(Flux, "/v2/listen")
    talk.adapter.start()
    talk.say({"type": "Configure", "keyterms": ["New York", "MLX"]})
    assert talk.engine.streams == []


def test_funasr_realtime() -> None:
    talk = Talk(FunASRRealtime)
    talk.say("HOTWORDS:New York,MLX", "START", AUDIO, "HOTWORDS:Nguyễn")
    assert talk.stream.expected == [ONE, TWO]


def test_openai() -> None:
    talk = Talk(OpenAIRealtime)
    talk.adapter.start()

    def update(**options: object) -> str:
        audio = {"input": {"transcription": {"model": "x", **options}}}
        return json.dumps({"type": "session.update", "session": {"type": "transcription", "audio": audio}})

    append = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(AUDIO).decode()})
    talk.say(update(prompt="New York, MLX"), append, update(prompt="New York, MLX"), update(prompt="Nguyễn"))
    assert talk.stream.expected == [ONE, TWO]


def test_those_of_the_server_come_first() -> None:
    talk = Talk(Vosk)
    talk.admission._expected = (Hotword("parastream", 2.0),)
    talk.say({"config": {"phrase_list": ["MLX"]}}, AUDIO, {"config": {"phrase_list": []}})
    assert talk.stream.expected == [(Hotword("parastream", 2.0), Hotword("MLX")), (Hotword("parastream", 2.0),)]
