"""Who may connect: the token, and the `Origin` of browsers. Pure functions of the upgrade request."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from http import HTTPStatus
from itertools import pairwise
from urllib.parse import urlsplit

from parastream.server.config import ServerConfig, is_loopback
from parastream.server.routes import parse
from parastream.server.transport.peers import within
from parastream.server.wire.messages import TOKEN_SUBPROTOCOL, Error
from parastream.server.wire.refusals import RefusalError, quoted, shortened
from websockets.datastructures import Headers

_TOKEN_PREFIXES = (TOKEN_SUBPROTOCOL, "openai-insecure-api-key.")
"""Of subprotocols whose rest is the token: our own, and what OpenAI's clients offer in browsers."""

_GUESSES = 20
"""Wrong tokens that an address may present at once."""
_GUESSES_PER_SECOND = 0.2
"""How fast it may go on."""
_ADDRESSES = 10_000
"""Addresses that are remembered."""


class Guesses:
    """How many wrong tokens came from each address of late.

    Who has sent too many has to wait, even with the right one: else every guess would still be answered.
    """

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}  # guesses left to an address, and when; the latest come last

    def wait(self, address: str, now: float) -> float:
        """Return the seconds until an address may present a token; 0 if it may."""
        return max(0.0, (1 - self._allowed(address, now)) / _GUESSES_PER_SECOND)

    def note(self, address: str, count: int, now: float) -> None:
        """Take note of wrong tokens."""
        if not count:
            return
        left = self._allowed(address, now) - count
        self._left.pop(address, None)
        self._left[address] = left, now
        if len(self._left) > _ADDRESSES:
            del self._left[next(iter(self._left))]

    def _allowed(self, address: str, now: float) -> float:
        left, then = self._left.get(address, (_GUESSES, now))
        return min(_GUESSES, left + (now - then) * _GUESSES_PER_SECOND)


def client_of(peer: str, headers: Headers, proxies: Sequence[str]) -> str:
    """Return the address of the client whose request comes from `peer`, which may be a proxy; empty: a Unix socket.

    Proxies add the address that a request came to them from. So the last one that is no proxy is the client's.
    """
    named = [name.strip() for value in headers.get_all("X-Forwarded-For") for name in value.split(",")]
    while named and (not peer or within(peer, proxies)):
        peer = named.pop()
    return peer


def address_of(client: str) -> str:
    """Return what stands for a client: of IPv6 addresses their network (/64), of which one client has any number."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return quoted(client)
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def refuse_request(
    target: str,
    headers: Headers,
    config: ServerConfig,
    *,
    viewing: bool = False,
    upgrade: bool = True,
    known: bool = False,
) -> tuple[HTTPStatus, Error] | None:
    """Check a request whose request line names `target` (path and query).

    `viewing`: it only watches a room; `upgrade`: it opens a WebSocket; `known`: it has presented another valid token.

    Returns None when it may go on, else the HTTP status and the error for the response's body.
    """
    allowed = [config.token, config.viewer_token] if viewing and config.viewer_token else [config.token]
    presented = presented_tokens(target, headers)
    if config.token and not known and not any(_equal(token, one) for token in presented for one in allowed):
        message = (
            "a valid token is required: `Authorization: Bearer <token>`, "
            f"the subprotocol `{TOKEN_SUBPROTOCOL}<token>`, or `?token=<token>`"
        )
        return HTTPStatus.UNAUTHORIZED, Error("unauthorized", message)
    origins = headers.get_all("Origin")
    if not all(allowed_origin(origin, headers, config) for origin in origins):
        message = f"pages of {shortened(', '.join(origins))} may not connect; the setting `origins` allows others"
        if "null" in origins:
            message += " (a page that was opened from a file: `--origin null`)"
        return HTTPStatus.FORBIDDEN, RefusalError("forbidden_origin", message, config.origins).error
    if not upgrade and not origins and not _protected(config):
        # Browsers say where a page is from when it opens a WebSocket, but not when it reads from its own host.
        for host in headers.get_all("Host"):
            if not _own_host(host, config):
                message = (
                    f"the server has no token, so it answers at names of this machine only, such as localhost, not "
                    f"{shortened(host)}; the setting `origins` allows others"
                )
                return HTTPStatus.FORBIDDEN, RefusalError("forbidden_origin", message, config.origins).error
    return None


def _protected(config: ServerConfig) -> bool:
    """Whether it is known who may connect.

    Any name can be made to resolve to this machine, and then a page of that name has the same host as the server.
    Where no token protects the server, only its loopback names prove that the page is its own.
    """
    return bool(config.token) or config.allow_anonymous


def _own_host(host: str, config: ServerConfig) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        allowed = [urlsplit(origin).netloc for origin in config.origins]
    except ValueError:
        return False
    return is_loopback(name) or host.lower() in allowed


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())


def presented_tokens(target: str, headers: Headers) -> list[str]:
    """Every token that the request presents."""
    tokens = list(parse(target).query.get("token", ()))
    for value in headers.get_all("Authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() in ("bearer", "token"):  # Deepgram's clients say the latter
            tokens.append(token.strip())
    offered = [name.strip() for value in headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")]
    for prefix in _TOKEN_PREFIXES:
        tokens += [name.removeprefix(prefix) for name in offered if name.startswith(prefix)]
    tokens += [name for before, name in pairwise(offered) if before in ("token", "bearer")]  # Deepgram in browsers
    return tokens


def allowed_origin(origin: str, headers: Headers, config: ServerConfig) -> bool:
    """Return whether pages of an origin may connect. Requests without `Origin` do not come from browsers."""
    if origin in config.origins:
        return True
    hosts = headers.get_all("Host")
    if len(hosts) != 1:
        return False
    try:
        page, host = urlsplit(origin), urlsplit(f"//{hosts[0]}")
    except ValueError:
        return False
    # Whoever serves pages on a loopback name is on this machine already, whatever the port.
    if page.scheme in ("http", "https") and is_loopback(page.hostname or "") and is_loopback(host.hostname or ""):
        return True
    return page.netloc.lower() == host.netloc.lower() and _protected(config)
