"""Recordings that come in the body of an HTTP request, whose response is their transcript.

To the engine an upload is a session like others, without a claim on real time: the connection is read as fast as there
is time for its audio that nobody else needs.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from http import HTTPStatus

import msgspec
from parastream.server.protocols.base import Adapter, Admits, Request
from parastream.server.sessions.decoding import Decoding
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.http import empty_response, json_response, text_response
from parastream.server.wire.messages import ENCODED, Done, Error, ErrorCode, Event, Final, Start
from parastream.server.wire.refusals import RefusalError
from websockets.http11 import Response

logger = logging.getLogger("parastream.server")

_STATUSES: dict[ErrorCode, HTTPStatus] = {
    "unknown_model": HTTPStatus.NOT_FOUND,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "idle_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "session_too_long": HTTPStatus.REQUEST_TIMEOUT,
    "capacity": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "shutting_down": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}
_RETRY_AFTER = "5"
"""Seconds after which a server that was busy may be asked again."""


def status_of(code: ErrorCode) -> HTTPStatus:
    """Return the status of a response that says what was refused."""
    return _STATUSES.get(code, HTTPStatus.BAD_REQUEST)


class Posted(Adapter):
    """A request with a body. `receive_audio` takes the body as it comes, `complete` its end."""

    _begun = False
    """Whether the response is on its way."""
    _received = 0
    """Bytes of the body."""

    @property
    def largest(self) -> int:
        """Bytes that the body may have."""
        return self.admission.max_upload

    def receive(self, data: str | bytes) -> None:
        """See `Handler`. A body in chunks has told nobody how large it is."""
        self._received += len(data)
        if self._received > self.largest:
            self.fail(RefusalError("too_large", f"the body is larger than {self.largest} bytes"))
        else:
            super().receive(data)

    def receive_text(self, text: str) -> None:
        """See `Adapter`. Bodies are bytes."""
        self.receive_audio(text.encode())

    def end_input(self) -> None:
        """See `Handler`."""
        if self.listening:
            try:
                self.complete()
            except RefusalError as refusal:
                self.fail(refusal)
        self._input_ended = True

    @abstractmethod
    def complete(self) -> None:
        """Note that the body has ended. Raises `RefusalError`."""

    @classmethod
    @abstractmethod
    def describe(cls, error: Error) -> object:
        """Return the body of the response to a request that is refused, for JSON."""

    def explain(self, refusal: RefusalError) -> object:
        """Return the same for this request."""
        return self.describe(refusal.error)

    def break_off(self, refusal: RefusalError) -> None:
        """Say in a response that has begun why it does not go on."""

    def report(self, refusal: RefusalError) -> None:
        """See `Adapter.report`."""
        if self._begun:
            self.break_off(refusal)
            return
        status = status_of(refusal.code)
        response = json_response(status, self.explain(refusal))
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = _RETRY_AFTER
        self._respond(response)

    def reply(self, body: object, content_type: str = "") -> None:
        """Send the response: bytes of a type, or what becomes JSON."""
        if isinstance(body, bytes):
            self._respond(text_response(HTTPStatus.OK, body, content_type))
        else:
            self._respond(json_response(HTTPStatus.OK, body))
        self.close()

    def begin_reply(self, content_type: str) -> None:
        """Send the head of a response whose body `send` takes, until the connection is closed."""
        self._respond(empty_response(HTTPStatus.OK, {"Content-Type": content_type, "Cache-Control": "no-store"}))

    def _respond(self, response: Response) -> None:
        self._begun = True
        for name, value in self.request.reply_headers.items():
            response.headers[name] = value
        self.send(response.serialize())


class Upload(Posted):
    """A recording on its way to a transcript. A protocol calls `hear` and `end_recording`, and fills in `finish`."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self.multichannel = False
        """Whether each channel is recognised; else all of them mixed."""
        self.wanted = Start(format=ENCODED, channel="mix", partials=False)
        """What the transcription is asked for."""
        self.language = ""
        """What is spoken in it; empty: the models find out."""
        self.finals: list[Final] = []
        self.duration: float | None = None
        """Seconds, once all has been recognised."""
        self.channels = 1
        self._decoding: Decoding | None = None
        self._transcription: Transcription | None = None
        self._recorded = False  # all of the recording has come

    @property
    def warning(self) -> str:
        """What was wrong with the recording, although it could be read."""
        return "" if self._decoding is None else self._decoding.damage

    @abstractmethod
    def finish(self) -> None:
        """Send the response: `duration` and all `finals` are there."""

    def hear(self, data: bytes) -> None:
        """Take bytes of the recording. Raises `RefusalError`."""
        if self._decoding is None and self._transcription is None:
            encoded = self.wanted.format == ENCODED
            if encoded:
                channels = None if self.multichannel else 1
                self._decoding = self.admission.decode(channels=channels, live=False, name=self.name)
                self._decoding.on_open, self._decoding.on_refused = self._open, self.fail
            if not (encoded and self.multichannel):
                self._begin(self.wanted)
        to = self._transcription or self._decoding
        assert to is not None
        to.send(data)

    def end_recording(self) -> None:
        """Note that all of the recording has come. Raises `RefusalError`."""
        to = self._transcription or self._decoding
        if to is None:
            raise RefusalError("invalid_audio", "the recording is empty")
        self._recorded = True
        to.end()

    def _open(self, channels: int) -> None:
        """Begin, the number of channels being known."""
        if self._transcription is None:
            self.channels = channels
            try:
                self._begin(msgspec.structs.replace(self.wanted, channels=channels, channel="all"))
            except RefusalError as refusal:
                self.fail(refusal)

    def _begin(self, start: Start) -> None:
        self._transcription = self.begin(start, language=self.language, decoding=self._decoding, entitled=False)
        if self._recorded:
            self._transcription.end()

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        match event:
            case Final():
                self.finals.append(event)
            case Done():
                self.duration = event.duration
                if self.warning:
                    logger.info("session %s: %s", self.name, self.warning)
                self.finish()

    @property
    def backlog(self) -> float:
        """See `Handler`."""
        if self._transcription is None:
            return 0.0 if self._decoding is None else self._decoding.waiting
        return self._transcription.backlog

    def fail(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        self._let_go()
        super().fail(refusal)

    def lost(self, *, finished: bool, why: str) -> None:
        """See `Handler`."""
        self._let_go()
        super().lost(finished=finished, why=why)

    def _let_go(self) -> None:
        """Stop decoding what nobody transcribes."""
        if self._transcription is None and self._decoding is not None:
            self._decoding.cancel()
