"""What the server answers over plain HTTP, upgrades that it refuses included."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version
from urllib.parse import quote, unquote

from parastream.server.config import ServerConfig
from parastream.server.http.auth import Guesses, address_of, client_of, presented_tokens, refuse_request
from parastream.server.http.cors import cors_headers, preflight
from parastream.server.http.pages import elsewhere, page
from parastream.server.metrics import CONTENT_TYPE, Metrics
from parastream.server.protocols.base import Request
from parastream.server.protocols.openai.http import MODELS_PATH, model_names, model_object, openai_error
from parastream.server.protocols.upload import status_of
from parastream.server.rooms.rooms import Rooms
from parastream.server.routes import (
    ADAPTERS,
    HTTP_PATHS,
    POST_PATHS,
    POSTED,
    ROOM,
    WEBSOCKET_PATHS,
    meant_by,
    parse,
    room_at,
)
from parastream.server.sessions.admission import Admission
from parastream.server.sessions.secrets import is_secret
from parastream.server.transcripts.cues import CueCache
from parastream.server.transcripts.formats import TranscriptFormat, json_line, srt_file, text_file, vtt_file
from parastream.server.transcripts.utterance import AttributedUtterance
from parastream.server.transport.peers import Peer, name_of
from parastream.server.wire import messages
from parastream.server.wire.http import empty_response, json_response, text_response
from parastream.server.wire.messages import PROTOCOL, ROOMS_PATH
from parastream.server.wire.refusals import RefusalError, quoted, shortened
from parastream.server.wire.room_names import NAMES_OF_ROOMS
from websockets.datastructures import Headers
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response


@dataclass(frozen=True)
class Admitted:
    """A request that is served as a connection is: who speaks its protocol, and what it says."""

    protocol: str
    request: Request


@dataclass(frozen=True)
class _Asked:
    """A request and where it comes from."""

    http: HttpRequest
    request: Request
    """The same, as protocols see it."""
    protocol: str | None
    peer: Peer


_VERSION = version("parastream")  # read from the disk
_CODES: dict[HTTPStatus, messages.ErrorCode] = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
    HTTPStatus.SERVICE_UNAVAILABLE: "shutting_down",
}
"""What a request is refused with that has not been understood, where the client is not to blame."""
_RETRY_AFTER = 5
"""Seconds after which a client that found the server full may come again."""
MOST_LINES = 500
"""Lines of a room in one answer."""


class HttpAnswers:
    """Answers requests; says which upgrades may go on."""

    def __init__(
        self,
        config: ServerConfig,
        admission: Admission,
        rooms: Rooms,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._admission = admission
        self._rooms = rooms
        self._metrics = metrics
        self._cues = CueCache()
        self._guesses = Guesses()
        self._clock = time.monotonic

    async def answer(
        self, peer: Peer, http: HttpRequest, protocol: str | None, *, pages: bool
    ) -> Response | Admitted | None:
        """Return the response to a request, or who serves it; None lets the handshake of a WebSocket go on.

        Args:
            peer: Host and port of the client.
            http: The request.
            protocol: Name of the protocol that WebSockets speak at its path or port; None if there is none.
            pages: Whether the port serves the web pages and other requests, too. A port for one protocol does not:
                pages could not reach the native protocol there.
        """
        headers = cors_headers(http.headers, self._config)
        request = parse(http.path, http.headers)
        if http.method == "OPTIONS":
            return preflight(http, methods_at(request.path, pages=pages), headers)
        answer = await self._answer(_Asked(http, request, protocol, peer), pages=pages)
        if isinstance(answer, Admitted):
            return replace(answer, request=replace(answer.request, reply_headers=headers))
        if answer is not None:
            for name, value in headers.items():
                answer.headers[name] = value
        return replace(answer, body=b"") if answer is not None and http.method == "HEAD" else answer

    def bad_request(self, peer: Peer, status: HTTPStatus, message: str) -> Response:
        """Answer to what is no request that could be understood, or served."""
        asked = _Asked(HttpRequest("", Headers()), Request(), None, peer)
        return self._refuse(asked, status, RefusalError(_CODES.get(status, "invalid_message"), message).error)

    async def _answer(self, asked: _Asked, *, pages: bool) -> Response | Admitted | None:
        http, request, protocol = asked.http, asked.request, asked.protocol
        reads = http.method in ("GET", "HEAD")
        upgrade = reads and "websocket" in http.headers.get("Upgrade", "").lower()
        viewing = protocol == ROOM
        if not upgrade:
            response = (self._public(request) or (_page(http, request.path) if pages else None)) if reads else None
            if response is not None:
                return response
            viewing = viewing or _transcript_at(request.path) is not None
            methods = methods_at(request.path, pages=pages)
            if not viewing and not methods and request.path not in WEBSOCKET_PATHS:
                return self._refuse(asked, HTTPStatus.NOT_FOUND, _nothing_at(request.path))
            if http.method not in methods:
                return self._wrong_method(asked, methods)
        elif protocol is None:
            return self._refuse(asked, HTTPStatus.NOT_FOUND, _nothing_at(request.path))
        refused = self._turned_away(asked, viewing=viewing, upgrade=upgrade)
        if refused is not None:
            return refused
        try:
            if not upgrade:
                return await self._private(request) if reads else self._admit(asked)
            comes_back = request.query.get("on") or request.query.get("resume")
            if protocol != ROOM and not comes_back and (full := self._admission.full) is not None:
                response = self._refuse(asked, HTTPStatus.SERVICE_UNAVAILABLE, full.error)
                response.headers["Retry-After"] = str(_RETRY_AFTER)
                return response
            if protocol is not None and protocol in ADAPTERS:
                ADAPTERS[protocol].check(request)
        except RefusalError as refusal:
            return self._refuse(asked, status_of(refusal.code), refusal.error)
        return None

    def _turned_away(self, asked: _Asked, *, viewing: bool, upgrade: bool) -> Response | None:
        """Answer who has no token, or is of a page that may not connect."""
        http, config = asked.http, self._config
        client = client_of(asked.peer[0], http.headers, config.proxies)
        address, now = address_of(client), self._clock()
        wait = self._guesses.wait(address, now)
        if wait:
            message = f"too many wrong tokens came from {address}; try again in {math.ceil(wait)} s"
            error = messages.Error("unauthorized", message)
            response = self._refuse(asked, HTTPStatus.TOO_MANY_REQUESTS, error)
            response.headers["Retry-After"] = str(math.ceil(wait))
            return response
        tokens = presented_tokens(http.path, http.headers)
        known = asked.protocol == "openai" and any(is_secret(each, config.token, time.time()) for each in tokens)
        refused = refuse_request(http.path, http.headers, config, viewing=viewing, upgrade=upgrade, known=known)
        if refused is None:
            return None
        if refused[0] is HTTPStatus.UNAUTHORIZED:
            self._guesses.note(address, len(tokens), now)
        return self._refuse(asked, *refused)

    def _admit(self, asked: _Asked) -> Response | Admitted:
        """Let a request that brings a body be served, if it can be."""
        length = asked.http.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self._config.max_upload:
            message = f"the body has {shortened(length)} bytes; allowed: up to {self._config.max_upload}"
            return self._refuse(asked, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, messages.Error("too_large", message))
        return Admitted(POST_PATHS[asked.request.path], asked.request)

    def _wrong_method(self, asked: _Asked, methods: tuple[str, ...]) -> Response:
        path, method = asked.request.path, asked.http.method
        if path in WEBSOCKET_PATHS and method in ("GET", "HEAD"):
            message = f"{path} is for WebSockets: open one, or POST a recording where that is allowed"
            response = self._refuse(asked, HTTPStatus.UPGRADE_REQUIRED, messages.Error("wrong_method", message))
            response.headers["Upgrade"] = "websocket"
        else:
            message = f"{shortened(method)} is not possible at {quoted(path)}"
            error = messages.Error("wrong_method", message, methods)
            response = self._refuse(asked, HTTPStatus.METHOD_NOT_ALLOWED, error)
        response.headers["Allow"] = ", ".join((*methods, "OPTIONS"))
        return response

    def _refuse(self, asked: _Asked, status: HTTPStatus, error: messages.Error) -> Response:
        protocol = asked.protocol
        self._admission.refuse(f"{protocol or 'HTTP'} {name_of(asked.peer)}", error)
        body: object = error
        if protocol is None and asked.request.path in POST_PATHS:
            body = POSTED[POST_PATHS[asked.request.path]].describe(error)
        elif asked.request.path.startswith(MODELS_PATH):
            body = openai_error(error)
        response = json_response(status, body)
        if protocol is not None and protocol in ADAPTERS:
            for name, value in ADAPTERS[protocol].headers_of(error).items():
                response.headers[name] = value
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _public(self, request: Request) -> Response | None:
        """Answer what needs no token."""
        match request.path:
            case "/healthz":
                return json_response(HTTPStatus.OK, {"status": "ok"})
            case "/readyz":
                return self._readiness(request)
        return None

    def _readiness(self, request: Request) -> Response:
        """Say whether sessions can be begun, or with `?places=N`, so many."""
        try:
            wanted = _number(request, "places", 1, None)
        except RefusalError as refusal:
            return json_response(HTTPStatus.BAD_REQUEST, refusal.error)
        reason, places = self._admission.not_ready, self._admission.places
        if reason is None and wanted is not None and places < wanted:
            reason = f"places left: {places}"
        if reason is None:
            computed = {ear.name: ear.computed for ear in self._admission.ears}
            about = {"model": self._admission.model, "computed": computed, "places": places}
            return json_response(HTTPStatus.OK, {"status": "ready", **about})
        return json_response(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "reason": reason})

    async def _private(self, request: Request) -> Response:
        """Answer what needs the token, if the server has one."""
        match request.path:
            case "/metrics":
                return text_response(HTTPStatus.OK, self._metrics.render(), CONTENT_TYPE)
            case "/v1/info":
                loaded = self._admission.not_ready is None
                body = {
                    "name": "parastream",
                    "version": _VERSION,
                    "model": self._admission.model if loaded else None,
                    "languages": self._admission.languages if loaded else None,
                    "ears": self._admission.ears if loaded else None,
                    "protocol": PROTOCOL,
                }
                return json_response(HTTPStatus.OK, body)
        watched = room_at(request.path)
        if watched is not None:
            return self._history(request, watched)
        transcript = _transcript_at(request.path)
        if transcript is not None:
            room, form = transcript
            utterances = self._rooms.transcript(room)
            if utterances is None:
                error = messages.Error("unknown_path", f"nobody has spoken in the room {quoted(room)}")
                return json_response(HTTPStatus.NOT_FOUND, error)
            text = await asyncio.to_thread(self._transcript, utterances, form, room)  # long ones take their time
            response = text_response(HTTPStatus.OK, text.encode(), _CONTENT_TYPES[form])
            response.headers["Cache-Control"] = "no-store"
            return response
        return self._model(request.path)

    def _model(self, path: str) -> Response:
        """Answer what OpenAI's clients ask about models. Raises `RefusalError`."""
        names = model_names(self._admission.model)
        if path == MODELS_PATH:
            return json_response(HTTPStatus.OK, {"object": "list", "data": [model_object(name) for name in names]})
        name = unquote(path.removeprefix(f"{MODELS_PATH}/"))
        if name not in names:
            raise RefusalError("unknown_model", f"there is no model {quoted(name)}", names)
        return json_response(HTTPStatus.OK, model_object(name))

    def _history(self, request: Request, room: str) -> Response:
        """Answer with lines of a room from before those that a viewer knows. Raises `RefusalError`."""
        before = _number(request, "before", 0, None)
        limit = _number(request, "limit", 1, MOST_LINES)
        found = self._rooms.history(room, before, limit or MOST_LINES)
        if found is None:
            error = messages.Error("unknown_path", f"nobody has spoken in the room {quoted(room)}")
            return json_response(HTTPStatus.NOT_FOUND, error)
        response = json_response(HTTPStatus.OK, found)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _transcript(self, utterances: Sequence[AttributedUtterance], form: TranscriptFormat, room: str) -> str:
        match form:
            case TranscriptFormat.TEXT:
                return text_file(utterances)
            case TranscriptFormat.JSONL:
                return json_line(utterances, room)
            case TranscriptFormat.SRT:
                return srt_file(self._cues.cues(utterances))
            case TranscriptFormat.VTT:
                return vtt_file(self._cues.cues(utterances))


def _nothing_at(path: str) -> messages.Error:
    """Return the error that nothing is at a path, and what may have been meant."""
    meant = meant_by(path)
    message = f"there is nothing at {quoted(path)}"
    if f"{path}/".startswith(ROOMS_PATH):
        message += f"; {NAMES_OF_ROOMS}"
    elif meant is not None:
        message += f"; did you mean {meant}?"
    paths = dict.fromkeys(("/", *HTTP_PATHS, *(path for path in WEBSOCKET_PATHS if path != "/"), *POST_PATHS))
    return RefusalError("unknown_path", message, tuple(paths)).error


def _number(request: Request, name: str, least: int, most: int | None) -> int | None:
    """Return a whole number of the query; None where it is not given.

    Raises:
        RefusalError: it is none, or too small or too large.
    """
    given = request.query.get(name)
    if given is None:
        return None
    text = given[-1]
    fits = text.isascii() and text.isdecimal() and len(text) < 10
    if not fits or int(text) < least or (most is not None and int(text) > most):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise RefusalError("invalid_message", f"`{name}` is a whole number, {limits}")
    return int(text)


def _page(http: HttpRequest, path: str) -> Response | None:
    """Return the page at a path, or the way to it for a target that writes its path in another form, or nearly so."""
    found = page(path)
    asked, _, query = http.path.partition("?")
    if found is None:
        browser = "text/html" in http.headers.get("Accept", "")
        location = elsewhere(http.path) if browser and _transcript_at(path) is None else None
        return None if location is None else _redirect(HTTPStatus.FOUND, location)
    if asked != path and asked.startswith("/"):  # what the page loads is relative to its address
        place = quote(path, safe="/%", errors="surrogateescape")
        return _redirect(HTTPStatus.PERMANENT_REDIRECT, f"{place}?{query}" if query else place)
    headers = Headers(found.headers | {"Content-Length": str(len(found.body)), "Connection": "close"})
    return Response(HTTPStatus.OK, "OK", headers, found.body)


def _redirect(status: HTTPStatus, location: str) -> Response:
    return empty_response(status, {"Location": location, "Content-Length": "0"})


def methods_at(path: str, *, pages: bool) -> tuple[str, ...]:
    """Return the methods by which a path may be asked for; none if there is nothing."""
    reads = (
        path in HTTP_PATHS
        or path.startswith(f"{MODELS_PATH}/")
        or room_at(path) is not None
        or _transcript_at(path) is not None
        or (pages and page(path) is not None)
    )
    return (("GET", "HEAD") if reads else ()) + (("POST",) if path in POST_PATHS else ())


_FORMS = {
    ".txt": TranscriptFormat.TEXT,
    ".srt": TranscriptFormat.SRT,
    ".vtt": TranscriptFormat.VTT,
    ".json": TranscriptFormat.JSONL,
}
_CONTENT_TYPES = {
    TranscriptFormat.TEXT: "text/plain; charset=utf-8",
    TranscriptFormat.SRT: "application/x-subrip; charset=utf-8",
    TranscriptFormat.VTT: "text/vtt; charset=utf-8",
    TranscriptFormat.JSONL: "application/json",
}


def _transcript_at(path: str) -> tuple[str, TranscriptFormat] | None:
    """Return the room and the form of the transcript at a path; None if there cannot be one."""
    for suffix, form in _FORMS.items():
        room = room_at(path, "/live/", suffix)
        if room is not None:
            return room, form
    return None
