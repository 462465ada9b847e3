"""Tokens and origins."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from parastream.server.config import ServerConfig
from parastream.server.http.auth import refuse_request
from websockets.datastructures import Headers

PATH = "/v1/stream"


def status(config: ServerConfig, target: str = PATH, **headers: str) -> HTTPStatus | None:
    named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    refused = refuse_request(target, named, config)
    return refused[0] if refused else None


SECRET = ServerConfig(token="s3cret+/=")


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (PATH, {"Authorization": "Bearer s3cret+/="}),
        (PATH, {"Authorization": "bearer  s3cret+/="}),
        (PATH, {"Sec_WebSocket_Protocol": "parastream.v1, parastream.token.s3cret+/="}),
        (PATH, {"Authorization": "Token s3cret+/="}),
        (PATH, {"Sec_WebSocket_Protocol": "token, s3cret+/="}),
        (PATH, {"Sec_WebSocket_Protocol": "bearer,s3cret+/="}),
        (PATH, {"Sec_WebSocket_Protocol": "realtime, openai-insecure-api-key.s3cret+/=, other"}),
        (f"{PATH}?token=s3cret%2B%2F%3D", {}),
        (f"{PATH}?token=wrong", {"Authorization": "Bearer s3cret+/="}),
    ],
)
def test_the_token_in_each_place(target: str, headers: dict[str, str]) -> None:
    assert status(SECRET, target, **headers) is None


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (PATH, {}),
        (PATH, {"Authorization": "Bearer "}),
        (PATH, {"Authorization": "Basic s3cret+/="}),
        (PATH, {"Authorization": "Bearer s3cret"}),
        (PATH, {"Authorization": "Bearer s3crét"}),
        (f"{PATH}?token=\udce9", {}),
        (PATH, {"Sec_WebSocket_Protocol": "parastream.v1"}),
        (PATH, {"Sec_WebSocket_Protocol": "s3cret+/=, token"}),
        (PATH, {"Sec_WebSocket_Protocol": "token"}),
        (PATH, {"Sec_WebSocket_Protocol": "realtime, s3cret+/="}),
        (f"{PATH}?token=", {}),
        (f"{PATH}?token=s3cret", {}),
    ],
)
def test_wrong_tokens(target: str, headers: dict[str, str]) -> None:
    assert status(SECRET, target, **headers) is HTTPStatus.UNAUTHORIZED


def test_no_token_needed_on_loopback() -> None:
    assert status(ServerConfig()) is None


@pytest.mark.parametrize(
    ("config", "host", "origin", "allowed"),
    [
        (ServerConfig(), "127.0.0.1:8765", "http://127.0.0.1:8765", True),
        (ServerConfig(), "localhost:8765", "http://LOCALHOST:8765", True),
        (ServerConfig(), "[::1]:8765", "http://[::1]:8765", True),
        (ServerConfig(), "127.0.0.1:8765", "http://127.0.0.1:3000", True),  # this machine's too
        (ServerConfig(), "[::1]:8765", "https://localhost", True),
        (ServerConfig(host="0.0.0.0", allow_anonymous=True), "127.0.0.1:8765", "http://localhost:3000", True),
        (ServerConfig(host="0.0.0.0", allow_anonymous=True), "speech.example", "http://localhost:3000", False),
        (ServerConfig(), "127.0.0.1:8765", "ftp://127.0.0.1:8765", False),
        (ServerConfig(), "127.0.0.1:8765", "http://127.0.0.1.evil.example", False),
        (ServerConfig(), "127.0.0.1:8765", "http://[", False),
        (ServerConfig(), "evil.example:8765", "http://127.0.0.1:3000", False),
        (ServerConfig(origins=("null",)), "127.0.0.1:8765", "null", True),
        (ServerConfig(), "127.0.0.1:8765", "https://evil.example", False),
        (ServerConfig(), "127.0.0.1:8765", "null", False),
        (ServerConfig(), "evil.example:8765", "http://evil.example:8765", False),  # a name made to point here
        (ServerConfig(origins=("https://app.example",)), "127.0.0.1:8765", "https://app.example", True),
        (ServerConfig(origins=("https://app.example",)), "127.0.0.1:8765", "http://app.example", False),
        (ServerConfig(host="0.0.0.0", allow_anonymous=True), "speech.example", "https://speech.example", True),
        (ServerConfig(host="0.0.0.0", allow_anonymous=True), "speech.example", "https://evil.example", False),
    ],
)
def test_origins(config: ServerConfig, host: str, origin: str, allowed: bool) -> None:
    assert status(config, Host=host, Origin=origin) is (None if allowed else HTTPStatus.FORBIDDEN)


def test_each_of_several_origins_must_be_allowed() -> None:
    headers = Headers({"Host": "127.0.0.1:1"})
    headers["Origin"] = "http://127.0.0.1:1"
    headers["Origin"] = "https://evil.example"
    refused = refuse_request(PATH, headers, ServerConfig())
    assert refused is not None
    assert refused[1].code == "forbidden_origin"


def test_the_refusal_of_a_page_from_a_file_says_what_would_allow_it() -> None:
    refused = refuse_request(PATH, Headers({"Host": "127.0.0.1:1", "Origin": "null"}), ServerConfig())
    assert refused is not None
    assert refused[1].message == (
        "pages of null may not connect; the setting `origins` allows others (a page that was opened from a file: "
        "`--origin null`)"
    )
