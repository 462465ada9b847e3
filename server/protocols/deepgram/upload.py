"""Deepgram's transcription of recordings, `POST /v1/listen`: the body is the recording, the query says what is wanted.

| Parameter | What happens |
|---|---|
| `encoding`, `sample_rate`, `channels` | of raw samples, as for live audio; left out, the recording says itself what it is |
| `multichannel` | every channel is transcribed; otherwise all of them mixed |
| `punctuate`, `smart_format`, `paragraphs` | marks and capitals, and `punctuated_word`; otherwise plain words |
| `paragraphs` | `paragraphs` with their sentences; a pause of two seconds begins a new one |
| `utterances` | `utterances`: what lies between pauses |
| `callback`, `redact` | refused: a client that asks for them relies on them |
| `language` | as for live audio |
| `detect_language`, `language=multi` | each channel has `detected_language`: the one of most words, where that is known |
| `numerals`, `smart_format` | numbers as people write them |
| `profanity_filter` | swear words are shown as `f***` |
| `keyterm`, `keywords` | as for live audio |
| `model`, `diarize` and all others | ignored: the server has its own model, and `model_info` names it |

JSON with a `url` is refused: the server fetches nothing. A recording that is damaged is read as far as possible; `warnings`
says where.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from parastream.model.text import join
from parastream.server.protocols.base import Admits, Request
from parastream.server.protocols.deepgram.options import bad_request, flag, read_options
from parastream.server.protocols.deepgram.words import mean_confidence, model_info, model_uuid, spoken_words
from parastream.server.protocols.upload import Upload
from parastream.server.wire.messages import Error, Final
from parastream.server.wire.refusals import RefusalError

_PARAGRAPH = 2.0
"""Seconds of pause that begin a new paragraph."""


class DeepgramUpload(Upload):
    """One request."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._request_id = str(uuid.uuid4())
        self._created = datetime.now(UTC)
        self._digest = hashlib.sha256()

    def open(self) -> None:
        """Read the query. See `Adapter.open`."""
        if self.request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            raise RefusalError("unsupported", "a recording by its url is not fetched; send it as the body instead")
        options = read_options(self.request)
        self._paragraphs, self._utterances = flag(self.request, "paragraphs"), flag(self.request, "utterances")
        self._punctuate = options.punctuate or self._paragraphs
        self.multichannel, self.language = options.multichannel, options.language
        self._tells_language = options.tells_language
        if options.format is not None and options.multichannel:
            self.channels = options.format.channels
        wanted = options.start(options.format, self.usable(options.hotwords))
        self.wanted = msgspec.structs.replace(wanted, partials=False, punctuation=self._punctuate)

    def receive_audio(self, data: bytes) -> None:
        """Take a piece of the recording. See `Adapter.receive_audio`."""
        self._digest.update(data)
        self.hear(data)

    def complete(self) -> None:
        """See `Posted.complete`."""
        self.end_recording()

    @classmethod
    def describe(cls, error: Error) -> object:
        """See `Posted.describe`."""
        return bad_request(RefusalError(error.code, error.message, error.allowed))

    def finish(self) -> None:
        """See `Upload.finish`."""
        channels = range(self.channels)
        by_channel = [[final for final in self.finals if final.channel == channel] for channel in channels]
        results: dict[str, object] = {"channels": [self._channel(each) for each in by_channel]}
        if self._utterances:
            ordered = sorted(self.finals, key=lambda final: final.start)
            results["utterances"] = [self._utterance(final) for final in ordered if final.text]
        model = self.admission.model
        uuid_of_model = model_uuid(model)
        metadata: dict[str, object] = {
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "duration": self.duration,
            "channels": self.channels,
            "models": [uuid_of_model],
            "model_info": {uuid_of_model: model_info(model)},
        }
        if self.warning:
            metadata["warnings"] = [{"parameter": "audio", "type": "damaged", "message": self.warning}]
        self.reply({"metadata": metadata, "results": results})

    def _channel(self, finals: Sequence[Final]) -> dict[str, object]:
        channel: dict[str, object] = {"alternatives": [self._alternative(finals)]}
        words = Counter(final.language for final in finals for _ in final.words if final.language)
        if self._tells_language and words:
            channel["detected_language"] = words.most_common(1)[0][0]
        return channel

    def _alternative(self, finals: Sequence[Final]) -> dict[str, object]:
        spoken = [word for final in finals for word in final.words]
        alternative: dict[str, object] = {
            "transcript": join(final.text for final in finals),
            "confidence": mean_confidence(spoken),
            "words": spoken_words(spoken, punctuate=self._punctuate),
        }
        if self._paragraphs:
            alternative["paragraphs"] = _paragraphs(finals)
        return alternative

    def _utterance(self, final: Final) -> dict[str, object]:
        return {
            "start": final.start,
            "end": final.end,
            "confidence": mean_confidence(final.words),
            "channel": final.channel,
            "transcript": final.text,
            "words": spoken_words(final.words, punctuate=self._punctuate),
            "id": str(uuid.uuid5(uuid.UUID(self._request_id), str(final.utterance))),
        }


def _paragraphs(finals: Sequence[Final]) -> dict[str, object]:
    groups: list[list[Final]] = []
    for final in finals:
        if final.text:
            if not groups or final.start - groups[-1][-1].end >= _PARAGRAPH:
                groups.append([])
            groups[-1].append(final)
    return {
        "transcript": "".join(f"\n{join(final.text for final in group)}\n" for group in groups),
        "paragraphs": [
            {
                "sentences": [{"text": each.text, "start": each.start, "end": each.end} for each in group],
                "num_words": sum(len(each.words) for each in group),
                "start": group[0].start,
                "end": group[-1].end,
            }
            for group in groups
        ],
    }
