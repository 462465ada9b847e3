"""FunASR's WebSocket protocol (port 10095; here on `/`, and on every path of a port of its own).

Binary messages are audio, cut anywhere: raw samples (16 bits, one channel, `audio_fs` Hz), a WAV file with its header
(PCM of 8 to 32 bits, float, A-law or mu-law), or what else FFmpeg reads. Several channels are mixed. JSON messages set things, and begin and end
recordings:

- `is_speaking` true begins a recording; `is_speaking` false or `is_finished` true ends it. Any number of recordings may
  follow one another on a connection, and each is answered in turn. Audio outside a recording begins one.
- `mode` (`2pass`, `online`, `offline`; `office` means the last), `audio_fs`, `wav_format` (`pcm` or `wav`; with any other
  the audio says itself what it is), `wav_name` and `itn` hold for the recordings that follow and for one without audio
  yet. `itn` true asks for numbers as people write them, in the texts of `2pass-offline` and `offline`.
- `is_end` with the end of a recording asks for an acknowledgement.
- `svs_lang` says what is spoken, where the models know it; else, and with `auto`, they find out.
- `hotwords` are listened for from there on: an object of weights (20 is usual), also as JSON in a string; lines with a
  weight behind each; or words. What is none of these is ignored.
- `chunk_size`, `chunk_interval`, `encoder_chunk_look_back`, `decoder_chunk_look_back`, `svs_itn` and all unknown fields
  are accepted with any value, which changes nothing that is heard: the model has one chunk size.

Answers always have `mode`, `text`, `wav_name` and `is_final`, which is true only in the last message for a recording:

- mode `2pass`: `2pass-online` with words to append, `2pass-offline` with the punctuated text of an utterance, which
  replaces the words appended since the previous such message, with `timestamp` and `stamp_sents`.
- mode `online`: `online` with words to append, from the streaming pass; nothing replaces them.
- mode `offline`: one `offline` message, after the end of the recording, with all of its text, `timestamp` and
  `stamp_sents`. Clients of this mode take the first message for the last.

FunASR has three servers, and clients rely on what theirs does without saying which that is. The first message shows it:

| Server | Answers | Its clients here | First message |
|---|---|---|---|
| Python | `online`, `offline`, `2pass-…`, by mode | file client, html5, Go, openclaw | `mode`, `chunk_size`, `chunk_interval`, and `itn`, `hotwords` or `audio_fs` |
| C++, real time | `2pass-online`, `2pass-offline` in every mode, with `slice_type`, `index`, `start_time`, `end_time` | C# (online), funasr-client | `mode` and `chunk_size`, but not all of the rest; or the mode `office` |
| C++, offline | one `offline` message | C++ file client, C# (offline) | `wav_format` and `audio_fs`, but no `mode`; or the mode `offline` without `chunk_size` |

Clients of the mode `2pass` are the same for all; a client that names no mode at all gets that one.

Clients join the texts as they are: where the language has spaces, all but the first of a recording begin with one. A
recording without speech gets an empty text. The acknowledgement, with `is_end` true, is a message of its own and then
the last one.

Text that is not a JSON object is answered with an `error` and an empty text, and the connection goes on, as FunASR's
does. Any other refusal ends the recording: finals come first, then such a message with `is_final` true (or, if the
client asked for one, an acknowledgement with `is_final` false). Then the connection is closed with the code of the
native protocol.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, OneByOne, Request
from parastream.server.protocols.funasr.messages import Answer, AnswerMode, ClientMessage, Failure, Mode, Name, Slice
from parastream.server.protocols.funasr.stamps import MARKS, Spoken
from parastream.server.protocols.terms import of_funasr
from parastream.server.protocols.wav import WavInput
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import ENCODED, Done, Event, Final, Hotword, Partial, Start
from parastream.server.wire.refusals import RefusalError, quoted

logger = logging.getLogger("parastream.server")

_MODES: dict[str, Mode] = {"2pass": "2pass", "online": "online", "offline": "offline", "office": "offline"}
_RAW = ("pcm", "wav")
_LONGEST_NAME = 1000
_LARGEST_MESSAGE = 32 << 20
"""Bytes, as FunASR's C++ servers take: some clients send a recording in one message."""

_decoder = msgspec.json.Decoder(ClientMessage)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What JSON messages set."""

    mode: Mode = "2pass"
    rate: int = 16000
    format: str = "pcm"
    name: Name = "microphone"
    prefixed: bool = True
    """Whether answers are named as the C++ server names them in every mode: `2pass-online` and `2pass-offline`."""
    itn: bool = False
    language: str = ""

    def updated(self, message: ClientMessage, *, first: bool) -> _Settings:
        """Return these settings with those of a message, which may be the first one.

        Raises:
            RefusalError: one of them has a value that the server does not support.
        """
        mode, prefixed = self.mode, self.prefixed
        if _given(message.mode):
            mode, prefixed = _mode(message.mode), _for_real_time(message)
        elif first and _given(message.wav_format) and _given(message.audio_fs):
            mode, prefixed = "offline", False
        return _Settings(
            mode,
            _rate(message.audio_fs) if _given(message.audio_fs) else self.rate,
            _format(message.wav_format) if _given(message.wav_format) else self.format,
            _name(message.wav_name) if _given(message.wav_name) else self.name,
            prefixed,
            bool(_flag("itn", message.itn)) if _given(message.itn) else self.itn,
            message.svs_lang if isinstance(message.svs_lang, str) else self.language,
        )

    @property
    def online(self) -> AnswerMode:
        """What an answer with words to append is called."""
        return "2pass-online" if self.prefixed else "online"

    @property
    def offline(self) -> AnswerMode:
        """What an answer with the text of an utterance, or of all, is called."""
        return "2pass-offline" if self.prefixed else "offline"


def _given(value: Any) -> bool:
    return value is not None and value != ""


def _mode(value: Any) -> Mode:
    if not isinstance(value, str) or value.strip().lower() not in _MODES:
        raise RefusalError(
            "unsupported",
            f"there is no mode {quoted(value)}, but 2pass, online and offline",
            ("2pass", "online", "offline"),
        )
    return _MODES[value.strip().lower()]


def _for_real_time(message: ClientMessage) -> bool:
    """Say whether the client that names its mode was made for the C++ real-time server; see the module's table."""
    mode = _mode(message.mode)
    if mode == "2pass" or mode != message.mode.strip().lower():  # no other server knows `office`
        return True
    for_python = message.chunk_interval is not None and any(
        value is not None for value in (message.itn, message.hotwords, message.audio_fs)
    )
    return not for_python and (mode == "online" or message.chunk_size is not None)


def _rate(value: Any) -> int:
    try:
        rate = float(value)
        if isinstance(value, bool) or rate != int(rate):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RefusalError("invalid_message", f"`audio_fs` is {quoted(value)}; it must be a whole number") from None
    return int(rate)


def _format(value: Any) -> str:
    if not isinstance(value, str):
        raise RefusalError("invalid_message", f"`wav_format` is {quoted(value)}", _RAW)
    return value.strip().lower().removeprefix(".")


def _name(value: Any) -> Name:
    if not isinstance(value, str | int | float) or len(str(value)) > _LONGEST_NAME:
        raise RefusalError("invalid_message", f"`wav_name` must be a string of at most {_LONGEST_NAME} characters")
    return value


def _flag(name: str, value: Any) -> bool | None:
    if value is None or value in (False, True):  # so are 0 and 1
        return None if value is None else bool(value)
    raise RefusalError("invalid_message", f"`{name}` is {quoted(value)}", ("true", "false"))


class _Recording:
    """From `is_speaking` true to false: its audio on the way in, its texts on the way out."""

    def __init__(self, settings: _Settings) -> None:
        self.settings = settings
        self.audio = WavInput()
        self.transcription: Transcription | None = None
        self.ended = False
        """The client has said that nothing follows."""
        self.acknowledge = False
        self.done = False
        """All of it has been transcribed."""
        self.held: list[Event] = []
        """Events that wait until the recordings before this one are finished."""
        self.order = OneByOne()
        self.pending: Answer | None = None
        """The message that could be the last one."""
        self.told = ""
        """Words of the open utterance that have been sent."""
        self.before = ""
        """Text of the utterance before that."""
        self.finals: list[Final] = []
        """In the mode `offline`: what the one answer consists of."""

    def after(self, text: str) -> str:
        """Return a text with the space that separates it from the one before it."""
        return join((self.before, text))[len(self.before) :]

    @property
    def start(self) -> Start:
        """What its transcription is asked for."""
        header, mode = self.audio.header, self.settings.mode
        if header is not None:
            start = Start(format=header.format, rate=header.rate, channels=header.channels, channel="mix")
        elif self.settings.format in _RAW:
            start = Start(rate=self.settings.rate)
        else:
            start = Start(format=ENCODED)
        online = mode == "online"
        return msgspec.structs.replace(
            start,
            partials=mode != "offline",
            punctuation=not online,
            itn=self.settings.itn and not online,  # there the words have been told
            final_pass=not online,
        )


class FunASR(Adapter):
    """One connection of a client of FunASR."""

    patience: ClassVar[float] = 10.0
    subprotocols: ClassVar[tuple[str, ...]] = ("binary",)
    max_message: ClassVar[int | None] = _LARGEST_MESSAGE

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._settings = _Settings()
        self._recordings: deque[_Recording] = deque()  # unfinished ones; all but the last have ended
        self._hotwords: tuple[Hotword, ...] = ()
        self._first = True  # no message has set anything yet
        self._index = 0  # of the utterance that is told of

    @property
    def backlog(self) -> float:
        """Seconds of audio in all recordings: a client may send many short ones without waiting for answers."""
        return sum(
            recording.transcription.backlog for recording in self._recordings if recording.transcription is not None
        )

    # from the client

    def receive_text(self, text: str) -> None:
        """Take settings, and beginnings and ends of recordings. See `Adapter.receive_text`."""
        try:
            message = _decoder.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            problem = RefusalError("invalid_json", f"text messages carry one JSON object each: {error}")
            self.complain(problem)
            self.send(_failure(self._settings, problem))
            return
        self._settings = self._settings.updated(message, first=self._first)
        self._first = False
        if message.hotwords is not None:
            self._hotwords = tuple(of_funasr(message.hotwords))
            if self._open is not None and self._open.transcription is not None:
                self.expect(self._open.transcription, self._hotwords)
        speaking, finished = _flag("is_speaking", message.is_speaking), _flag("is_finished", message.is_finished)
        recording = self._open
        if recording is not None and recording.transcription is None:
            recording.settings = self._settings
        if speaking is False or finished:
            self._end(recording or self._begin(), acknowledge=bool(_flag("is_end", message.is_end)))
        elif speaking and recording is None:
            self._begin()

    @property
    def _open(self) -> _Recording | None:
        """The recording that has not ended."""
        return self._recordings[-1] if self._recordings and not self._recordings[-1].ended else None

    def _begin(self) -> _Recording:
        self._recordings.append(_Recording(self._settings))
        return self._recordings[-1]

    def receive_audio(self, data: bytes) -> None:
        """Take audio of a recording, or begin one with it. See `Adapter.receive_audio`."""
        recording = self._open or self._begin()
        self._send_audio(recording, recording.audio.push(data))

    def _send_audio(self, recording: _Recording, audio: bytes) -> None:
        if not audio:
            return
        if recording.transcription is None:
            start = msgspec.structs.replace(recording.start, hotwords=self.usable(self._hotwords))
            recording.transcription = self.begin(start, language=recording.settings.language)
        recording.transcription.send(audio)

    def _end(self, recording: _Recording, *, acknowledge: bool) -> None:
        self._send_audio(recording, recording.audio.finish())
        recording.ended = True
        recording.acknowledge = acknowledge
        if recording.transcription is None:
            recording.done = True
            self._advance()
        else:
            recording.transcription.end()

    # to the client

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        for recording in self._recordings:
            if recording.transcription is transcription:
                recording.held.append(event)
                recording.done = isinstance(event, Done)
        self._advance()

    def _advance(self) -> None:
        """Tell what can be told, one recording after the other."""
        while self._recordings:
            recording = self._recordings[0]
            self._tell(recording)
            if not recording.done:
                return
            self._recordings.popleft()
            self._send_last(recording)

    def _tell(self, recording: _Recording) -> None:
        held, recording.held = recording.held, []
        for event in held:
            for told in recording.order.order(event):
                if isinstance(told, Partial):
                    self._partial(recording, told)
                else:
                    self._final(recording, told)

    def _partial(self, recording: _Recording, partial: Partial) -> None:
        text = recording.after(partial.stable)
        if len(text) > len(recording.told):
            more = text[len(recording.told) :]
            self._say(recording, self._appended(recording, more))
            recording.told = text

    def _appended(self, recording: _Recording, text: str) -> Answer:
        """Return a message with words to append to those that have been told of the utterance."""
        answer = _answer(recording.settings, text, mode=recording.settings.online)
        if not recording.settings.prefixed:
            return answer
        kind = Slice.MORE if recording.told else Slice.FIRST
        return msgspec.structs.replace(answer, slice_type=kind, index=self._index)

    def _ended(self, recording: _Recording, answer: Answer, start: float, end: float) -> Answer:
        """Return a message with the text of an utterance, with its place and time; seconds."""
        if not recording.settings.prefixed:
            return answer
        times = {"start_time": round(start * 1000), "end_time": round(end * 1000)}
        return msgspec.structs.replace(answer, slice_type=Slice.WHOLE, index=self._index, **times)

    def _final(self, recording: _Recording, final: Final) -> None:
        told, text = recording.told, final.text.lstrip(MARKS + " ")
        match recording.settings.mode:
            case "offline":
                recording.finals.append(final)
            case "online":
                rest = recording.after(final.text)[len(told) :]  # with one pass, it begins with what was stable
                if rest:
                    self._say(recording, self._appended(recording, rest))
                self._index += bool(rest or told)
                recording.before = final.text or recording.before
            case "2pass":
                if text or told:
                    answer = _answer(
                        recording.settings,
                        recording.after(text),
                        mode=recording.settings.offline,
                        spoken=Spoken(text, final.words),
                    )
                    self._say(recording, self._ended(recording, answer, final.start, final.end))
                    self._index += 1
                recording.before = text or recording.before
        recording.told = ""

    def _say(self, recording: _Recording, message: Answer) -> None:
        """Send a message; the last of a recording that has ended waits until it is known to be that."""
        if recording.pending is not None:
            self.send(recording.pending)
        recording.pending = message if recording.ended else None
        if not recording.ended:
            self.send(message)

    def _send_last(self, recording: _Recording) -> None:
        """Send the last message of a recording."""
        if recording.settings.mode == "offline" and (recording.finals or not recording.acknowledge):
            recording.pending = self._whole(recording)
        if recording.acknowledge:
            if recording.pending is not None:
                self.send(recording.pending)
            self.send(msgspec.structs.replace(_answer(recording.settings, "", final=True), is_end=True))
        elif recording.pending is not None:
            self.send(msgspec.structs.replace(recording.pending, is_final=True))
        else:
            online = recording.settings.mode == "online"
            mode = recording.settings.online if online else recording.settings.offline
            self.send(_answer(recording.settings, "", mode=mode, final=True))

    def _whole(self, recording: _Recording) -> Answer:
        """Return all of a recording in the mode `offline`."""
        text = join([final.text.lstrip(MARKS + " ") for final in recording.finals])
        spoken = Spoken(text, [word for final in recording.finals for word in final.words])
        answer = _answer(recording.settings, text, mode=recording.settings.offline, spoken=spoken)
        if recording.finals:
            answer = self._ended(recording, answer, recording.finals[0].start, recording.finals[-1].end)
            self._index += 1
        return answer

    def report(self, refusal: RefusalError) -> None:
        """Send the texts that are left, then the error. See `Adapter.report`."""
        acknowledge, settings = False, self._settings
        for recording in self._recordings:
            acknowledge |= recording.acknowledge
            settings = recording.settings
            if not self.aborted:
                self._tell(recording)
                if recording.finals:
                    recording.pending = self._whole(recording)
                if recording.pending is not None:
                    self.send(recording.pending)
        self._recordings.clear()
        self.send(_failure(settings, refusal, final=not acknowledge, end=acknowledge))


def _answer(
    settings: _Settings,
    text: str,
    *,
    mode: AnswerMode | None = None,
    spoken: Spoken | None = None,
    final: bool = False,
) -> Answer:
    """Return a message with a text, and with its times if there are any."""
    answer = Answer(mode=mode or settings.mode, text=text, wav_name=settings.name, is_final=final)
    if spoken is None or not spoken.timed:
        return answer
    stamps = msgspec.json.encode(spoken.timestamp).decode()
    return msgspec.structs.replace(answer, timestamp=stamps, stamp_sents=spoken.sentences)


def _failure(settings: _Settings, refusal: RefusalError, *, final: bool = False, end: bool = False) -> Failure:
    return Failure(
        mode=settings.mode,
        text="",
        wav_name=settings.name,
        is_final=final,
        is_end=end,
        error=refusal.message,
        code=refusal.code,
        allowed=refusal.allowed,
    )
