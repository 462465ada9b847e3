"""What the server answers over plain HTTP, upgrades that it refuses included. websockets answers GET only."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version

import msgspec
from parastream.server import messages
from parastream.server.auth import refuse_request
from parastream.server.config import ServerConfig
from parastream.server.messages import PROTOCOL, STREAM_PATH
from parastream.server.metrics import Metrics
from parastream.server.protocols.conversation import Request
from parastream.server.recognizer import Recognizer
from parastream.server.refusal import RefusalError
from parastream.server.routes import CONVERSATIONS, HTTP_PATHS, NATIVE, WEBSOCKET_PATHS, parse
from parastream.streaming import EngineStats
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response


class HttpAnswers:
    """Answers requests; says which upgrades may go on."""

    def __init__(
        self, config: ServerConfig, recognizer: Recognizer, metrics: Metrics, stats: Callable[[], EngineStats]
    ) -> None:
        self._config = config
        self._recognizer = recognizer
        self._metrics = metrics
        self._stats = stats

    def answer(self, connection: ServerConnection, http: HttpRequest, protocol: str) -> Response | None:
        """The response to a request on a port of `protocol`, or None to let its handshake go on."""
        request = parse(http.path)
        upgrade = "websocket" in http.headers.get("Upgrade", "").lower()
        if not upgrade:
            response = self._public(connection, request)
            if response is not None:
                return response
            if request.path not in HTTP_PATHS and request.path not in WEBSOCKET_PATHS:
                paths = ("/", *HTTP_PATHS, *WEBSOCKET_PATHS)
                error = messages.Error("unknown_path", f"there is nothing at {request.path}", paths)
                return json_response(connection, HTTPStatus.NOT_FOUND, error)
        refused = refuse_request(http.path, http.headers, self._config)
        if refused is not None:
            return self._refuse(connection, *refused)
        if not upgrade:
            return self._private(connection, request)
        if protocol != NATIVE:
            try:
                CONVERSATIONS[protocol].check(request)
            except RefusalError as refusal:
                return self._refuse(connection, HTTPStatus.BAD_REQUEST, refusal.error)
        return None

    def _refuse(self, connection: ServerConnection, status: HTTPStatus, error: messages.Error) -> Response:
        self._metrics.requests_refused += 1
        response = json_response(connection, status, error)
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _public(self, connection: ServerConnection, request: Request) -> Response | None:
        """What needs no token."""
        match request.path:
            case "/":
                text = f"parastream: speech to text over WebSockets\n\nConnect to {STREAM_PATH} with {PROTOCOL}.\n"
                return connection.respond(HTTPStatus.OK, text)
            case "/healthz":
                return json_response(connection, HTTPStatus.OK, {"status": "ok"})
            case "/readyz":
                reason = self._recognizer.not_ready
                if reason is None:
                    body = {"status": "ready", "model": self._recognizer.model}
                    return json_response(connection, HTTPStatus.OK, body)
                body = {"status": "not ready", "reason": reason}
                return json_response(connection, HTTPStatus.SERVICE_UNAVAILABLE, body)
        return None

    def _private(self, connection: ServerConnection, request: Request) -> Response | None:
        """What needs the token, if the server has one."""
        match request.path:
            case "/metrics":
                text = self._metrics.render(sessions=len(self._recognizer), engine=self._stats())
                return connection.respond(HTTPStatus.OK, text)
            case "/v1/info":
                loaded = self._recognizer.not_ready is None
                body = {
                    "name": "parastream",
                    "version": version("parastream"),
                    "model": self._recognizer.model if loaded else None,
                    "protocol": PROTOCOL,
                }
                return json_response(connection, HTTPStatus.OK, body)
        return None  # websockets says that an upgrade is required


def json_response(connection: ServerConnection, status: HTTPStatus, body: object) -> Response:
    """An answer in JSON."""
    response = connection.respond(status, msgspec.json.encode(body).decode() + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response
