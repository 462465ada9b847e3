"""FunASR's WebSocket protocol (port 10095; here on `/` and on every path that is no other's).

Binary messages are audio: raw samples (16 bits, one channel, `audio_fs` Hz), or a WAV file with its header (16-bit or
float PCM, A-law or mu-law; of several channels the first), cut anywhere. JSON messages set things and say where
input begins and ends:

- `is_speaking` true begins an input, false ends it, as does `is_finished` true. Any number of inputs may follow one
  another on a connection; each is answered in turn. Audio outside of an input begins one.
- `mode` (`2pass`, `online`, `offline`; `office` is taken for the last), `audio_fs`, `wav_format` (`pcm` or `wav`;
  others only if the audio turns out to be WAV) and `wav_name` hold for the inputs that follow and for one that has no
  audio so far.
- `is_end` with the end of an input asks for an acknowledgement.
- `chunk_size`, `chunk_interval`, `encoder_chunk_look_back`, `decoder_chunk_look_back`, `itn`, `hotwords`, `svs_lang`,
  `svs_itn` and everything unknown are accepted, whatever they are, and ignored: the model has one chunk size, spells
  numbers as they are spoken, and takes no hotwords.

Answers always have `mode`, `text`, `wav_name` and `is_final`, true only in the last message that an input gets:

- `2pass-online`: words to append; `2pass-offline`: the punctuated text of an utterance, in place of the words appended
  since the last of these, with `timestamp` and `stamp_sents`.
- `online`: words to append, as the streaming pass hears them; nothing replaces them.
- `offline`: one message, after the end of the input, with all of its text, `timestamp` and `stamp_sents`. Clients of
  this mode take the first message for the last.

Texts are made to be put together: where the language has spaces, all but the first of an input begin with one. Nothing
said gives an empty text. The acknowledgement is a message of its own, and then the last one: `is_end` true.

Text that is no JSON object is answered with an `error` and an empty text, and the connection goes on, as FunASR's does.
Whatever else is refused ends the input: finals come first, then such a message with `is_final` true (or an
acknowledgement with `is_final` false if one was asked for), then the connection is closed with the code of the native
protocol.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, OneByOne, Request
from parastream.server.protocols.stamps import MARKS, Spoken
from parastream.server.protocols.wav import WavInput
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Done, Event, Final, Partial, Start
from parastream.server.wire.refusals import RefusalError

logger = logging.getLogger("parastream.server")

Mode = Literal["2pass", "online", "offline"]

_MODES: dict[str, Mode] = {"2pass": "2pass", "online": "online", "offline": "offline", "office": "offline"}
_RAW = ("pcm", "wav")
_LONGEST_NAME = 1000

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Settings:
    """What JSON messages set."""

    mode: Mode = "2pass"
    rate: int = 16000
    format: str = "pcm"
    name: str | int | float = "microphone"

    def updated(self, message: Message) -> _Settings:
        """These settings and those of a message. Raises `RefusalError`."""

        def given(name: str) -> Any:
            value = message.get(name)
            return None if value == "" else value

        mode, rate, format, name = map(given, ("mode", "audio_fs", "wav_format", "wav_name"))
        return _Settings(
            self.mode if mode is None else _mode(mode),
            self.rate if rate is None else _rate(rate),
            self.format if format is None else _format(format),
            self.name if name is None else _name(name),
        )


def _mode(value: Any) -> Mode:
    if not isinstance(value, str) or value.strip().lower() not in _MODES:
        raise RefusalError(
            "unsupported", f"there is no mode {value!r}, but 2pass, online and offline", ("2pass", "online", "offline")
        )
    return _MODES[value.strip().lower()]


def _rate(value: Any) -> int:
    try:
        rate = float(value)
        if isinstance(value, bool) or rate != int(rate):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RefusalError("invalid_message", f"`audio_fs` is {value!r}; it must be a whole number") from None
    return int(rate)


def _format(value: Any) -> str:
    if not isinstance(value, str):
        raise RefusalError("invalid_message", f"`wav_format` is {value!r}", _RAW)
    return value.strip().lower().removeprefix(".")


def _name(value: Any) -> str | int | float:
    if not isinstance(value, str | int | float) or len(str(value)) > _LONGEST_NAME:
        raise RefusalError("invalid_message", f"`wav_name` must be a string of at most {_LONGEST_NAME} characters")
    return value


def _flag(message: Message, name: str) -> bool | None:
    value = message.get(name)
    if value is None or value in (False, True):  # so are 0 and 1
        return None if value is None else bool(value)
    raise RefusalError("invalid_message", f"`{name}` is {value!r}", ("true", "false"))


class _Input:
    """From `is_speaking` true to false: its audio on the way in, its texts on the way out."""

    def __init__(self, settings: _Settings) -> None:
        self.settings = settings
        self.audio = WavInput()
        self.transcription: Transcription | None = None
        self.ended = False
        """The client has said that nothing follows."""
        self.acknowledge = False
        self.done = False
        """All of it has been heard."""
        self.held: list[Event] = []
        """What is to be told when the inputs before this one have been dealt with."""
        self.order = OneByOne()
        self.pending: Message | None = None
        """The message that could be the last one."""
        self.told = ""
        """Words of the open utterance that have been sent."""
        self.before = ""
        """Text of the utterance before that."""
        self.finals: list[Final] = []
        """Of an input in the mode `offline`."""

    def after(self, text: str) -> str:
        """A text with the space that puts it apart from the one before it."""
        return join((self.before, text))[len(self.before) :]

    @property
    def start(self) -> Start:
        """What its transcription is asked for."""
        header, mode = self.audio.header, self.settings.mode
        if header is None:
            start = Start(rate=self.settings.rate)
        else:
            start = Start(format=header.format, rate=header.rate, channels=header.channels)
        online = mode == "online"
        return msgspec.structs.replace(start, partials=mode != "offline", punctuation=not online, final_pass=not online)


class FunASR(Adapter):
    """One connection of a client of FunASR."""

    subprotocols: ClassVar[tuple[str, ...]] = ("binary",)

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._settings = _Settings()
        self._inputs: deque[_Input] = deque()  # those not dealt with; all but the last have ended
        self._told_of_hotwords = False

    @property
    def backlog(self) -> float:
        """Of all inputs together, as a client may send many short ones without waiting for answers."""
        return sum(input.transcription.backlog for input in self._inputs if input.transcription is not None)

    # from the client

    def receive_text(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text)
            if not isinstance(message, dict):
                raise msgspec.DecodeError("this is no object")
        except (msgspec.DecodeError, RecursionError) as error:
            problem = RefusalError("invalid_json", f"text messages carry one JSON object each: {error}")
            self.send(self._message(self._settings, text="") | problem.fields)
            return
        self._settings = self._settings.updated(message)
        if message.get("hotwords") and not self._told_of_hotwords:
            self._told_of_hotwords = True
            logger.debug("session %s: the model takes no hotwords; they are ignored", self.name)
        speaking, finished = _flag(message, "is_speaking"), _flag(message, "is_finished")
        input = self._open
        if input is not None and input.transcription is None:
            input.settings = self._settings
        if speaking is False or finished:
            self._end(input or self._begin(), acknowledge=bool(_flag(message, "is_end")))
        elif speaking and input is None:
            self._begin()

    @property
    def _open(self) -> _Input | None:
        """The input that has not ended."""
        return self._inputs[-1] if self._inputs and not self._inputs[-1].ended else None

    def _begin(self) -> _Input:
        self._inputs.append(_Input(self._settings))
        return self._inputs[-1]

    def receive_audio(self, data: bytes) -> None:
        input = self._open or self._begin()
        self._hear(input, input.audio.push(data))

    def _hear(self, input: _Input, audio: bytes) -> None:
        if not audio:
            return
        if input.transcription is None:
            if input.audio.header is None and input.settings.format not in _RAW:
                raise RefusalError(
                    "unsupported",
                    f"audio in the format {input.settings.format!r} cannot be read, but pcm and wav",
                    _RAW,
                )
            input.transcription = self.begin(input.start)
        input.transcription.send(audio)

    def _end(self, input: _Input, *, acknowledge: bool) -> None:
        self._hear(input, input.audio.finish())
        input.ended = True
        input.acknowledge = acknowledge
        if input.transcription is None:
            input.done = True
            self._advance()
        else:
            input.transcription.end()

    # to the client

    def apply(self, transcription: Transcription, event: Event) -> None:
        for input in self._inputs:
            if input.transcription is transcription:
                input.held.append(event)
                input.done = isinstance(event, Done)
        self._advance()

    def _advance(self) -> None:
        """Tell what can be told: one input after the other."""
        while self._inputs:
            input = self._inputs[0]
            self._tell(input)
            if not input.done:
                return
            self._inputs.popleft()
            self._send_last(input)

    def _tell(self, input: _Input) -> None:
        held, input.held = input.held, []
        for event in held:
            for told in input.order.order(event):
                if isinstance(told, Partial):
                    self._partial(input, told)
                else:
                    self._final(input, told)

    def _partial(self, input: _Input, partial: Partial) -> None:
        text = input.after(partial.stable)
        if len(text) > len(input.told):
            mode = "online" if input.settings.mode == "online" else "2pass-online"
            self._say(input, self._message(input.settings, mode=mode, text=text[len(input.told) :]))
            input.told = text

    def _final(self, input: _Input, final: Final) -> None:
        told, input.told = input.told, ""
        text = final.text.lstrip(MARKS + " ")
        match input.settings.mode:
            case "offline":
                input.finals.append(final)
            case "online":
                rest = input.after(final.text)[len(told) :]  # with one pass, it begins with what was stable
                if rest:
                    self._say(input, self._message(input.settings, text=rest))
                input.before = final.text or input.before
            case "2pass":
                if text or told:
                    spoken = Spoken(text, final.words)
                    message = self._message(input.settings, mode="2pass-offline", text=input.after(text))
                    self._say(input, message | spoken.fields)
                input.before = text or input.before

    def _say(self, input: _Input, message: Message) -> None:
        """Send a message; the last of an input that has ended waits until it is known to be that."""
        if input.pending is not None:
            self.send(input.pending)
        input.pending = message if input.ended else None
        if not input.ended:
            self.send(message)

    def _send_last(self, input: _Input) -> None:
        """Send the last message of an input."""
        if input.settings.mode == "offline" and (input.finals or not input.acknowledge):
            input.pending = self._whole(input)
        if input.acknowledge:
            if input.pending is not None:
                self.send(input.pending)
            self.send(self._message(input.settings, text="", final=True) | {"is_end": True})
        elif input.pending is not None:
            self.send(input.pending | {"is_final": True})
        else:
            mode = "2pass-offline" if input.settings.mode == "2pass" else None
            self.send(self._message(input.settings, mode=mode, text="", final=True))

    def _whole(self, input: _Input) -> Message:
        """All of an input in the mode `offline`."""
        text = join([final.text.lstrip(MARKS + " ") for final in input.finals])
        spoken = Spoken(text, [word for final in input.finals for word in final.words])
        return self._message(input.settings, text=text) | spoken.fields

    def _message(self, settings: _Settings, *, text: str, mode: str | None = None, final: bool = False) -> Message:
        return {"mode": mode or settings.mode, "text": text, "wav_name": settings.name, "is_final": final}

    def report(self, refusal: RefusalError) -> None:
        acknowledge, settings = False, self._settings
        for input in self._inputs:
            acknowledge |= input.acknowledge
            settings = input.settings
            if not self.aborted:
                self._tell(input)
                if input.finals:
                    input.pending = self._whole(input)
                if input.pending is not None:
                    self.send(input.pending)
        self._inputs.clear()
        end = {"is_end": True} if acknowledge else {}
        self.send(self._message(settings, text="", final=not acknowledge) | end | refusal.fields)
