"""The protocol of vosk-server (port 2700; here also at `/vosk`).

A client may send `{"config":{…}}`, which is not answered; then binary 16-bit samples of one channel, each message of
which gets exactly one reply, when it has been listened to; `{"reset":1}` ends what is being said, and
`{"eof":1}` ends the audio: each gets one reply with the text, and the second closes the connection. Replies are
`{"partial":…}`, or the result of all utterances that have ended since the last reply: `{"result":[{"conf","start",
"end","word"}],"text"}`, without `result` if no words were wanted or there are none, and `{"alternatives":[{"text",
"confidence","result"}]}`, always with one alternative, if `max_alternatives` is not 0. Text is in small letters and
unpunctuated; times count from the first sample.

Of `config`, `sample_rate` (8000), `words` (true) and `max_alternatives` (0) are heeded. `model` and
`phrase_list` are ignored, as is everything unknown: no client may change the model of a process, and the model takes no
phrases. The rate cannot change once there is audio.

What is refused ends the audio: a result follows if there is more text, then `{"error":…,"code":…}`, then the connection
is closed with the code of the native protocol.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Any, ClassVar

import msgspec
from parastream.server.protocols.base import Adapter, Admits, OneByOne, Request
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Done, Event, Final, Flushed, Start, Word
from parastream.server.wire.refusals import RefusalError

DEFAULT_RATE = 8000

_KINDS = ("config", "eof", "reset")


class _Owed(Enum):
    PARTIAL = auto()
    """For audio: a result instead, if there is one."""
    RESULT = auto()
    """For a reset, once it is through."""


class Vosk(Adapter):
    """One connection of a client of vosk-server."""

    lock_step: ClassVar[bool] = True

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._rate = DEFAULT_RATE
        self._words = True
        self._alternatives = False
        self._transcription: Transcription | None = None
        self._order = OneByOne()
        self._partial = ""
        self._finals: list[Final] = []  # not told yet
        self._owed: deque[_Owed] = deque()
        self._resets = 0  # that are through and not answered
        self._ended = False

    # from the client

    def receive_text(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RefusalError("invalid_json", f"text messages carry one JSON object each: {error}") from error
        if not isinstance(message, dict) or not any(kind in message for kind in _KINDS):
            raise RefusalError("invalid_message", "a message has none of the known fields", _KINDS)
        if self._ended:
            return
        if "config" in message:
            self._configure(message["config"])
        for kind in ("eof", "reset"):
            if kind in message and not message[kind]:
                raise RefusalError("invalid_message", f"`{kind}` is {message[kind]!r}", ("1",))
        if "eof" in message:
            self._end()
        elif "reset" in message:
            self._reset()

    def _configure(self, config: Any) -> None:
        if not isinstance(config, dict):
            raise RefusalError("invalid_message", "`config` must be an object")
        if "sample_rate" in config:
            rate = _number(config, "sample_rate")
            if self._transcription is not None and rate != self._rate:
                raise RefusalError("unsupported", f"the rate is {self._rate} and cannot change once there is audio")
            self._rate = rate
        if "words" in config:
            self._words = bool(config["words"])
        if "max_alternatives" in config:
            self._alternatives = _number(config, "max_alternatives") > 0

    def receive_audio(self, data: bytes) -> None:
        if self._ended:
            raise RefusalError("unexpected_message", "audio after `eof`")
        if self._transcription is None:
            self._transcription = self.begin(Start(rate=self._rate, punctuation=False))
        self._transcription.send(data)

    def settle(self) -> None:
        if self.listening:
            self._owed.append(_Owed.PARTIAL)
            self._reply()

    def _reset(self) -> None:
        self._owed.append(_Owed.RESULT)
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
                self._send_last()

    def _reply(self) -> None:
        """Give the replies that can be given now, in their order."""
        while self._owed and (self._owed[0] is _Owed.PARTIAL or self._resets):
            if self._owed.popleft() is _Owed.RESULT:
                self._resets -= 1
                self._send_result()
            elif self._finals:
                self._send_result()
            else:
                self.send({"partial": self._partial.lower()})

    def _send_result(self) -> None:
        finals, self._finals = self._finals, []
        text = " ".join(final.text for final in finals if final.text).lower()
        words = [word for final in finals for word in final.words]
        listed = bool(self._words and words)
        if self._alternatives:
            confidence = sum(word.confidence for word in words) / len(words) if words else 1.0
            result = {"result": [_word(word) for word in words]} if listed else {}
            self.send({"alternatives": [{"text": text, "confidence": round(confidence, 4), **result}]})
        else:
            result = {"result": [_word(word) | {"conf": word.confidence} for word in words]} if listed else {}
            self.send({**result, "text": text})

    def _send_last(self) -> None:
        self._send_result()
        self.close()

    def report(self, refusal: RefusalError) -> None:
        if self._finals and not self.aborted:
            self._send_result()
        self.send(refusal.fields)


def _word(word: Word) -> dict[str, Any]:
    return {"start": word.start, "end": word.end, "word": word.text.lower()}


def _number(config: dict[str, Any], name: str) -> int:
    """A whole number, which clients also write as a float or in quotes."""
    try:
        return round(float(config[name]))
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusalError("invalid_message", f"`config.{name}` is {config[name]!r}; it must be a number") from error
