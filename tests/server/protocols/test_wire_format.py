"""The exact JSON of every message that a protocol other than the native one sends."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from parastream.server.protocols.deepgram import messages as deepgram

ALTERNATIVES = deepgram.Alternatives(
    (deepgram.Alternative("Hello.", 0.75, (deepgram.SpokenWord("hello", 0.5, 0.9, 0.75, "Hello."),)),)
)
METADATA = deepgram.ResultsMetadata("r", deepgram.ModelInfo("m", "1.0"), "u")

DEEPGRAM = [
    (
        deepgram.Results((0, 2), 0.5, 0.4, True, True, False, ALTERNATIVES, METADATA),
        '{"type":"Results","channel_index":[0,2],"duration":0.5,"start":0.4,"is_final":true,"speech_final":true,'
        '"from_finalize":false,"channel":{"alternatives":[{"transcript":"Hello.","confidence":0.75,"words":['
        '{"word":"hello","start":0.5,"end":0.9,"confidence":0.75,"punctuated_word":"Hello."}]}]},'
        '"metadata":{"request_id":"r","model_info":{"name":"m","version":"1.0","arch":"paraformer"},"model_uuid":"u"}}',
    ),
    (
        deepgram.SpokenWord("hello", 0.5, 0.9, 0.75),
        '{"word":"hello","start":0.5,"end":0.9,"confidence":0.75}',
    ),
    (deepgram.SpeechStarted((1, 2), 0.5), '{"type":"SpeechStarted","channel":[1,2],"timestamp":0.5}'),
    (deepgram.UtteranceEnd((0, 1), 0.9), '{"type":"UtteranceEnd","channel":[0,1],"last_word_end":0.9}'),
    (
        deepgram.ConfigureFailure("r", "CONFIGURE_INTERNAL_ERROR", "why"),
        '{"type":"ConfigureFailure","request_id":"r","code":"CONFIGURE_INTERNAL_ERROR","description":"why"}',
    ),
    (
        deepgram.ErrorMessage("SchemaError", "why", "DATA-0000", "text"),
        '{"type":"Error","variant":"SchemaError","description":"why","code":"DATA-0000","message":"text"}',
    ),
    (
        deepgram.Metadata(request_id="r", sha256="abc", created="2026-01-01T00:00:00.000Z", duration=2.0, channels=1),
        '{"type":"Metadata","transaction_key":"deprecated","request_id":"r","sha256":"abc",'
        '"created":"2026-01-01T00:00:00.000Z","duration":2.0,"channels":1}',
    ),
    (
        deepgram.BadRequest(
            "unsupported", "no", ("a",), err_code="Bad Request", err_msg="Bad Request: no", request_id="r"
        ),
        '{"type":"error","code":"unsupported","message":"no","allowed":["a"],"err_code":"Bad Request",'
        '"err_msg":"Bad Request: no","request_id":"r"}',
    ),
]


@pytest.mark.parametrize(("message", "expected"), DEEPGRAM, ids=lambda each: type(each).__name__)
def test_a_message_has_its_exact_form(message: msgspec.Struct, expected: str) -> None:
    assert msgspec.json.encode(message).decode() == expected


def _tags(union: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in union.__args__}


def test_every_message_of_deepgram_is_above() -> None:
    shown = {json.loads(expected).get("type") for _, expected in DEEPGRAM}
    assert shown >= _tags(deepgram.ServerMessage)
