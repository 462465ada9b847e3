"""The protocol of vosk-server (port 2700; here also at `/vosk`).

| Message of the client | Reply |
|---|---|
| `{"config":{…}}` | none |
| binary: 16-bit samples of one channel | exactly one, once the server has looked at the audio: `{"partial":…}`, or the result of all utterances that have ended since the last reply |
| `{"reset":1}` | the result, with the open utterance, which ends here |
| `{"eof":1}` | the result of all that is left; then the connection is closed |

A result is `{"result":[{"conf","start","end","word"}],"text"}`, without `result` if the client wants no words or there
are none. If `max_alternatives` is not 0, it is `{"alternatives":[{"text","confidence","result"}]}`, always with one
alternative. Text is in small letters and unpunctuated; times count from the first sample.

The server heeds `sample_rate` (8000), `words` (true) and `max_alternatives` (0) of `config`; the phrases of
`phrase_list` are hotwords, and other words are heard, too. It ignores `model`, as everything unknown: no client may
change the model of a process. The rate cannot change after the first audio.

A refusal ends the audio: a result follows if there is more text, then `{"error":…,"code":…}`. Then the connection is
closed with the code of the native protocol.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import UNSET, Struct, UnsetType
from parastream.server.protocols.base import Adapter, Admits, OneByOne, Request
from parastream.server.protocols.terms import plain
from parastream.server.sessions.transcription import Progress, Transcription
from parastream.server.wire.explain import Reader
from parastream.server.wire.messages import Done, ErrorCode, Event, Final, Flushed, Hotword, Start, Word
from parastream.server.wire.refusals import RefusalError, quoted

DEFAULT_RATE = 8000


# --- client to server --------------------------------------------------------------------------------


class Config(Struct, frozen=True):
    """What a client may set; it is read leniently, as clients differ.

    Numbers may be fractions or strings, and any value that is true or false in Python does for `words`. Unknown fields
    are ignored.
    """

    sample_rate: Any = UNSET
    words: Any = UNSET
    max_alternatives: Any = UNSET
    phrase_list: Any = UNSET


class ClientMessage(Struct, frozen=True):
    """What a client may say, with at least one of the fields."""

    config: Config | UnsetType = UNSET
    eof: Any = UNSET
    """Anything that is true in Python, as in `reset`."""
    reset: Any = UNSET


_reader = Reader[ClientMessage](ClientMessage)


# --- server to client --------------------------------------------------------------------------------


class ResultWord(Struct, frozen=True, omit_defaults=True):
    """A word and its times in seconds."""

    start: float
    end: float
    word: str
    conf: float | UnsetType = UNSET
    """Left out in alternatives."""


class PartialText(Struct, frozen=True):
    """The open utterance so far."""

    partial: str


class Result(Struct, frozen=True, kw_only=True):
    """The utterances that have ended since the last reply."""

    result: tuple[ResultWord, ...] | UnsetType = UNSET
    text: str


class Alternative(Struct, frozen=True):
    """The one reading of those utterances."""

    text: str
    confidence: float
    result: tuple[ResultWord, ...] | UnsetType = UNSET


class Alternatives(Struct, frozen=True):
    """A result for clients that want alternatives."""

    alternatives: tuple[Alternative]


class Failure(Struct, frozen=True, omit_defaults=True):
    """What was refused, and what is allowed."""

    error: str
    code: ErrorCode
    allowed: tuple[str, ...] = ()


ServerMessage = PartialText | Result | Alternatives | Failure


# --- the adapter -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Owed:
    """A reply that the client waits for."""

    audio: float | None
    """For audio that ends here, in seconds: a partial, or a result if there is one. None: for a reset, a result."""


class Vosk(Adapter):
    """One connection of a client of vosk-server."""

    patience: ClassVar[float] = 10.0

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._rate = DEFAULT_RATE
        self._words = True
        self._alternatives = False
        self._phrases: tuple[Hotword, ...] = ()
        self._transcription: Transcription | None = None
        self._order = OneByOne()
        self._partial = ""
        self._finals: list[Final] = []  # not told yet
        self._owed: deque[_Owed] = deque()
        self._resets = 0  # finished, but not answered
        self._ended = False  # the client has said that nothing follows
        self._done = False  # all audio has been transcribed

    # from the client

    def receive_text(self, text: str) -> None:
        """Take `config`, `eof` or `reset`. See `Adapter.receive_text`."""
        message = _reader.read(text)
        if message == ClientMessage():
            fields = ClientMessage.__struct_fields__
            raise RefusalError("invalid_message", "a message has none of the known fields", fields)
        if self._ended:
            return
        if message.config is not UNSET:
            self._configure(message.config)
        for name in ("eof", "reset"):
            if not (value := getattr(message, name)) and value is not UNSET:
                raise RefusalError("invalid_message", f"`{name}` is {quoted(value)}", ("1",))
        if message.eof is not UNSET:
            self._end()
        elif message.reset is not UNSET:
            self._reset()

    def _configure(self, config: Config) -> None:
        if config.sample_rate is not UNSET:
            rate = _number("sample_rate", config.sample_rate)
            if self._transcription is not None and rate != self._rate:
                raise RefusalError("unsupported", f"the rate is {self._rate} and cannot change after the first audio")
            self._rate = rate
        if config.words is not UNSET:
            self._words = bool(config.words)
        if config.max_alternatives is not UNSET:
            self._alternatives = _number("max_alternatives", config.max_alternatives) > 0
        if isinstance(config.phrase_list, list):
            self._phrases = tuple(plain(each for each in config.phrase_list if each != "[unk]"))
            if self._transcription is not None:
                self.expect(self._transcription, self._phrases)

    def receive_audio(self, data: bytes) -> None:
        """See `Adapter.receive_audio`."""
        if self._ended:
            raise RefusalError("unexpected_message", "audio after `eof`")
        if self._transcription is None:
            start = Start(rate=self._rate, punctuation=False, hotwords=self.usable(self._phrases))
            self._transcription = self.begin(start)
        self._transcription.send(data)
        self._owed.append(_Owed(self._transcription.seconds))
        self._reply()

    def _reset(self) -> None:
        self._owed.append(_Owed(None))
        if self._transcription is None:
            self._resets += 1
            self._reply()
        else:
            self._transcription.flush()

    def _end(self) -> None:
        self._ended = True
        if self._transcription is None:
            self._send_last()
        else:
            self._transcription.end()

    # to the client

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        for told in self._order.order(event):
            if isinstance(told, Final):
                self._partial = ""
                self._finals.append(told)
            else:
                self._partial = told.stable + told.draft
        match event:
            case Flushed():
                self._resets += 1
                self._reply()
            case Done():
                self._done = True
                self._reply()
                self._send_last()

    def advance(self, transcription: Transcription, progress: Progress) -> None:
        """Reply to the audio that the server has looked at. See `Adapter.advance`."""
        self._reply()

    def _reply(self) -> None:
        """Give the replies that can be given now, in their order."""
        while self._owed and self._can_reply(self._owed[0]):
            if self._owed.popleft().audio is None:
                self._resets -= 1
                self._send_result()
            elif self._finals:
                self._send_result()
            else:
                self.send(PartialText(self._partial.lower()))

    def _can_reply(self, owed: _Owed) -> bool:
        if owed.audio is None:
            return self._resets > 0
        return self._done or (self._transcription is not None and self._transcription.progress >= owed.audio)

    def _send_result(self) -> None:
        finals, self._finals = self._finals, []
        text = " ".join(final.text for final in finals if final.text).lower()
        words = [word for final in finals for word in final.words]
        listed = self._words and words
        if self._alternatives:
            confidence = sum(word.confidence for word in words) / len(words) if words else 1.0
            result = tuple(_word(word) for word in words) if listed else UNSET
            self.send(Alternatives((Alternative(text, round(confidence, 4), result),)))
        else:
            result = tuple(_word(word, word.confidence) for word in words) if listed else UNSET
            self.send(Result(result=result, text=text))

    def _send_last(self) -> None:
        self._send_result()
        self.close()

    def report(self, refusal: RefusalError) -> None:
        """Send the text that is left, then the error. See `Adapter.report`."""
        if self._finals and not self.aborted:
            self._send_result()
        self.send(Failure(refusal.message, refusal.code, refusal.allowed))


def _word(word: Word, confidence: float | UnsetType = UNSET) -> ResultWord:
    return ResultWord(word.start, word.end, word.text.lower(), confidence)


def _number(name: str, value: Any) -> int:
    """Return a whole number, which clients also write as a fraction or a string."""
    try:
        return round(float(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusalError("invalid_message", f"`config.{name}` is {quoted(value)}; it must be a number") from error
