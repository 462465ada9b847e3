"""What responses tell browsers about pages of other origins (CORS)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from parastream.server.config import ServerConfig
from parastream.server.http.auth import allowed_origin
from parastream.server.wire.http import empty_response
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

_PREFLIGHT_SECONDS = 600
"""How long a browser may remember what pages of other origins may do."""


def cors_headers(headers: Headers, config: ServerConfig) -> Mapping[str, str]:
    """Return what lets a page of another origin read the response to a request with these headers, if it may."""
    origins = headers.get_all("Origin")
    if len(origins) != 1 or not allowed_origin(origins[0], headers, config):
        return {"Vary": "Origin"} if origins else {}
    return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin"}


def preflight(http: Request, methods: tuple[str, ...], cors: Mapping[str, str]) -> Response:
    """Answer to OPTIONS, by which browsers ask what pages of other origins may do. It needs no token.

    Args:
        http: the request.
        methods: those that are possible at its path.
        cors: of `cors_headers`.
    """
    allowed = ", ".join((*methods, "OPTIONS"))
    headers = {"Content-Length": "0", "Allow": allowed, **cors}
    if "Access-Control-Allow-Origin" in cors and "Access-Control-Request-Method" in http.headers:
        headers["Access-Control-Allow-Methods"] = allowed
        headers["Access-Control-Allow-Headers"] = ", ".join(http.headers.get_all("Access-Control-Request-Headers"))
        headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
    return empty_response(HTTPStatus.NO_CONTENT, headers)
