"""Tokens and origins."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from parastream.server.config import ServerConfig
from parastream.server.http.auth import Guesses, address_of, client_of, refuse_request
from websockets.datastructures import Headers

from ..fakes import FakeEngine, asynchronous, get, serving

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


def test_wrong_tokens_from_an_address_are_limited() -> None:
    guesses = Guesses()
    for _ in range(20):
        assert guesses.wait("1.2.3.4", now=0) == 0
        guesses.note("1.2.3.4", 1, now=0)
    assert 0 < guesses.wait("1.2.3.4", now=0) <= 5
    assert guesses.wait("1.2.3.5", now=0) == 0, "others are not meant"
    assert guesses.wait("1.2.3.4", now=5) == 0
    guesses.note("1.2.3.4", 500, now=5)  # many in one request
    assert guesses.wait("1.2.3.4", now=5) > 2000
    guesses.note("1.2.3.4", 0, now=6)  # a request without a token is no guess, and no excuse
    assert guesses.wait("1.2.3.4", now=6) > 2000


def test_addresses_that_guess_are_not_remembered_without_end() -> None:
    guesses = Guesses()
    for number in range(30_000):
        guesses.note(str(number), 100, now=0)
    assert guesses.wait("29999", now=0) > 0
    assert guesses.wait("0", now=0) == 0


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("1.2.3.4", [], "1.2.3.4"),
        ("1.2.3.4", ["5.6.7.8"], "1.2.3.4"),
        ("127.0.0.1", ["5.6.7.8"], "5.6.7.8"),
        ("127.0.0.1", ["9.9.9.9, 5.6.7.8"], "5.6.7.8"),
        ("127.0.0.1", ["9.9.9.9, 10.1.2.3"], "9.9.9.9"),
        ("10.9.9.9", ["9.9.9.9", "127.0.0.1"], "9.9.9.9"),
        ("", ["9.9.9.9"], "9.9.9.9"),
        ("", [], "''"),
        ("::1", ["9.9.9.9", "2001:db8::1"], "2001:db8::/64"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["no address"], "'no address'"),
        ("2001:db8::1:2:3:4", [], "2001:db8::/64"),
    ],
)
def test_the_address_of_a_request(peer: str, forwarded: list[str], address: str) -> None:
    headers = Headers([("X-Forwarded-For", each) for each in forwarded])
    assert address_of(client_of(peer, headers, ("127.0.0.0/8", "::1", "10.0.0.0/8"))) == address


@asynchronous
async def test_who_has_guessed_too_often_has_to_wait_even_with_the_right_token() -> None:
    async with serving(FakeEngine(), token="right") as server:
        for _ in range(20):
            assert (await get(server, "/v1/info?token=wrong"))[0] == 401
        status, body = await get(server, "/v1/info?token=right")
        assert status == 429
        assert "too many wrong tokens" in body
        assert (await get(server, "/healthz"))[0] == 200


@asynchronous
async def test_requests_without_a_token_are_no_guesses() -> None:
    async with serving(FakeEngine(), token="right") as server:
        for _ in range(30):
            assert (await get(server, "/v1/info"))[0] == 401
        assert (await get(server, "/v1/info?token=right"))[0] == 200


def test_the_refusal_of_a_page_from_a_file_says_what_would_allow_it() -> None:
    refused = refuse_request(PATH, Headers({"Host": "127.0.0.1:1", "Origin": "null"}), ServerConfig())
    assert refused is not None
    assert refused[1].message == (
        "pages of null may not connect; the setting `origins` allows others (a page that was opened from a file: "
        "`--origin null`)"
    )
