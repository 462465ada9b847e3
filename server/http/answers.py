"""What the server answers over plain HTTP, upgrades that it refuses included. websockets answers GET only."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from importlib.metadata import version
from urllib.parse import quote

import msgspec
from parastream.server.config import ServerConfig
from parastream.server.http.auth import Guesses, address_of, presented_tokens, refuse_request
from parastream.server.http.pages import elsewhere, page
from parastream.server.metrics import CONTENT_TYPE, Metrics
from parastream.server.protocols.base import Request
from parastream.server.rooms.rooms import Rooms
from parastream.server.routes import ADAPTERS, HTTP_PATHS, ROOM, WEBSOCKET_PATHS, meant_by, parse, room_at
from parastream.server.sessions.admission import Admission
from parastream.server.transcripts.cues import CueCache
from parastream.server.transcripts.formats import TranscriptFormat, json_line, srt_file, text_file, vtt_file
from parastream.server.transcripts.utterance import AttributedUtterance
from parastream.server.wire import messages
from parastream.server.wire.messages import PROTOCOL, ROOMS_PATH
from parastream.server.wire.refusals import RefusalError, quoted
from parastream.server.wire.room_names import NAMES_OF_ROOMS
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

_VERSION = version("parastream")  # read from the disk
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
        self, connection: ServerConnection, http: HttpRequest, protocol: str | None, *, pages: bool
    ) -> Response | None:
        """Return the response to a request, or None to let the handshake of a WebSocket go on.

        Args:
            connection: The connection that makes responses.
            http: The request.
            protocol: Name of the protocol spoken at its path or port; None if there is none.
            pages: Whether the port serves the web pages, too. A port for one protocol does not: pages could not reach
                the native protocol there.
        """
        method = getattr(http, "method", "GET")  # which is all that older versions of websockets let through
        if method not in ("GET", "HEAD"):
            return None  # websockets says so
        response = await self._answer(connection, http, protocol, pages=pages)
        return replace(response, body=b"") if response is not None and method == "HEAD" else response

    async def _answer(
        self, connection: ServerConnection, http: HttpRequest, protocol: str | None, *, pages: bool
    ) -> Response | None:
        request = parse(http.path)
        upgrade = "websocket" in http.headers.get("Upgrade", "").lower()
        viewing = protocol == ROOM
        if not upgrade:
            response = self._public(connection, request) or (_page(http, request.path) if pages else None)
            if response is not None:
                return response
            viewing = viewing or _transcript_at(request.path) is not None
            if not viewing and request.path not in HTTP_PATHS and request.path not in WEBSOCKET_PATHS:
                return json_response(connection, HTTPStatus.NOT_FOUND, _nothing_at(request.path))
        elif protocol is None:
            return self._refuse(connection, HTTPStatus.NOT_FOUND, _nothing_at(request.path))
        peer, now = address_of(connection.remote_address[0], http.headers), self._clock()
        wait = self._guesses.wait(peer, now)
        if wait:
            message = f"too many wrong tokens came from {peer}; try again in {math.ceil(wait)} s"
            error = messages.Error("unauthorized", message)
            response = self._refuse(connection, HTTPStatus.TOO_MANY_REQUESTS, error, protocol)
            response.headers["Retry-After"] = str(math.ceil(wait))
            return response
        refused = refuse_request(http.path, http.headers, self._config, viewing=viewing, upgrade=upgrade)
        if refused is not None:
            if refused[0] is HTTPStatus.UNAUTHORIZED:
                self._guesses.note(peer, len(presented_tokens(http.path, http.headers)), now)
            return self._refuse(connection, *refused, protocol)
        if not upgrade:
            return await self._private(connection, request)
        if protocol is not None and protocol in ADAPTERS:
            try:
                ADAPTERS[protocol].check(request)
            except RefusalError as refusal:
                return self._refuse(connection, HTTPStatus.BAD_REQUEST, refusal.error, protocol)
        return None

    def _refuse(
        self, connection: ServerConnection, status: HTTPStatus, error: messages.Error, protocol: str | None = None
    ) -> Response:
        host, port = connection.remote_address[:2]
        self._admission.refuse(f"{protocol or 'HTTP'} {host}:{port}", error)
        response = json_response(connection, status, error)
        if protocol is not None and protocol in ADAPTERS:
            for name, value in ADAPTERS[protocol].headers_of(error).items():
                _set(response, name, value)
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _public(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what needs no token."""
        match request.path:
            case "/healthz":
                return json_response(connection, HTTPStatus.OK, {"status": "ok"})
            case "/readyz":
                reason = self._admission.not_ready
                if reason is None:
                    body = {"status": "ready", "model": self._admission.model}
                    return json_response(connection, HTTPStatus.OK, body)
                body = {"status": "not ready", "reason": reason}
                return json_response(connection, HTTPStatus.SERVICE_UNAVAILABLE, body)
        return None

    async def _private(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what needs the token, if the server has one."""
        match request.path:
            case "/metrics":
                response = connection.respond(HTTPStatus.OK, self._metrics.render().decode())
                _set(response, "Content-Type", CONTENT_TYPE)
                return response
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
                return json_response(connection, HTTPStatus.OK, body)
        watched = room_at(request.path)
        if watched is not None:
            return self._history(connection, request, watched)
        transcript = _transcript_at(request.path)
        if transcript is not None:
            room, form = transcript
            utterances = self._rooms.transcript(room)
            if utterances is None:
                error = messages.Error("unknown_path", f"nobody has spoken in the room {quoted(room)}")
                return json_response(connection, HTTPStatus.NOT_FOUND, error)
            text = await asyncio.to_thread(self._transcript, utterances, form, room)  # long ones take their time
            response = connection.respond(HTTPStatus.OK, text)
            _set(response, "Content-Type", _CONTENT_TYPES[form])
            _set(response, "Cache-Control", "no-store")
            return response
        return None  # websockets says that an upgrade is required

    def _history(self, connection: ServerConnection, request: Request, room: str) -> Response:
        """Answer with lines of a room from before those that a viewer knows."""
        try:
            before = _number(request, "before", 0, None)
            limit = _number(request, "limit", 1, MOST_LINES)
        except RefusalError as refusal:
            return self._refuse(connection, HTTPStatus.BAD_REQUEST, refusal.error)
        found = self._rooms.history(room, before, limit or MOST_LINES)
        if found is None:
            error = messages.Error("unknown_path", f"nobody has spoken in the room {quoted(room)}")
            return json_response(connection, HTTPStatus.NOT_FOUND, error)
        response = json_response(connection, HTTPStatus.OK, found)
        _set(response, "Cache-Control", "no-store")
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
    paths = ("/", *HTTP_PATHS, *(path for path in WEBSOCKET_PATHS if path != "/"))
    return RefusalError("unknown_path", message, paths).error


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
    headers = {"Location": location, "Content-Length": "0", "Connection": "close", "X-Content-Type-Options": "nosniff"}
    return Response(status, status.phrase, Headers(headers), b"")


def json_response(connection: ServerConnection, status: HTTPStatus, body: object) -> Response:
    """Return a response with a JSON body."""
    response = connection.respond(status, msgspec.json.encode(body).decode() + "\n")
    _set(response, "Content-Type", "application/json")
    return response


def _set(response: Response, name: str, value: str) -> None:
    if name in response.headers:
        del response.headers[name]
    response.headers[name] = value


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
