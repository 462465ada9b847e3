"""Clients may send anything, and get an answer or an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.server.protocols.base import Adapter
from parastream.server.protocols.deepgram.adapter import Deepgram
from parastream.server.protocols.funasr.adapter import FunASR
from parastream.server.protocols.funasr_realtime import FunASRRealtime
from parastream.server.protocols.openai.adapter import OpenAIRealtime
from parastream.server.protocols.sherpa import Sherpa
from parastream.server.protocols.vosk import Vosk
from parastream.server.protocols.wyoming import Wyoming

from .talking import Talk

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "2pass", "8000", "é"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["words", "x"]), inner, max_size=2),
    max_leaves=4,
)
FIELDS = [
    *("mode", "audio_fs", "wav_format", "wav_name", "is_speaking", "is_finished", "is_end", "hotwords", "chunk_size"),
    *("config", "eof", "reset", "itn", "chunk_interval"),
]
CONFIG = st.fixed_dictionaries({"config": st.dictionaries(st.sampled_from(["sample_rate", "words"]), VALUES)})
MESSAGES = st.lists(
    st.binary(max_size=60)
    | st.just(b"\0\0" * 2000)
    | st.sampled_from(
        [
            "START",
            "COMMIT",
            "STOP",
            "HOTWORDS:",
            "Done",
            "{}",
            "RIFF",
            '{"is_speaking":false}',
            '{"eof" : 1}',
            '{"reset":1}',
        ]
    )
    | st.text(max_size=5)
    | (st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3) | CONFIG).map(json.dumps),
    max_size=8,
)


@pytest.mark.parametrize("kind", [FunASR, FunASRRealtime, Vosk, Sherpa])
@given(messages=MESSAGES)
def test_any_messages(kind: type[Adapter], messages: list[str | bytes]) -> None:
    talk = Talk(kind)
    talk.say(*messages)
    sent = talk.raw()
    assert all(isinstance(json.loads(text), dict) for text in sent if text != "Done!")
    assert talk.adapter.listening or talk.close_code is not None
    if not talk.adapter.listening and talk.close_code != 1000:
        assert json.loads(sent[-1])["error"]
    if kind is Vosk and talk.adapter.listening:
        assert len(sent) == sum(isinstance(each, bytes) or '"reset"' in each for each in messages)


KINDS: dict[type[Adapter], list[str]] = {
    Deepgram: ["KeepAlive", "Finalize", "CloseStream", "Configure"],
    OpenAIRealtime: [
        "session.update",
        "transcription_session.update",
        "conversation.item.retrieve",
        *(f"input_audio_buffer.{name}" for name in ("append", "commit", "clear")),
    ],
    FunASR: [],
    FunASRRealtime: [],
    Vosk: [],
    Sherpa: [],
    Wyoming: ["describe", "ping", "transcribe", "audio-start", "audio-chunk", "audio-stop"],
}
NAMES = [
    *("type", "session", "audio", "input", "format", "turn_detection", "include", "event_id", "keyterms", "features"),
    *("input_audio_format", "transcription", "threshold", "channel", "config", "sample_rate", "eof", "reset", "mode"),
    *("data", "data_length", "payload_length", "rate", "width", "channels", "name", "language", "context", "text"),
    *("$.x", "$", "a.b", "`", "a` - at `$.session", "[0]", ""),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*NAMES, "audio/pcm", "audio/pcmu", "server_vad", "semantic_vad", "AAAA"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_json_gets_an_answer_or_the_documented_error(kind: type[Adapter], data: st.DataObject) -> None:
    talk = Talk(kind, "/?encoding=linear16&sample_rate=16000")
    talk.adapter.start()
    for _ in range(data.draw(st.integers(1, 3))):
        message = data.draw(JSON)
        if KINDS[kind] and isinstance(message, dict) and data.draw(st.booleans()):
            message["type"] = data.draw(st.sampled_from(KINDS[kind]))
        text = json.dumps(message)
        if isinstance(message, dict) and message and data.draw(st.booleans()):
            text = f"{text[:-1]}, {text[1:]}"  # every key twice
        talk.adapter.receive(f"{text}\n".encode() if kind is Wyoming else text)
    assert not talk.adapter.aborted
    assert talk.close_code != 1011
    assert talk.adapter.listening or talk.adapter.take() is not None
