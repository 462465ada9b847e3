"""OpenAI's transcription of recordings, `POST /v1/audio/transcriptions`: a form with a `file` and fields, in any order.

| Field | What happens |
|---|---|
| `file` | a recording of any kind that FFmpeg reads; several channels are mixed |
| `model` | empty, the server's own, or one of OpenAI's that stand for it: `whisper-1`, `gpt-transcribe`, `gpt-4o-transcribe`, `gpt-4o-mini-transcribe`, also with a date behind |
| `response_format` | `json`, `text`, `verbose_json`, `srt`, `vtt` |
| `timestamp_granularities[]` | `segment` (the default) and `word`, in `verbose_json`; a segment is an utterance |
| `stream` | `true`: server-sent events, while the recording still comes: `transcript.text.delta` for each utterance, and `transcript.text.done` |
| `language`, `languages[]` | the models listen for that language, if it is one and they know it |
| `prompt`, `keywords[]` | hotwords: the keywords, and the terms of a prompt that is a list |
| `temperature`, `chunking_strategy`, `include[]` | accepted and ignored |

What says how to listen may follow the recording if that is small; if it comes too late to count, `warning` in the JSON says so.
A recording that is damaged is read as far as possible; `warning` says where. Errors have OpenAI's form.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec
from parastream.model.text import join
from parastream.server.protocols.base import Admits, Request
from parastream.server.protocols.openai.forms import Form
from parastream.server.protocols.openai.http import DEFAULT_MODELS, model_names, openai_error
from parastream.server.protocols.terms import of_prompt, plain
from parastream.server.protocols.upload import Upload
from parastream.server.sessions.transcription import Transcription
from parastream.server.transcripts.formats import TranscriptFormat, render
from parastream.server.wire.messages import Error, Event, Final, Hotword, Word
from parastream.server.wire.refusals import RefusalError, quoted

ResponseFormat = Literal["json", "text", "verbose_json", "srt", "vtt"]
_TYPES = {"srt": "application/x-subrip; charset=utf-8", "vtt": "text/vtt; charset=utf-8"}
_GRANULARITIES = ("segment", "word")
_IGNORED = (
    *("temperature", "chunking_strategy", "include", "include[]"),
    *("known_speaker_names[]", "known_speaker_references[]"),
)
_FIELDS = (
    *("file", "model", "language", "languages[]", "prompt", "keywords[]", "response_format", "stream"),
    *("timestamp_granularities[]", *_IGNORED),
)
_HELD = 1 << 20
"""Bytes of a recording that wait for fields behind it, unless its events are to come while it is sent."""


class OpenAIUpload(Upload):
    """One request."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._form: Form | None = None
        self._held: bytearray | None = bytearray()  # the beginning of the recording; None: it has been handed on
        self._file_ended = False
        self._languages: list[str] = []
        self._expected: list[Hotword] = []
        self._late: list[str] = []  # fields that came when the recording had been handed on
        self._format: ResponseFormat = "json"
        self._granularities: list[str] = []
        self._stream = False
        self._param: str | None = None  # the field that is to blame
        self._told = 0  # finals that the stream has told

    # --- from the client

    def open(self) -> None:
        """Look at what the request says of its body. See `Adapter.open`."""
        self._form = Form(
            self.request.headers.get("content-type", ""),
            on_file=self._hear,
            on_file_end=self._end_file,
            on_field=self._set,
        )

    def receive_audio(self, data: bytes) -> None:
        """Take a piece of the form. See `Adapter.receive_audio`."""
        if self._form is not None:
            self._form.push(data)

    def complete(self) -> None:
        """See `Posted.complete`."""
        if self._form is None or not self._form.complete:
            raise RefusalError("invalid_message", "the form is cut: its end is missing")
        if not self._file_ended:
            self._param = "file"
            raise RefusalError("invalid_message", "the form has no `file`")
        if self._held is not None:
            self._hand_on()
            self.end_recording()
        self.finish()

    def _hear(self, data: bytes) -> None:
        if self._file_ended:
            self._param = "file"
            raise RefusalError("unsupported", "the form has more than one `file`")
        if self._held is None:
            self.hear(data)
            return
        self._held += data
        if self._stream or len(self._held) > _HELD:
            self._hand_on()

    def _end_file(self) -> None:
        self._file_ended = True
        if self._held is None:
            self.end_recording()

    def _hand_on(self) -> None:
        """Have the recording heard, as the fields before it say."""
        held, self._held = self._held, None
        self.language = self._languages[0] if len(self._languages) == 1 else ""
        self.wanted = msgspec.structs.replace(self.wanted, hotwords=self.usable(self._expected))
        if held:
            self.hear(bytes(held))

    def _set(self, name: str, value: str) -> None:
        """Take a field. Raises `RefusalError`."""
        self._param = name[:80]
        match name:
            case "model":
                self._check_model(value)
            case "response_format":
                if value not in get_args(ResponseFormat):
                    raise RefusalError("unsupported", f"response_format {quoted(value)}", get_args(ResponseFormat))
                self._format = value  # type: ignore[assignment]
            case "timestamp_granularities[]" | "timestamp_granularities":
                if value not in _GRANULARITIES:
                    raise RefusalError("unsupported", f"timestamp_granularities {quoted(value)}", _GRANULARITIES)
                self._granularities.append(value)
            case "stream":
                if value.lower() not in ("true", "false"):
                    raise RefusalError("invalid_message", f"stream {quoted(value)}", ("true", "false"))
                self._stream = value.lower() == "true"
                self._tell_stream()
            case "language" | "languages" | "languages[]" | "prompt" | "keywords" | "keywords[]":
                self._set_how_to_listen(name, value)
            case _ if name not in _IGNORED:
                raise RefusalError("invalid_message", f"unknown field {quoted(name)}", _FIELDS)
        self._param = None

    def _set_how_to_listen(self, name: str, value: str) -> None:
        if self._held is None:
            self._late.append(name)
        elif name.startswith("language"):
            self._languages.append(value)
        else:
            self._expected.extend(of_prompt(value) if name == "prompt" else plain([value]))

    def _check_model(self, model: str) -> None:
        names = model_names(self.admission.model)
        dated = re.sub(r"-\d{4}-\d\d-\d\d\Z", "", model)
        if model and model not in names and dated not in DEFAULT_MODELS:
            raise RefusalError("unknown_model", f"there is no model {quoted(model)}", names)

    # --- to the client

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        super().apply(transcription, event)
        if isinstance(event, Final):
            self._tell_stream()

    def _tell_stream(self) -> None:
        """Send what a client that wants events has not got yet."""
        if not self._stream:
            return
        if not self._begun:
            self.begin_reply("text/event-stream; charset=utf-8")
        before = join(final.text for final in self.finals[: self._told])
        deltas = []
        for final in self.finals[self._told :]:
            so_far = join((before, final.text))
            if len(so_far) > len(before):
                deltas.append(_event({"type": "transcript.text.delta", "delta": so_far[len(before) :]}))
            before = so_far
        self._told = len(self.finals)
        if deltas:
            self.send(b"".join(deltas))

    def finish(self) -> None:
        """Respond, if all fields and all finals are there. See `Upload.finish`."""
        if self.duration is None or self._form is None or not self._form.complete:
            return
        text = join(final.text for final in self.finals)
        if self._stream:
            self._tell_stream()
            self.send(_event({"type": "transcript.text.done", "text": text, **self._extras()}) + b"data: [DONE]\n\n")
            self.close()
            return
        match self._format:
            case "json":
                self.reply({"text": text, **self._extras()})
            case "verbose_json":
                self.reply(self._verbose(text))
            case "text":
                self.reply(f"{text}\n".encode(), "text/plain; charset=utf-8")
            case "srt" | "vtt":
                subtitles = render(self.finals, TranscriptFormat(self._format))
                self.reply(subtitles.encode(), _TYPES[self._format])

    def _extras(self) -> dict[str, object]:
        usage = {"type": "duration", "seconds": math.ceil(self.duration or 0)}
        late = f"{', '.join(self._late)} came after `file`, too late to count" if self._late else ""
        warning = "; ".join(filter(None, (self.warning, late)))
        return {"usage": usage} | ({"warning": warning} if warning else {})

    def _verbose(self, text: str) -> dict[str, object]:
        languages = [final.language for final in self.finals if final.language] or self.admission.languages
        body: dict[str, object] = {
            "task": "transcribe",
            "language": languages[0] if len(set(languages)) == 1 else "",
            "duration": self.duration,
            "text": text,
        }
        if not self._granularities or "segment" in self._granularities:
            spoken = [final for final in self.finals if final.text]
            body["segments"] = [_segment(number, final) for number, final in enumerate(spoken)]
        if "word" in self._granularities:
            body["words"] = [
                {"word": word.text, "start": word.start, "end": word.end}
                for final in self.finals
                for word in final.words
            ]
        return body | self._extras()

    @classmethod
    def describe(cls, error: Error) -> object:
        """See `Posted.describe`."""
        return openai_error(error)

    def explain(self, refusal: RefusalError) -> object:
        """See `Posted.explain`."""
        return openai_error(refusal.error, self._param)

    def break_off(self, refusal: RefusalError) -> None:
        """See `Posted.break_off`."""
        self.send(_event({"type": "error", **openai_error(refusal.error, self._param)}))


def _event(event: dict[str, object]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _segment(number: int, final: Final) -> dict[str, Any]:
    """Return an utterance with all fields that OpenAI's segments have; some of them mean nothing here."""
    return {
        "id": number,
        "seek": 0,
        "start": final.start,
        "end": final.end,
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _mean_logarithm(final.words),
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


def _mean_logarithm(words: Sequence[Word]) -> float:
    logarithms = [math.log(max(word.confidence, 1e-6)) for word in words]
    return round(math.fsum(logarithms) / len(logarithms), 4) if logarithms else 0.0
