"""The protocol of `funasr-realtime-server`, FunASR's server for Fun-ASR-Nano (port 10095; here at `/funasr-realtime`).

Binary messages are 16-bit samples of one channel at 16 kHz. Text messages are commands; their case does not matter.

| Command | Answer |
|---|---|
| `START` | `{"event":"started"}`: audio is taken from now on; before that it is ignored, as there. A session that was not stopped ends here |
| `COMMIT` | what is being said ends here: a result with `is_final` true, after which sentences are counted anew. FunASR's server takes it only with `--endpoint-mode client`; here pauses end sentences all the same |
| `STOP` | the last result, with `is_final` true, if there was any audio, then `{"event":"stopped"}`; another `START` may follow |
| `LANGUAGE:English` | `language_set`: what is spoken in sessions without audio so far, by its name in English or Chinese or by its code, where the models know it; otherwise they find out |
| `HOTWORDS:one,two` | `hotwords_set`; they are listened for from here on |
| others | `{"event":"error"}`, and the connection goes on |

A result has all `sentences` since `START` or the last `COMMIT`, each with `text`, `start` and `end`, and the `partial` text of
the one that is being said, with `partial_start_ms`; `duration_ms` is the length of the audio. All times are in milliseconds.
Clients put texts together as they are, so where the language has spaces all but the first begin with one.

A refusal that ends the connection is an `error` event, too, after the results of all audio.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import ClassVar, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, OneByOne, Request
from parastream.server.protocols.terms import plain
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Done, ErrorCode, Event, Final, Flushed, Hotword, Partial, Start
from parastream.server.wire.refusals import RefusalError, quoted

COMMANDS = ("START", "COMMIT", "STOP", "HOTWORDS:…", "LANGUAGE:…")
_MOST_HOTWORDS = 1000
_MOST_WAITING = 100
"""Sessions, and messages of one, that wait until the session before them is finished."""
_START = Start()
_NAMES = {
    **{"chinese": "zh", "mandarin": "zh", "english": "en", "cantonese": "yue", "japanese": "ja", "korean": "ko"},
    **{"中文": "zh", "英文": "en", "粤语": "yue", "日文": "ja", "韩文": "ko"},
}
"""Languages as clients name them."""


class Sentence(Struct, frozen=True):
    """A sentence that will not change."""

    text: str
    start: int
    """Milliseconds, as `end`."""
    end: int


class Result(Struct, frozen=True, kw_only=True):
    """Everything that was said since `START` or the last `COMMIT`."""

    sentences: tuple[Sentence, ...]
    partial: str
    """The text of the sentence that is being said."""
    partial_start_ms: int
    duration_ms: int
    is_final: bool


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to a command, or what was wrong."""

    event: Literal["started", "stopped", "hotwords_set", "language_set", "error"]
    hotwords: tuple[str, ...] | UnsetType = UNSET
    language: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    code: ErrorCode | UnsetType = UNSET
    allowed: tuple[str, ...] = ()


ServerMessage = Result | Notice


class _Session:
    """From `START` to `STOP`."""

    def __init__(self) -> None:
        self.transcription: Transcription | None = None
        """Begun by the first audio."""
        self.stopped = False
        self.finished = False
        """Whether all of it has been told."""
        self.sentences: list[Sentence] = []
        self.partial = ""
        self.partial_start: int | None = None
        self.order = OneByOne()
        self.results: Hashable = object()
        """Each result takes the place of those before it that were not sent yet, up to a commit."""
        self.held: list[tuple[ServerMessage, Hashable]] = []
        """What waits until the session before this one is finished."""

    def take(self, event: Partial | Final) -> bool:
        """Take a text, and say whether there is anything new to tell."""
        text = event.text if isinstance(event, Final) else event.stable + event.draft
        spaced = join([*(sentence.text for sentence in self.sentences[-1:]), text])
        spaced = spaced[len(self.sentences[-1].text) :] if self.sentences else spaced
        start = round(event.start * 1000)
        if isinstance(event, Partial):
            self.partial, self.partial_start = spaced, start
            return True
        told = bool(self.partial or text)
        if text:
            self.sentences.append(Sentence(spaced, start, round(event.end * 1000)))
        self.partial, self.partial_start = "", None
        return told

    def result(self, *, final: bool) -> Result:
        """Return all that was said so far."""
        duration = round(self.transcription.seconds * 1000) if self.transcription is not None else 0
        partial_start = duration if self.partial_start is None else self.partial_start
        return Result(
            sentences=tuple(self.sentences),
            partial="" if final else self.partial,
            partial_start_ms=0 if final else partial_start,
            duration_ms=duration,
            is_final=final,
        )


class FunASRRealtime(Adapter):
    """One connection of a client of `funasr-realtime-server`."""

    patience: ClassVar[float] = 10.0

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._language = ""
        self._hotwords: tuple[Hotword, ...] = ()
        self._sessions: deque[_Session] = deque()  # those that are not finished; all but the last are stopped

    # from the client

    @property
    def _open(self) -> _Session | None:
        """The session that takes audio."""
        return self._sessions[-1] if self._sessions and not self._sessions[-1].stopped else None

    def receive_audio(self, data: bytes) -> None:
        """Take audio of the session, if there is one. See `Adapter.receive_audio`."""
        session = self._open
        if session is None or not data:
            return
        if session.transcription is None:
            start = msgspec.structs.replace(_START, hotwords=self.usable(self._hotwords))
            session.transcription = self.begin(start, language=self._language)
        session.transcription.send(data)

    def receive_text(self, text: str) -> None:
        """Take a command. See `Adapter.receive_text`."""
        if len(self._sessions) > _MOST_WAITING or (self._sessions and len(self._sessions[-1].held) > _MOST_WAITING):
            raise RefusalError("slow_client", "too many commands wait for the end of a session")
        command, colon, argument = text.strip().partition(":")
        match (command.upper(), colon):
            case ("START", ""):
                if self._open is not None:
                    self._stop()
                self._sessions.append(_Session())
                self._tell(self._sessions[-1], Notice(event="started"))
            case ("COMMIT", ""):
                self._commit()
            case ("STOP", ""):
                self._stop()
            case ("HOTWORDS", ":"):
                words = tuple(word.strip() for word in argument.split(",")[:_MOST_HOTWORDS] if word.strip())
                self._hotwords = tuple(plain(words))
                if self._open is not None and self._open.transcription is not None:
                    self.expect(self._open.transcription, self._hotwords)
                self._reply(Notice(event="hotwords_set", hotwords=words))
            case ("LANGUAGE", ":"):
                self._language = _NAMES.get(argument.strip().lower(), argument)
                self._reply(Notice(event="language_set", language=argument.strip()))
            case _:
                self._refuse(RefusalError("unexpected_message", f"there is no command {quoted(text)}", COMMANDS))

    def _commit(self) -> None:
        session = self._open
        if session is None:
            self._refuse(RefusalError("unexpected_message", "COMMIT without a session; send START first", ("START",)))
        elif session.transcription is None:
            self._tell(session, session.result(final=True))
        else:
            session.transcription.flush()

    def _stop(self) -> None:
        session = self._open
        if session is None:
            self._reply(Notice(event="stopped"))
            return
        session.stopped = True
        if session.transcription is None:
            self._finish(session)
        else:
            session.transcription.end()

    # to the client

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        (session,) = (each for each in self._sessions if each.transcription is transcription)
        match event:
            case Flushed():
                self._tell(session, session.result(final=True))
                session.sentences.clear()
                session.results = object()
            case Done():
                self._tell(session, session.result(final=True))
                self._finish(session)
            case _:
                for told in session.order.order(event):
                    if session.take(told):
                        self._tell(session, session.result(final=False), replaces=session.results)

    def _finish(self, session: _Session) -> None:
        """Tell that a session is over, and what those after it have to tell."""
        self._tell(session, Notice(event="stopped"))
        session.finished = True
        while self._sessions and self._sessions[0].finished:
            self._sessions.popleft()
            if self._sessions:
                held, self._sessions[0].held = self._sessions[0].held, []
                for message, replaces in held:
                    self.send(message, replaces=replaces)

    def _reply(self, notice: Notice) -> None:
        """Answer a command behind what the last session has to tell."""
        if self._sessions:
            self._tell(self._sessions[-1], notice)
        else:
            self.send(notice)

    def _tell(self, session: _Session, message: ServerMessage, replaces: Hashable = None) -> None:
        if session is self._sessions[0]:
            self.send(message, replaces=replaces)
            return
        if replaces is not None:
            session.held = [each for each in session.held if each[1] != replaces]
        session.held.append((message, replaces))

    def _refuse(self, refusal: RefusalError) -> None:
        """Answer a mistake, after which the connection goes on."""
        self.complain(refusal)
        self._reply(_failure(refusal))

    def report(self, refusal: RefusalError) -> None:
        """Tell what is left of all sessions, then the error. See `Adapter.report`."""
        for session in self._sessions:
            for message, replaces in session.held if not self.aborted else ():
                self.send(message, replaces=replaces)
        self._sessions.clear()
        self.send(_failure(refusal))


def _failure(refusal: RefusalError) -> Notice:
    return Notice(event="error", error=refusal.message, code=refusal.code, allowed=refusal.allowed)
