"""The exact JSON of every message that a protocol other than the native one sends."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import msgspec
import pytest
from parastream.server.protocols import sherpa, vosk, wyoming
from parastream.server.protocols.deepgram import flux_messages as flux
from parastream.server.protocols.deepgram import messages as deepgram
from parastream.server.protocols.funasr import messages as funasr
from parastream.server.protocols.openai import messages as openai

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
    (deepgram.ConfigureSuccess("r"), '{"type":"ConfigureSuccess","request_id":"r"}'),
    (
        deepgram.ConfigureSuccess("r", ("x",)),
        '{"type":"ConfigureSuccess","request_id":"r","keyterms":["x"]}',
    ),
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


AUDIO_JSON = (
    '{"input":{"format":{"type":"audio/pcm","rate":24000},"transcription":null,"noise_reduction":null,"turn_detection":'
    '{"type":"server_vad","threshold":0.5,"prefix_padding_ms":300,"silence_duration_ms":500,"create_response":null,'
    '"interrupt_response":null,"idle_timeout_ms":null}}}'
)
SHOWN_JSON = (
    '{"id":"s","object":"realtime.transcription_session","type":"transcription","audio":'
    + AUDIO_JSON
    + ',"include":null}'
)
SHOWN = openai.ShownSession(id="s", audio=openai.Audio(), include=None)
BETA = openai.BetaSession(
    id="s",
    include=(openai.LOGPROBS,),
    input_audio_format="g711_ulaw",
    input_audio_transcription=openai.TranscriptionOptions(model="m"),
    input_audio_noise_reduction=openai.NoiseReduction("near_field"),
    turn_detection=None,
)
BETA_JSON = (
    '{"id":"s","object":"realtime.transcription_session","include":["item.input_audio_transcription.logprobs"],'
    '"input_audio_format":"g711_ulaw","input_audio_transcription":{"model":"m","language":null,"prompt":null,'
    '"languages":null,"keywords":null,"delay":null},"input_audio_noise_reduction":{"type":"near_field",'
    '"strength":null},"turn_detection":null}'
)
ITEM_JSON = (
    '{"id":"i","object":"realtime.item","type":"message","status":"completed","role":"user","content":'
    '[{"type":"input_audio","transcript":null}]}'
)
OF_AN_ITEM = '"event_id":"e","item_id":"i","content_index":0'

OPENAI = [
    (
        openai.SessionCreated(event_id="e", session=SHOWN),
        '{"type":"session.created","event_id":"e","session":' + SHOWN_JSON + "}",
    ),
    (
        openai.SessionUpdated(event_id="e", session=SHOWN),
        '{"type":"session.updated","event_id":"e","session":' + SHOWN_JSON + "}",
    ),
    *(
        (
            kind(event_id="e", session=BETA),
            f'{{"type":"transcription_session.{name}","event_id":"e","session":{BETA_JSON}}}',
        )
        for kind, name in ((openai.BetaCreated, "created"), (openai.BetaUpdated, "updated"))
    ),
    (
        openai.SpeechStarted(audio_start_ms=100, event_id="e", item_id="i"),
        '{"type":"input_audio_buffer.speech_started","event_id":"e","audio_start_ms":100,"item_id":"i"}',
    ),
    (
        openai.SpeechStopped(audio_end_ms=100, event_id="e", item_id="i"),
        '{"type":"input_audio_buffer.speech_stopped","event_id":"e","audio_end_ms":100,"item_id":"i"}',
    ),
    (
        openai.Committed(previous_item_id="h", event_id="e", item_id="i"),
        '{"type":"input_audio_buffer.committed","event_id":"e","item_id":"i","previous_item_id":"h"}',
    ),
    (openai.Cleared(event_id="e"), '{"type":"input_audio_buffer.cleared","event_id":"e"}'),
    *(
        (
            kind(event_id="e", previous_item_id=None, item=openai.Item(id="i")),
            f'{{"type":"conversation.item.{name}","event_id":"e","previous_item_id":null,"item":{ITEM_JSON}}}',
        )
        for kind, name in ((openai.ItemAdded, "added"), (openai.ItemDone, "done"), (openai.ItemCreated, "created"))
    ),
    (
        openai.ItemRetrieved(event_id="e", item=openai.Item(id="i")),
        f'{{"type":"conversation.item.retrieved","event_id":"e","item":{ITEM_JSON}}}',
    ),
    (
        openai.Delta(delta="x", event_id="e", item_id="i"),
        f'{{"type":"conversation.item.input_audio_transcription.delta",{OF_AN_ITEM},"delta":"x"}}',
    ),
    (
        openai.Completed(transcript="x", usage=openai.Usage(1.5), event_id="e", item_id="i"),
        f'{{"type":"conversation.item.input_audio_transcription.completed",{OF_AN_ITEM},"transcript":"x",'
        '"usage":{"type":"duration","seconds":1.5}}',
    ),
    (
        openai.Completed(
            transcript="x",
            usage=openai.Usage(1.5),
            logprobs=(openai.LogProb("é", -0.5, (195, 169)),),
            event_id="e",
            item_id="i",
        ),
        f'{{"type":"conversation.item.input_audio_transcription.completed",{OF_AN_ITEM},"transcript":"x",'
        '"usage":{"type":"duration","seconds":1.5},"logprobs":[{"token":"é","logprob":-0.5,"bytes":[195,169]}]}',
    ),
    (
        openai.Failed(error=openai.ItemError("server_error", "internal", "why"), event_id="e", item_id="i"),
        f'{{"type":"conversation.item.input_audio_transcription.failed",{OF_AN_ITEM},"error":'
        '{"type":"server_error","code":"internal","message":"why","param":null}}',
    ),
    (
        openai.ErrorEvent(
            event_id="e", error=openai.EventError("invalid_request_error", "invalid_value", "why", "audio", "mine")
        ),
        '{"type":"error","event_id":"e","error":{"type":"invalid_request_error","code":"invalid_value",'
        '"message":"why","param":"audio","event_id":"mine"}}',
    ),
]

FUNASR = [
    (
        funasr.Answer(mode="2pass-online", text=" one", wav_name="demo", is_final=False),
        '{"mode":"2pass-online","text":" one","wav_name":"demo","is_final":false}',
    ),
    (
        funasr.Answer(
            mode="offline",
            text="One.",
            wav_name=3,
            is_final=True,
            timestamp="[[0,250]]",
            stamp_sents=(funasr.Sentence("One", ".", 0, 250, ((0, 250),)),),
        ),
        '{"mode":"offline","text":"One.","wav_name":3,"is_final":true,"timestamp":"[[0,250]]","stamp_sents":'
        '[{"text_seg":"One","punc":".","start":0,"end":250,"ts_list":[[0,250]]}]}',
    ),
    (
        funasr.Answer(mode="2pass", text="", wav_name="demo", is_final=True, is_end=True),
        '{"mode":"2pass","text":"","wav_name":"demo","is_final":true,"is_end":true}',
    ),
    (
        funasr.Failure(mode="2pass", text="", wav_name="demo", is_final=True, error="why", code="capacity"),
        '{"mode":"2pass","text":"","wav_name":"demo","is_final":true,"error":"why","code":"capacity"}',
    ),
    (
        funasr.Failure(
            mode="2pass",
            text="",
            wav_name="demo",
            is_final=False,
            is_end=True,
            error="why",
            code="unsupported",
            allowed=("pcm", "wav"),
        ),
        '{"mode":"2pass","text":"","wav_name":"demo","is_final":false,"is_end":true,"error":"why",'
        '"code":"unsupported","allowed":["pcm","wav"]}',
    ),
]

RESULT_WORD = vosk.ResultWord(0.5, 0.9, "one", 0.75)
VOSK = [
    (vosk.PartialText("one"), '{"partial":"one"}'),
    (
        vosk.Result(result=(RESULT_WORD,), text="one"),
        '{"result":[{"start":0.5,"end":0.9,"word":"one","conf":0.75}],"text":"one"}',
    ),
    (vosk.Result(text=""), '{"text":""}'),
    (
        vosk.Alternatives((vosk.Alternative("one", 0.75, (vosk.ResultWord(0.5, 0.9, "one"),)),)),
        '{"alternatives":[{"text":"one","confidence":0.75,"result":[{"start":0.5,"end":0.9,"word":"one"}]}]}',
    ),
    (vosk.Alternatives((vosk.Alternative("", 1.0),)), '{"alternatives":[{"text":"","confidence":1.0}]}'),
    (vosk.Failure("why", "capacity"), '{"error":"why","code":"capacity"}'),
    (
        vosk.Failure("why", "invalid_message", ("1",)),
        '{"error":"why","code":"invalid_message","allowed":["1"]}',
    ),
]

SHERPA = [
    (
        sherpa.Segment(
            text="one",
            tokens=("one",),
            timestamps=(0.25,),
            ys_probs=(-0.5,),
            segment=1,
            start_time=0.5,
            is_final=False,
        ),
        '{"text":"one","tokens":["one"],"timestamps":[0.25],"ys_probs":[-0.5],"lm_probs":[],"context_scores":[],'
        '"segment":1,"words":[],"start_time":0.5,"is_final":false}',
    ),
    (
        sherpa.Failure(text="", segment=1, is_final=True, error="why", code="capacity"),
        '{"text":"","segment":1,"is_final":true,"error":"why","code":"capacity"}',
    ),
    (
        sherpa.Failure(
            text="", segment=0, is_final=True, error="why", code="unexpected_message", allowed=(sherpa.DONE,)
        ),
        '{"text":"","segment":0,"is_final":true,"error":"why","code":"unexpected_message","allowed":["Done"]}',
    ),
]


ABOUT_JSON = '"attribution":{"name":"parastream","url":""},"installed":true,"version":"1.0"'
EMPTY_JSON = '"tts":[],"handle":[],"intent":[],"wake":[],"mic":[],"snd":[]'

WYOMING = [
    (
        wyoming.Info(
            asr=(
                wyoming.ProgramInfo(
                    version="1.0", models=(wyoming.ModelInfo(version="1.0", name="m", languages=("en",)),)
                ),
            )
        ),
        f'{{"asr":[{{{ABOUT_JSON},"name":"parastream","description":"Real-time speech to text","models":'
        f'[{{{ABOUT_JSON},"name":"m","description":"Paraformer","languages":["en"]}}],'
        f'"supports_transcript_streaming":true}}],{EMPTY_JSON}}}',
    ),
    (wyoming.Pong(text=None), '{"text":null}'),
    (wyoming.TranscriptStart(), "{}"),
    (wyoming.TranscriptStart(language="en", context={"turn": 1}), '{"language":"en","context":{"turn":1}}'),
    (wyoming.TranscriptChunk(text=" One."), '{"text":" One."}'),
    (wyoming.Transcript(text="One."), '{"text":"One."}'),
    (wyoming.Transcript(text="", language="en"), '{"text":"","language":"en"}'),
    (wyoming.TranscriptStop(), "{}"),
    (wyoming.ErrorAnswer(text="why", code="capacity"), '{"text":"why","code":"capacity"}'),
]


FLUX = [
    (flux.Connected("r", 0), '{"type":"Connected","request_id":"r","sequence_id":0}'),
    (
        flux.TurnInfo(
            request_id="r",
            sequence_id=1,
            event="EndOfTurn",
            turn_index=0,
            audio_window_start=0.5,
            audio_window_end=2.0,
            transcript="One.",
            words=(flux.TurnWord("One.", 0.75, 0.5, 0.75),),
            end_of_turn_confidence=0.7,
            trigger="model",
        ),
        '{"type":"TurnInfo","request_id":"r","sequence_id":1,"event":"EndOfTurn","turn_index":0,"audio_window_start":0.5,'
        '"audio_window_end":2.0,"transcript":"One.","words":[{"word":"One.","confidence":0.75,"start":0.5,"end":0.75}],'
        '"end_of_turn_confidence":0.7,"trigger":"model"}',
    ),
    (
        flux.ConfigureSuccess("r", flux.Thresholds(None, 0.7, 5000), ("x",), None, 2),
        '{"type":"ConfigureSuccess","request_id":"r","thresholds":{"eager_eot_threshold":null,"eot_threshold":0.7,'
        '"eot_timeout_ms":5000},"keyterms":["x"],"language_hints":null,"sequence_id":2}',
    ),
    (
        flux.ConfigureFailure("r", 3, "CONFIGURE_THRESHOLDS", "why"),
        '{"type":"ConfigureFailure","request_id":"r","sequence_id":3,"code":"CONFIGURE_THRESHOLDS","description":"why"}',
    ),
    (
        flux.ErrorMessage(4, "INTERNAL", "why"),
        '{"type":"Error","sequence_id":4,"code":"INTERNAL","description":"why"}',
    ),
]

ALL = [*DEEPGRAM, *FLUX, *OPENAI, *FUNASR, *VOSK, *SHERPA, *WYOMING]


@pytest.mark.parametrize(("message", "expected"), ALL, ids=lambda each: type(each).__name__)
def test_a_message_has_its_exact_form(message: msgspec.Struct, expected: str) -> None:
    assert msgspec.json.encode(message).decode() == expected


def _tags(union: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in union.__args__}


@pytest.mark.parametrize(
    ("union", "table"),
    [(deepgram.ServerMessage, DEEPGRAM), (flux.ServerMessage, FLUX), (openai.ServerEvent, OPENAI)],
)
def test_every_kind_of_message_is_above(union: Any, table: list[tuple[msgspec.Struct, str]]) -> None:
    assert {json.loads(expected).get("type") for _, expected in table} >= _tags(union)


def test_an_event_of_wyoming_is_a_header_and_its_data() -> None:
    about = f'"version":"{version("parastream")}"'
    assert wyoming.encode(wyoming.TranscriptStop()).decode() == f'{{"type":"transcript-stop",{about}}}\n'
    assert wyoming.encode(wyoming.Pong(text="x")).decode() == (
        f'{{"type":"pong",{about},"data_length":12}}\n{{"text":"x"}}'
    )
