"""OpenAI Realtime (GA), transcription sessions, at `/v1/realtime`. Every message is JSON text, told apart by its `type`.

| Event of the client | What happens |
|---|---|
| `session.update` | fields that are given replace earlier ones; `session.updated` shows what is in effect. `SessionOptions` lists what is served; `language` is heeded until the first audio, where the models know it; `keywords`, and a `prompt` that is a list of terms, are hotwords; `model` and `noise_reduction` change nothing: the server's own models hear the audio as it is. Nor do the fields of conversations (`instructions`, `tools`, `audio.output` and so on): nobody answers |
| `transcription_session.update` | the same in the form of the beta, and answered in that form; from then on `conversation.item.created` takes the place of `.added` and `.done` |
| `conversation.item.retrieve` | `conversation.item.retrieved`: one of the last items, with its text |
| `input_audio_buffer.append` | audio in base64 |
| `input_audio_buffer.commit` | without turn detection: makes an item of the audio since the last commit, with the text of all that was said in it. With it: ends the open utterance; without one, makes an empty item |
| `input_audio_buffer.clear` | forgets audio that has not become an item; `input_audio_buffer.cleared` |
| others | `error`; the session goes on, as after every other mistake of a client |

With turn detection each utterance is an item: `input_audio_buffer.speech_started`, deltas, `.speech_stopped`, `.committed`,
`conversation.item.added`, `.done`, `conversation.item.input_audio_transcription.completed`. Without it the deltas of an item
come while it is spoken, `.committed` answers `commit`, and `.completed` follows.

The text of deltas does not change; only `.completed` has the marks and capitals of the final text. The last delta of an
utterance is the rest of its final text, unless the final pass heard other words than the deltas said.

A client of the beta says so (`OpenAI-Beta: realtime=v1`, or the subprotocol `openai-beta.realtime-v1`) and is shown its session
in the beta's form from the start: `transcription_session.created`, if it has come for a transcription.

An error that ends the session (`idle_timeout`, `capacity`, `shutting_down` and so on) is an `error` event, too. It follows
the items of all audio accepted; items that cannot be finished are `.failed`.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from msgspec import UNSET
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, Request, spelled
from parastream.server.protocols.openai import messages
from parastream.server.protocols.openai.messages import (
    LOGPROBS,
    Append,
    BetaSession,
    BetaUpdate,
    Clear,
    Commit,
    LogProb,
    Retrieve,
    SessionOptions,
    SessionUpdate,
    ShownSession,
)
from parastream.server.protocols.openai.session import (
    LARGEST_APPEND,
    ClientError,
    beta_changes,
    beta_shown,
    changed,
    decode,
    event_id_of,
    hotwords_of,
    in_form_of_beta,
    shown,
    start_of,
)
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Event, Final, Flushed, Partial, SpeechStarted
from parastream.server.wire.refusals import RefusalError, quoted

_SERVER_ERRORS = ("not_ready", "capacity", "shutting_down", "internal")
_MOST_SHOWN = 100
"""Items whose text can be asked for again."""
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
    """Return what follows in `text` after the letters of `told`; case, marks and spaces of both do not count.

    Returns:
        The rest; empty if `text` does not begin with those letters.
    """
    letters = (index for index, letter in enumerate(text) if letter.isalnum())
    end = 0
    for letter in filter(str.isalnum, told):
        index = next(letters, None)
        if index is None or text[index].casefold() != letter.casefold():
            return ""
        end = index + 1
    return text[end:]


def logprobs(finals: Iterable[Final], text: str) -> tuple[LogProb, ...]:
    """Return a token for each word; together they spell `text`."""
    words = [word for final in finals for word in final.words]
    return tuple(
        LogProb(token, round(math.log(max(word.confidence, _LEAST_CONFIDENCE)), 4), tuple(token.encode()))
        for word, token in zip(words, spelled(text, words), strict=True)
    )


def _of_beta(request: Request) -> bool:
    """Say whether a client asks for the interface of the beta."""
    offered = request.headers.get("sec-websocket-protocol", "").split(",")
    return "realtime=v1" in request.headers.get("openai-beta", "") or "openai-beta.realtime-v1" in map(
        str.strip, offered
    )


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

    patience: ClassVar[float] = 10.0
    subprotocols: ClassVar[tuple[str, ...]] = ("realtime",)
    max_message: ClassVar[int | None] = LARGEST_APPEND * 4 // 3 + (1 << 16)

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._id = f"sess_{secrets.token_hex(12)}"
        self._session = SessionOptions()
        self._beta = _of_beta(request)
        self._transcription: Transcription | None = None  # begun by the first audio
        self._buffered = 0  # bytes since the last commit of the client
        self._committed = 0  # items
        self._previous: str | None = None  # the last of them
        self._marks: deque[_Mark] = deque()
        self._item = _Item()  # without turn detection: what the next commit makes
        self._spoken: dict[int, _Item] = {}  # with it: those of open utterances that were told
        self._open: dict[int, float] = {}  # starts of open utterances
        self._texts: dict[str, str] = {}  # of the last items

    def open(self) -> None:
        """Show the session. See `Adapter.open`."""
        if self._beta and self.request.get("intent") == "transcription":
            self.send(messages.BetaCreated(session=beta_shown(self._id, self._session)))
        else:
            self.send(messages.SessionCreated(session=self._shown))

    @property
    def _shown(self) -> ShownSession | BetaSession:
        """The session as this client knows it."""
        return (beta_shown if self._beta else shown)(self._id, self._session)

    # --- from the client

    def receive_audio(self, data: bytes) -> None:
        """Answer that audio comes in events."""
        self._refuse(ClientError("invalid_event", "binary messages are not accepted: audio is base64 in JSON"), None)

    def receive_text(self, text: str) -> None:
        """Take an event. See `Adapter.receive_text`."""
        event_id = None
        try:
            event = decode(text)
            event_id = event.event_id and event.event_id[:200]
            match event:
                case SessionUpdate():
                    old_form = in_form_of_beta(event.session)
                    self._change(beta_changes(event.session) if old_form else event.session)
                    self.send(messages.SessionUpdated(session=self._shown))
                case BetaUpdate():
                    self._change(beta_changes(event.session))
                    self._beta = True
                    self.send(messages.BetaUpdated(session=beta_shown(self._id, self._session)))
                case Append():
                    self._append(event.audio)
                case Commit():
                    self._commit()
                case Clear():
                    self._clear()
                case Retrieve():
                    self._show(event.item_id)
        except ClientError as error:
            self._refuse(error, event_id or event_id_of(text))

    def _change(self, changes: Mapping[str, Any]) -> None:
        session = changed(self._session, changes)
        if self._transcription is not None:
            for name in ("format", "turn_detection"):
                if getattr(session.audio.input, name) != getattr(self._session.audio.input, name):
                    raise ClientError(
                        "invalid_session_update",
                        f"the {name.replace('_', ' ')} cannot change once there was audio; open another connection",
                        f"session.audio.input.{name}",
                    )
            if hotwords_of(session) != hotwords_of(self._session):
                self.expect(self._transcription, hotwords_of(session))
        self._session = session

    def _append(self, audio: bytes) -> None:
        if len(audio) > LARGEST_APPEND:
            message = f"{len(audio)} bytes of audio; allowed: at most {LARGEST_APPEND} in one event"
            raise ClientError("invalid_value", message, "audio")
        if self._transcription is None:
            options = self._session.audio.input.transcription
            language = "" if options is None else options.language or ""
            start = start_of(self._session, self.usable(hotwords_of(self._session)))
            self._transcription = self.begin(start, language=language)
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
        self.send(messages.Cleared())

    def _show(self, item_id: str) -> None:
        text = self._texts.get(item_id)
        if text is None:
            raise ClientError(
                "item_not_found", f"the text of {quoted(item_id)} is not known, or not any more", "item_id"
            )
        content = (messages.InputAudio(transcript=text),)
        self.send(messages.ItemRetrieved(item=messages.Item(id=item_id, content=content)))

    def _take_buffer(self) -> float:
        """Empty the buffer, but for the bytes of an incomplete sample, and return its length in seconds."""
        if self._transcription is None:
            return 0.0
        audio = self._transcription.configs[0].format
        frames, self._buffered = divmod(self._buffered, audio.frame_bytes)
        return frames / audio.rate

    # --- from the transcription

    @property
    def _detects(self) -> bool:
        """Whether the server detects turns."""
        return self._session.audio.input.turn_detection is not None

    @property
    def _current(self) -> _Item | None:
        """The item that the oldest open utterance belongs to without turn detection; None if it is to be forgotten."""
        return self._marks[0].item if self._marks else self._item

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        match event:
            case SpeechStarted():
                self._open[event.utterance] = event.time
                if self._detects and self._current is not None:
                    self._spoken_item(event.utterance)
            case Partial() if self._current is not None:
                if self._detects:
                    self._tell_delta(item := self._spoken_item(event.utterance), item.grow(event.stable))
                elif event.utterance == min(self._open):  # text is told in its order
                    self._tell_delta(self._current, self._current.grow(event.stable))
            case Final():
                self._finish_utterance(event)
            case Flushed():
                self._finish_mark(self._marks.popleft())

    def _spoken_item(self, utterance: int) -> _Item:
        """Return the item of an open utterance; the first call tells the client of it."""
        item = self._spoken.get(utterance)
        if item is None:
            item = self._spoken[utterance] = _Item()
            start = round(self._open[utterance] * 1000)
            self.send(messages.SpeechStarted(audio_start_ms=start, item_id=item.id))
        return item

    def _finish_utterance(self, final: Final) -> None:
        current = self._current
        if current is not None:
            item = self._spoken_item(final.utterance) if self._detects else current
            delta = item.add(final)
            if self._detects:
                end = round(final.end * 1000)
                self.send(messages.SpeechStopped(audio_end_ms=end, item_id=item.id))
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
        """Fail the items that cannot be finished. See `Adapter.report`."""
        kind: Literal["server_error", "invalid_request_error"] = "invalid_request_error"
        if refusal.code in _SERVER_ERRORS:
            kind = "server_error"
        error = kind, refusal.code, refusal.explained
        told = [mark.item for mark in self._marks if mark.item is not None and not self._detects]
        for item in (*told, *self._spoken.values()):
            self.send(messages.Failed(item_id=item.id, error=messages.ItemError(*error)))
        if self._item.finals and not self.aborted:
            self._announce(self._item)
            self._complete(self._item, self._take_buffer())
        self.send(messages.ErrorEvent(error=messages.EventError(*error)))

    # --- to the client

    def _tell_delta(self, item: _Item, delta: str) -> None:
        if delta:
            self.send(messages.Delta(item_id=item.id, delta=delta))

    def _announce(self, item: _Item) -> None:
        """Tell that the audio of an item is complete."""
        previous, self._previous = self._previous, item.id
        self._committed += 1
        self.send(messages.Committed(item_id=item.id, previous_item_id=previous))
        for kind in (messages.ItemCreated,) if self._beta else (messages.ItemAdded, messages.ItemDone):
            self.send(kind(previous_item_id=previous, item=messages.Item(id=item.id)))

    def _complete(self, item: _Item, seconds: float) -> None:
        """Tell the whole text of an item."""
        self._texts[item.id] = item.text
        if len(self._texts) > _MOST_SHOWN:
            del self._texts[next(iter(self._texts))]
        wanted = LOGPROBS in (self._session.include or ())
        self.send(
            messages.Completed(
                item_id=item.id,
                transcript=item.text,
                usage=messages.Usage(round(seconds, 3)),
                logprobs=logprobs(item.finals, item.text) if wanted else UNSET,
            )
        )

    def _refuse(self, error: ClientError, event_id: str | None) -> None:
        self.complain(RefusalError("invalid_message", f"{error.code}: {error}"))
        explained = messages.EventError("invalid_request_error", error.code, error.message, error.param, event_id)
        self.send(messages.ErrorEvent(error=explained))
