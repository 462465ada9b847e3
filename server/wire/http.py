"""Responses to plain HTTP requests. Every one is the last on its connection."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

JSON = "application/json"


def empty_response(status: HTTPStatus, headers: Mapping[str, str]) -> Response:
    """Return a response without a body; what follows it on the connection is one, if `headers` say its type."""
    always = {"Date": formatdate(usegmt=True), "Connection": "close", "X-Content-Type-Options": "nosniff"}
    return Response(status, status.phrase, Headers({**always, **headers}))


def text_response(status: HTTPStatus, body: bytes, content_type: str) -> Response:
    """Return a response with a body."""
    response = empty_response(status, {"Content-Type": content_type, "Content-Length": str(len(body))})
    response.body = body
    return response


def json_response(status: HTTPStatus, body: object) -> Response:
    """Return a response with a JSON body."""
    return text_response(status, msgspec.json.encode(body) + b"\n", JSON)
