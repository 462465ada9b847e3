"""Whatever clients of FunASR, vosk and sherpa-onnx send: an answer or an error, never an exception."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.server.protocols.base import Adapter
from parastream.server.protocols.funasr.adapter import FunASR
from parastream.server.protocols.sherpa import Sherpa
from parastream.server.protocols.vosk import Vosk

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
    *("config", "eof", "reset"),
]
CONFIG = st.fixed_dictionaries({"config": st.dictionaries(st.sampled_from(["sample_rate", "words"]), VALUES)})
MESSAGES = st.lists(
    st.binary(max_size=60)
    | st.just(b"\0\0" * 2000)
    | st.sampled_from(["Done", "{}", "RIFF", '{"is_speaking":false}', '{"eof" : 1}', '{"reset":1}'])
    | st.text(max_size=5)
    | (st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3) | CONFIG).map(json.dumps),
    max_size=8,
)


@pytest.mark.parametrize("kind", [FunASR, Vosk, Sherpa])
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
