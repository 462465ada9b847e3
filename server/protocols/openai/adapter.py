"""OpenAI Realtime (GA), transcription sessions, at `/v1/realtime`. Every message is JSON text, told apart by its `type`.

| Event of the client | What happens |
|---|---|
| `session.update` | fields that are given replace earlier ones; `session.updated` shows what is in effect. What is served: see `Session`; whatever the `model`, `language`, `prompt` and `noise_reduction`, the server's own model hears the audio as it is |
| `transcription_session.update` | the same in the form of the beta, answered in that form; its `conversation.item.created` then takes the place of `.added` and `.done` |
| `input_audio_buffer.append` | audio in base64 |
| `input_audio_buffer.commit` | without turn detection: an item of the audio since the last commit, with the texts of all that was said in it. With it: what is being said ends here; if nothing is, the item is empty |
| `input_audio_buffer.clear` | audio that has not become an item is forgotten; `input_audio_buffer.cleared` |
| others | `error`; the session goes on, as after every mistake of a client |

With turn detection each utterance is an item: `input_audio_buffer.speech_started`, deltas, `.speech_stopped`, `.committed`,
`conversation.item.added`, `.done`, `conversation.item.input_audio_transcription.completed`. Without it the deltas of an item
come while it is spoken, `.committed` answers `commit`, and `.completed` follows.

Deltas are text that will not change; the marks and capitals of the final text are in `.completed` only. The last delta of
an utterance is the rest of its final text, unless the final pass heard other words than the deltas said.

Errors that end the session (`idle_timeout`, `capacity`, `shutting_down` and so on) are an `error` event, too, after the items
of all audio accepted; items that cannot be finished are `.failed`.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, Request, spelled
from parastream.server.protocols.openai.session import (
    LARGEST_APPEND,
    Append,
    BetaUpdate,
    Clear,
    ClientError,
    Commit,
    Session,
    SessionUpdate,
    beta_changes,
    beta_shown,
    changed,
    decode,
    event_id_of,
    start_of,
)
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Event, Final, Flushed, Partial, SpeechStarted
from parastream.server.wire.refusals import RefusalError

LOGPROBS = "item.input_audio_transcription.logprobs"

_SERVER_ERRORS = ("not_ready", "capacity", "shutting_down", "internal")
_LEAST_CONFIDENCE = 1e-4
"""Words' confidences have four digits; the logarithm of 0 is no number."""


@dataclass(eq=False)
class _Item:
    """Audio that is, or becomes, an item of the conversation."""

    id: str = field(default_factory=lambda: f"item_{secrets.token_hex(12)}")
    finals: list[Final] = field(default_factory=list)
    text: str = ""
    """Of the finals."""
    told: str = ""
    """What deltas have said of the utterance after those."""

    def grow(self, stable: str) -> str:
        """Take the settled text of that utterance and return the delta."""
        delta = self._spaced(stable) if not self.told else stable[len(self.told) :]
        self.told = stable
        return delta

    def add(self, final: Final) -> str:
        """Take the utterance's end and return the last delta."""
        delta = rest(self.told, final.text) if self.told else self._spaced(final.text)
        self.told = ""
        self.finals.append(final)
        self.text = join([self.text, final.text])
        return delta

    def _spaced(self, text: str) -> str:
        return join([self.text, text])[len(self.text) :]


def rest(told: str, text: str) -> str:
    """What follows in `text` after what `told` says, whatever the case, marks and spaces of both; empty if `text` says
    something else.
    """
    letters = (index for index, letter in enumerate(text) if letter.isalnum())
    end = 0
    for letter in filter(str.isalnum, told):
        index = next(letters, None)
        if index is None or text[index].casefold() != letter.casefold():
            return ""
        end = index + 1
    return text[end:]


def logprobs(finals: Iterable[Final], text: str) -> list[dict[str, Any]]:
    """A token for each word; together they spell `text`."""
    words = [word for final in finals for word in final.words]
    return [
        {
            "token": token,
            "logprob": round(math.log(max(word.confidence, _LEAST_CONFIDENCE)), 4),
            "bytes": list(token.encode()),
        }
        for word, token in zip(words, spelled(text, words), strict=True)
    ]


@dataclass(frozen=True)
class _Mark:
    """A flush that is under way, and what is to be done with the audio before it."""

    item: _Item | None
    """Becomes this; None: is forgotten."""
    seconds: float
    """Of audio since the mark before."""
    committed: int
    """Items when it was made."""


class OpenAIRealtime(Adapter):
    """One connection of an OpenAI Realtime client."""

    subprotocols: ClassVar[tuple[str, ...]] = ("realtime",)
    max_message: ClassVar[int | None] = LARGEST_APPEND * 4 // 3 + (1 << 16)

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._id = f"sess_{secrets.token_hex(12)}"
        self._session = Session()
        self._beta = False
        self._transcription: Transcription | None = None  # begun by the first audio
        self._buffered = 0  # bytes since the last commit of the client
        self._committed = 0  # items
        self._previous: str | None = None  # the last of them
        self._marks: deque[_Mark] = deque()
        self._item = _Item()  # without turn detection: what the next commit makes
        self._spoken: dict[int, _Item] = {}  # with it: those of open utterances that were told
        self._open: dict[int, float] = {}  # starts of open utterances

    def open(self) -> None:
        self._tell("session.created", session=self._shown())

    # --- from the client

    def receive_audio(self, data: bytes) -> None:
        self._refuse(ClientError("invalid_event", "binary messages are not accepted: audio is base64 in JSON"), None)

    def receive_text(self, text: str) -> None:
        event_id = None
        try:
            event = decode(text)
            event_id = event.event_id
            match event:
                case SessionUpdate():
                    self._change(event.session)
                    self._tell("session.updated", session=self._shown())
                case BetaUpdate():
                    self._change(beta_changes(event.session))
                    self._beta = True
                    self._tell("transcription_session.updated", session=beta_shown(self._shown()))
                case Append():
                    self._append(event.audio)
                case Commit():
                    self._commit()
                case Clear():
                    self._clear()
        except ClientError as error:
            self._refuse(error, event_id or event_id_of(text))

    def _change(self, changes: dict[str, Any]) -> None:
        session = changed(self._session, changes)
        if self._transcription is not None:
            for name in ("format", "turn_detection"):
                if getattr(session.audio.input, name) != getattr(self._session.audio.input, name):
                    raise ClientError(
                        "invalid_session_update",
                        f"the {name.replace('_', ' ')} cannot change once there was audio; open another connection",
                        f"session.audio.input.{name}",
                    )
        self._session = session

    def _append(self, audio: bytes) -> None:
        if len(audio) > LARGEST_APPEND:
            message = f"{len(audio)} bytes of audio; allowed: at most {LARGEST_APPEND} in one event"
            raise ClientError("invalid_value", message, "audio")
        if self._transcription is None:
            self._transcription = self.begin(start_of(self._session))
        self._buffered += len(audio)
        self._transcription.send(audio)

    def _commit(self) -> None:
        seconds = self._take_buffer()
        if self._transcription is None or not seconds:
            raise ClientError("input_audio_buffer_commit_empty", "there is no audio to commit since the last commit")
        item, self._item = self._item, _Item()
        self._marks.append(_Mark(item, seconds, self._committed))
        if not self._detects:
            self._announce(item)
        self._transcription.flush()

    def _clear(self) -> None:
        seconds = self._take_buffer()
        if self._transcription is not None and seconds:
            self._item = _Item()
            self._marks.append(_Mark(None, seconds, self._committed))
            self._transcription.flush()
        self._tell("input_audio_buffer.cleared")

    def _take_buffer(self) -> float:
        """The length of the audio buffered, which is taken out; the bytes of an incomplete sample stay."""
        if self._transcription is None:
            return 0.0
        format = self._transcription.configs[0].format
        frames, self._buffered = divmod(self._buffered, format.frame_bytes)
        return frames / format.rate

    # --- from the recogniser

    @property
    def _detects(self) -> bool:
        """Whether turns are detected."""
        return self._session.audio.input.turn_detection is not None

    @property
    def _hearing(self) -> _Item | None:
        """Without turn detection: the item that the oldest open utterance belongs to; None if it is to be forgotten."""
        return self._marks[0].item if self._marks else self._item

    def apply(self, transcription: Transcription, event: Event) -> None:
        match event:
            case SpeechStarted():
                self._open[event.utterance] = event.time
                if self._detects and self._hearing is not None:
                    self._spoken_item(event.utterance)
            case Partial() if self._hearing is not None:
                if self._detects:
                    self._tell_delta(item := self._spoken_item(event.utterance), item.grow(event.stable))
                elif event.utterance == min(self._open):  # text is told in its order
                    self._tell_delta(self._hearing, self._hearing.grow(event.stable))
            case Final():
                self._finish_utterance(event)
            case Flushed():
                self._finish_mark(self._marks.popleft())

    def _spoken_item(self, utterance: int) -> _Item:
        """The item of an open utterance, told of when it is first asked for."""
        item = self._spoken.get(utterance)
        if item is None:
            item = self._spoken[utterance] = _Item()
            start = round(self._open[utterance] * 1000)
            self._tell("input_audio_buffer.speech_started", audio_start_ms=start, item_id=item.id)
        return item

    def _finish_utterance(self, final: Final) -> None:
        hearing = self._hearing
        if hearing is not None:
            item = self._spoken_item(final.utterance) if self._detects else hearing
            delta = item.add(final)
            if self._detects:
                end = round(final.end * 1000)
                self._tell("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item.id)
                self._announce(item)
            self._tell_delta(item, delta)
            if self._detects:
                self._complete(item, final.end - final.start)
        del self._open[final.utterance]
        self._spoken.pop(final.utterance, None)

    def _finish_mark(self, mark: _Mark) -> None:
        if mark.item is None:
            return
        if not self._detects:
            self._complete(mark.item, mark.seconds)
        elif mark.committed == self._committed:  # nothing was said, and yet the client waits for an item
            self._announce(mark.item)
            self._complete(mark.item, mark.seconds)

    def report(self, refusal: RefusalError) -> None:
        told = [mark.item for mark in self._marks if mark.item is not None and not self._detects]
        for item in (*told, *self._spoken.values()):
            self._tell(
                "conversation.item.input_audio_transcription.failed",
                item_id=item.id,
                content_index=0,
                error={**_error(refusal), "param": None},
            )
        if self._item.finals and not self.aborted:
            self._announce(self._item)
            self._complete(self._item, self._take_buffer())
        self._tell("error", error={**_error(refusal), "param": None, "event_id": None})

    # --- to the client

    def _tell(self, type: str, **fields: Any) -> None:
        self.send({"type": type, "event_id": f"event_{secrets.token_hex(12)}", **fields})

    def _tell_delta(self, item: _Item, delta: str) -> None:
        if delta:
            type = "conversation.item.input_audio_transcription.delta"
            self._tell(type, item_id=item.id, content_index=0, delta=delta)

    def _announce(self, item: _Item) -> None:
        """The item's audio is complete."""
        previous, self._previous = self._previous, item.id
        self._committed += 1
        self._tell("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        for type in ("created",) if self._beta else ("added", "done"):
            self._tell(f"conversation.item.{type}", previous_item_id=previous, item=shown)

    def _complete(self, item: _Item, seconds: float) -> None:
        """The item's text is complete."""
        extra = {"logprobs": logprobs(item.finals, item.text)} if LOGPROBS in (self._session.include or ()) else {}
        self._tell(
            "conversation.item.input_audio_transcription.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.text,
            usage={"type": "duration", "seconds": round(seconds, 3)},
            **extra,
        )

    def _shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(self._session)
        return {"id": self._id, "object": "realtime.transcription_session", **shown}

    def _refuse(self, error: ClientError, event_id: str | None) -> None:
        fields = {"type": "invalid_request_error", "code": error.code, "message": error.message, "param": error.param}
        self._tell("error", error={**fields, "event_id": event_id})


def _error(refusal: RefusalError) -> dict[str, Any]:
    kind = "server_error" if refusal.code in _SERVER_ERRORS else "invalid_request_error"
    return {"type": kind, "code": refusal.code, "message": refusal.explained}
