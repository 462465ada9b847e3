"""Recordings in the bodies of requests: OpenAI's forms, Deepgram's bodies, and what both have in common."""

from __future__ import annotations

import asyncio
import io
import json
import warnings
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import APIStatusError, AsyncOpenAI
from parastream.model.errors import CapacityError
from parastream.model.hotwords import Hotword
from parastream.server.sessions.decoding import MOST_AHEAD
from parastream.streaming import Engine

from ...conftest import SAMPLE, SAMPLE_TEXTS
from ...waiting import until
from ..fakes import FakeEngine, FakeStream, asynchronous, metrics, serving
from ..http.asking import FORM, Answer, ask, form, parsed, request

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the client supports old versions of websockets as well
    from deepgram import AsyncDeepgramClient
    from deepgram.environment import DeepgramClientEnvironment
    from deepgram.listen.v1.client import AsyncV1Client  # noqa: F401 - the client would import it when it is used

TEXT = " ".join(SAMPLE_TEXTS)
TRANSCRIPTIONS = "POST /v1/audio/transcriptions"
FIELDS = {"Content-Type": FORM}


def recording(seconds: float, channels: int = 1) -> bytes:
    """A WAV file."""
    samples = np.arange(round(seconds * 16000) * channels, dtype=np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(channels)
        output.setsampwidth(2)
        output.setframerate(16000)
        output.writeframes(samples.tobytes())
    return file.getvalue()


RECORDING = recording(0.2)


# --- the SDKs of OpenAI and Deepgram, and real speech


@asynchronous
async def test_openais_sdk(engine: Engine) -> None:
    async with (
        serving(engine) as server,
        AsyncOpenAI(api_key="any", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as client,
    ):
        ask_for = client.audio.transcriptions.create
        plain = await ask_for(
            file=SAMPLE,
            model="gpt-transcribe",
            language="en",
            prompt="RubOut, x",
            keywords=["SevenTy"],
            temperature=0.0,
        )
        assert plain.text == TEXT.replace("Rubout", "RubOut").replace("seventy", "SevenTy")
        assert await ask_for(file=SAMPLE, model="asr-small-en", response_format="text") == f"{TEXT}\n"
        verbose = await ask_for(
            file=SAMPLE,
            model="gpt-4o-transcribe-2025-03-20",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert (verbose.duration, verbose.language) == (12.0, "en")
        assert [segment.text for segment in verbose.segments or ()] == SAMPLE_TEXTS
        assert " ".join(word.word for word in verbose.words or ()) == TEXT
        subtitles = await ask_for(file=SAMPLE, model="whisper-1", response_format="srt")
        assert str(subtitles).startswith("1\n00:00:01,")
        assert str(await ask_for(file=SAMPLE, model="whisper-1", response_format="vtt")).startswith("WEBVTT\n")
        assert [model.id async for model in client.models.list()][:2] == ["asr-small-en", "whisper-1"]
        with pytest.raises(APIStatusError) as caught:
            await ask_for(file=SAMPLE, model="tts-1")
        assert (caught.value.status_code, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


@asynchronous
async def test_openais_events_come_while_the_recording_is_sent(engine: Engine) -> None:
    body = form([("stream", "true"), ("model", "gpt-4o-transcribe"), ("file", SAMPLE.read_bytes())])
    most = len(body) * 2 // 3
    async with (
        serving(engine) as server,
        AsyncOpenAI(api_key="any", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as client,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(TRANSCRIPTIONS, FIELDS | {"Content-Length": str(len(body))}) + body[:most])
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        first = (await reader.readuntil(b"\n\n")).decode()
        writer.write(body[most:])
        rest = (await reader.read()).decode().strip().split("\n\n")
        writer.close()
        stream = await client.audio.transcriptions.create(file=SAMPLE, model="gpt-4o-transcribe", stream=True)
        by_sdk = [event async for event in stream]
    assert rest.pop() == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in (first, *rest)]
    assert "".join(event["delta"] for event in events[:-1]) == events[-1]["text"] == TEXT
    assert [event.type for event in by_sdk] == 3 * ["transcript.text.delta"] + ["transcript.text.done"]
    assert by_sdk[-1].type == "transcript.text.done"
    assert by_sdk[-1].text == TEXT


@asynchronous
async def test_deepgrams_sdk(engine: Engine) -> None:
    async with serving(engine) as server:
        base = f"http://127.0.0.1:{server.port}"
        environment = DeepgramClientEnvironment(base=base, agent=base, production=base, agent_rest=base)
        client = AsyncDeepgramClient(api_key="any", environment=environment)
        answer: Any = await client.listen.v1.media.transcribe_file(
            request=SAMPLE.read_bytes(),
            model="nova-3",
            punctuate=True,
            utterances=True,
            paragraphs=True,
            detect_language=True,
        )
        plain: Any = await client.listen.v1.media.transcribe_file(request=SAMPLE.read_bytes())
    (channel,) = answer.results.channels
    assert (channel.detected_language, plain.results.channels[0].detected_language) == ("en", None)
    (alternative,) = channel.alternatives
    assert alternative.transcript == TEXT
    assert " ".join(word.punctuated_word for word in alternative.words) == TEXT
    assert [each.transcript for each in answer.results.utterances] == SAMPLE_TEXTS
    sentences = [each.text for group in alternative.paragraphs.paragraphs for each in group.sentences]
    assert sentences == SAMPLE_TEXTS
    assert answer.metadata.duration == 12.0
    (bare,) = plain.results.channels[0].alternatives
    assert bare.transcript == "enter one seventy six rubout GMEF three nine ten twenty seven sixty two"
    assert not hasattr(bare.words[0], "punctuated_word")


# --- forms


async def post(engine: FakeEngine, fields: list[tuple[str, str | bytes]], **settings: Any) -> Answer:
    async with serving(engine, **settings) as server:
        return await ask(server, TRANSCRIPTIONS, FIELDS, form(fields))


@asynchronous
async def test_fields_may_follow_the_recording() -> None:
    first = await post(FakeEngine(), [("response_format", "text"), ("file", RECORDING)])
    last = await post(FakeEngine(), [("file", RECORDING), ("response_format", "text")])
    assert first.status == last.status == 200
    assert first.body == last.body != b""
    assert first.headers["Content-Type"] == "text/plain; charset=utf-8"
    stream = await post(FakeEngine(), [("file", recording(60)), ("stream", "true")])
    assert stream.body.count(b"transcript.text.delta") > 1000


HOW = [
    *(("language", "en-US"), ("prompt", "Names: Nguyễn, New York"), ("keywords[]", "MLX")),
    *(("prompt", "A sentence has no terms that anybody could be meant to expect"), ("temperature", "0")),
]
EXPECTED = (Hotword("Nguyễn"), Hotword("New York"), Hotword("MLX"))


@pytest.mark.parametrize("fields", [[*HOW, ("file", RECORDING)], [("file", RECORDING), *HOW]])
@asynchronous
async def test_terms_of_a_prompt_and_keywords_are_listened_for(fields: list[tuple[str, str | bytes]]) -> None:
    engine = FakeEngine()
    answer = await post(engine, fields)
    (stream,) = engine.streams
    assert (stream.config.language, stream.config.hotwords) == ("en", EXPECTED)
    assert "warning" not in answer.json


@asynchronous
async def test_what_says_too_late_how_to_listen() -> None:
    engine = FakeEngine()
    answer = await post(engine, [("languages[]", "en"), ("languages[]", "de"), ("file", recording(33)), *HOW[:3]])
    assert answer.json["warning"] == "language, prompt, keywords[] came after `file`, too late to count"
    assert (engine.streams[0].config.language, engine.streams[0].config.hotwords) == (None, ())


@asynchronous
async def test_keyterms_of_a_recording() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        await ask(server, "POST /v1/listen?keyterm=New%20York&keywords=MLX:2", {}, RECORDING)
    assert engine.streams[0].config.hotwords == (Hotword("New York"), Hotword("MLX", 2.0))


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ([("model", "whisper-1")], "the form has no `file`", "file"),
        ([("file", RECORDING), ("file", RECORDING)], "more than one `file`", "file"),
        ([("file", b"")], "the recording is empty", None),
        ([("file", b"no sound at all")], "not a recording that can be read", None),
        ([("response_format", "diarized_json")], "allowed: json, text, verbose_json, srt, vtt", "response_format"),
        ([("timestamp_granularities[]", "letter")], "allowed: segment, word", "timestamp_granularities[]"),
        ([("stream", "maybe")], "allowed: true, false", "stream"),
        ([("colour", "red")], "unknown field 'colour'", "colour"),
        ([("prompt", "x")] * 101, "more than 100 fields", None),
    ],
)
@asynchronous
async def test_forms_that_are_refused(fields: list[tuple[str, str | bytes]], message: str, param: str | None) -> None:
    answer = await post(FakeEngine(), fields)
    assert answer.status == 400
    error = answer.json["error"]
    assert message in error["message"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b"{}", "the body is no form"),
        ("multipart/form-data", b"x", "the body is no form"),
        (FORM, b"x" * 100, "the form is damaged"),
        (FORM, form([("file", RECORDING)], end=False), "the form is cut"),
    ],
)
@asynchronous
async def test_bodies_that_are_no_forms(content_type: str, body: bytes, message: str) -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, TRANSCRIPTIONS, {"Content-Type": content_type}, body)
    assert answer.status == 400
    assert message in answer.json["error"]["message"]


@asynchronous
async def test_fields_too_large() -> None:
    answer = await post(FakeEngine(), [("prompt", "x" * 300_000)])
    assert answer.status == 413
    assert "more than 262144 bytes" in answer.json["error"]["message"]


@asynchronous
async def test_a_damaged_recording_is_read_and_its_damage_told(tmp_path: Path) -> None:
    flac = SAMPLE.read_bytes()
    holed = flac[:50_000] + bytes(100) + flac[50_100:]
    async with serving(FakeEngine()) as server:
        answer = await ask(server, TRANSCRIPTIONS, FIELDS, form([("file", holed)]))
        deepgram = await ask(server, "POST /v1/listen", {}, holed)
    assert answer.json["text"]
    assert "damaged audio at" in answer.json["warning"]
    assert "damaged audio at" in deepgram.json["metadata"]["warnings"][0]["message"]


@asynchronous
async def test_a_stream_of_events_that_breaks_off_says_why() -> None:
    async with serving(FakeEngine()) as server:
        body = form([("stream", "true"), ("file", RECORDING)], end=False)
        answer = await ask(server, TRANSCRIPTIONS, FIELDS, body)
    events = [json.loads(line.removeprefix(b"data: ")) for line in answer.body.strip().split(b"\n\n")]
    assert answer.status == 200
    assert events[-1]["type"] == "error"
    assert "the form is cut" in events[-1]["error"]["message"]


@asynchronous
async def test_a_bug_in_a_decoder_is_told_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("parastream.server.sessions.decoding.open_sound", fails)
    answer = await post(FakeEngine(), [("file", RECORDING)])
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal")
    assert "audio could not be decoded" in caplog.text


@asynchronous
async def test_more_channels_than_can_be_kept_apart() -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, "POST /v1/listen?multichannel=true", {}, recording(0.2, channels=9))
    assert "the audio has 9 channels; allowed: 1 to 8" in answer.json["err_msg"]


# --- Deepgram's bodies


@asynchronous
async def test_channels_are_kept_apart_or_mixed_as_deepgrams_clients_say() -> None:
    async with serving(FakeEngine()) as server:
        stereo = recording(0.2, channels=2)
        apart = (await ask(server, "POST /v1/listen?multichannel=true", {}, stereo)).json
        mixed = (await ask(server, "POST /v1/listen", {}, stereo)).json
        raw = (await ask(server, "POST /v1/listen?encoding=linear16&sample_rate=16000", {}, stereo)).json
        two = "encoding=linear16&sample_rate=16000&channels=2&multichannel=true"
        both = (await ask(server, f"POST /v1/listen?{two}", {}, stereo)).json
    for answer, channels in ((apart, 2), (mixed, 1), (raw, 1), (both, 2)):
        assert answer["metadata"]["channels"] == len(answer["results"]["channels"]) == channels
        assert all(channel["alternatives"][0]["transcript"] for channel in answer["results"]["channels"])


@pytest.mark.parametrize(
    ("query", "headers", "message"),
    [
        ("", {"Content-Type": "application/json; charset=utf-8"}, "send it as the body instead"),
        ("callback=http://x", {}, "callback is not supported"),
        ("utterances=maybe", {}, "allowed: true, false"),
        ("multichannel=true", {}, "not a recording that can be read"),
        ("", {}, "not a recording that can be read"),
    ],
)
@asynchronous
async def test_deepgrams_requests_that_are_refused(query: str, headers: dict[str, str], message: str) -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, f"POST /v1/listen?{query}", headers, b'{"url": "https://example.org/a.wav"}')
    assert (answer.status, answer.json["err_code"]) == (400, "Bad Request")
    assert message in answer.json["err_msg"]


@asynchronous
async def test_an_empty_body_is_no_recording() -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, "POST /v1/listen", {"Content-Length": "0"})
    assert "the recording is empty" in answer.json["err_msg"]


# --- what holds for both


@asynchronous
async def test_an_upload_too_large_is_refused_before_it_comes() -> None:
    async with serving(FakeEngine(), max_upload=1000) as server:
        answer = await ask(server, "POST /v1/listen", {}, bytes(2000))
    assert answer.status == 413
    assert "the body has 2000 bytes; allowed: up to 1000" in answer.json["err_msg"]


@pytest.mark.parametrize("query", ["", "?encoding=linear16&sample_rate=16000", "?multichannel=true"])
@asynchronous
async def test_a_body_in_chunks_without_a_length_is_bounded_as_well(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(FakeEngine(), max_upload=1000) as server:
        chunks = b"".join(b"100\r\n" + bytes(256) + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
        head = request(f"POST /v1/listen{query}", {"Transfer-Encoding": "chunked"})
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + chunks)
        answer = parsed(await reader.read())
        writer.close()
    assert answer.status == 413
    assert "the body is larger than 1000 bytes" in answer.json["err_msg"]
    assert "refused: too_large: the body is larger than 1000 bytes" in caplog.text


@asynchronous
async def test_chunks_and_a_client_that_waits_until_it_may_go_on() -> None:
    async with serving(FakeEngine()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("POST /v1/listen", {"Transfer-Encoding": "chunked", "Expect": "100-continue"}))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        writer.write(f"{len(RECORDING):x}\r\n".encode() + RECORDING + b"\r\n0\r\n\r\n")
        assert parsed(await reader.read()).status == 200
        writer.close()


@pytest.mark.parametrize("line", [TRANSCRIPTIONS, "POST /v1/listen", "POST /v1/listen?multichannel=true"])
@asynchronous
async def test_no_room(line: str) -> None:
    engine = FakeEngine()
    engine.refusal = CapacityError("full")
    body = form([("file", RECORDING)]) if line == TRANSCRIPTIONS else RECORDING
    async with serving(engine) as server:
        answer = await ask(server, line, FIELDS if line == TRANSCRIPTIONS else {}, body)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert b"full" in answer.body


@asynchronous
async def test_while_the_model_is_loaded() -> None:
    engine = FakeEngine()
    engine.ready = False
    models: list[list[tuple[str, str | bytes]]] = [[], [("model", "whisper-1")]]
    for fields in models:
        answer = await post(engine, [*fields, ("file", RECORDING)])
        assert answer.status == 503
        error = answer.json["error"]
        assert (error["type"], error["code"], error["param"]) == ("server_error", "not_ready", None)


class Busy(FakeEngine):
    """Looks at no audio until it is told to, and never ends by itself."""

    def open(self, *args: Any, **options: Any) -> FakeStream:
        stream = super().open(*args, **options)
        stream.behind, stream.hold_end = 1e9, True
        return stream


@asynchronous
async def test_a_long_recording_waits_with_its_client_until_there_is_time_for_it() -> None:
    engine = Busy()
    async with serving(engine) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = recording(60)

        async def send() -> None:
            writer.write(request("POST /v1/listen", {"Content-Length": str(len(body))}))
            for first in range(0, len(body), 1 << 16):
                writer.write(body[first : first + (1 << 16)])
                await writer.drain()

        sending = asyncio.create_task(send())
        (connection,) = await until(lambda: server._connections)
        await until(lambda: not connection._readable.is_set())
        (stream,) = engine.streams
        await until(lambda: len(stream.audio) >= MOST_AHEAD * 64_000)
        assert len(stream.audio) <= (MOST_AHEAD + 1.5) * 64_000
        assert not stream.config.entitled
        assert (await metrics(server))["parastream_sessions"] == 1
        stream.behind, stream.hold_end = 0.0, False
        stream.look()
        await sending
        assert parsed(await reader.read()).json["metadata"]["duration"] == pytest.approx(120)  # the fake counts bytes
        writer.close()
        assert (await metrics(server))["parastream_sessions"] == 0


@pytest.mark.parametrize("complete", [True, False])
@asynchronous
async def test_an_upload_ends_when_its_client_goes_away(complete: bool) -> None:
    engine = Busy()
    async with serving(engine) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        length = len(RECORDING) + (0 if complete else 1000)
        writer.write(request("POST /v1/listen", {"Content-Length": str(length)}) + RECORDING)
        await until(lambda: engine.streams)
        (stream,) = engine.streams
        await until(lambda: stream.audio or not complete)
        writer.close()
        await until(lambda: stream.cancelled)
        await until(lambda: not server._admission._decodings)
        assert not len(server._admission)


CHUNK = f"{len(RECORDING):x}\r\n".encode() + RECORDING + b"\r\n"


@asynchronous
async def test_a_body_that_is_cut_ends_the_upload() -> None:
    engine = Busy()
    async with serving(engine) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("POST /v1/listen", {"Transfer-Encoding": "chunked"}) + CHUNK + b"5\r\nhalf")
        await until(lambda: engine.streams)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await until(lambda: engine.streams[0].cancelled)


@asynchronous
async def test_a_body_that_is_damaged_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeEngine()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("POST /v1/listen", {"Transfer-Encoding": "chunked"}) + CHUNK + b"nonsense\r\n")
        answer = parsed(await reader.read())
        writer.close()
    assert answer.status == 400
    assert "the body is damaged: " in answer.json["err_msg"]
    assert "refused: invalid_message: the body is damaged: " in caplog.text


@asynchronous
async def test_a_server_that_stops_says_so_to_its_uploads() -> None:
    async with serving(FakeEngine()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("POST /v1/listen", {"Content-Length": "1000000"}) + RECORDING)
        await until(lambda: len(server._admission) > 0)
    answer = parsed(await reader.read())
    writer.close()
    assert answer.status == 503
    assert "shutting down" in answer.json["err_msg"]


@asynchronous
async def test_pages_of_other_origins_read_transcripts() -> None:
    async with serving(FakeEngine(), origins=("https://app.example",)) as server:
        answer = await ask(server, "POST /v1/listen", {"Origin": "https://app.example"}, RECORDING)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
