"""Connections to a server: how they are opened and closed, and why they cannot be opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

import msgspec
from parastream.client.errors import ClientError, ConnectionFailedError, ServerError
from parastream.server.wire.messages import (
    PROTOCOL,
    STREAM_PATH,
    Error,
    Ready,
    Resume,
    ServerMessage,
    Start,
    decode_server_message,
    encode,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, InvalidURI, WebSocketException
from websockets.typing import Subprotocol

CLOSE_TIMEOUT = 1.0
"""Seconds that a closing handshake may take."""


def stream_url(url: str) -> str:
    """Return the address of a server's native endpoint, unless `url` has a path of its own."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=STREAM_PATH)) if parts.path in ("", "/") else url


def with_query(url: str, **values: str) -> str:
    """Return an address with further values in its query, but for those that are empty or given there already."""
    try:
        parts = urlsplit(url)
    except ValueError:  # connecting says so
        return url
    given = parse_qs(parts.query, keep_blank_values=True)
    more = urlencode({name: value for name, value in values.items() if value and name not in given}, quote_via=quote)
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, more)))))


async def open_connection(
    url: str, first: Start | Resume, *, token: str | None, timeout: float
) -> tuple[ClientConnection, Ready]:
    """Connect, and begin or resume a session.

    When this fails, is cancelled or times out, no connection is left; the server is told to drop a session that may
    have begun.

    Args:
        url: `ws://` or `wss://`; without a path, the native endpoint.
        first: the message that opens or resumes the session.
        token: presented as a bearer token.
        timeout: seconds until the answer to `first`.

    Raises:
        ServerError: the server refuses.
        ConnectionFailedError: the server cannot be reached or speaks something else; the message says why.
    """
    shown = url.partition("?")[0]  # the query may hold a token
    reached = asyncio.Event()
    try:
        async with asyncio.timeout(timeout):
            websocket = await _connect(stream_url(url), token, reached.set)
            try:
                if websocket.subprotocol != PROTOCOL:
                    raise ConnectionFailedError(
                        f"cannot connect to {shown}: the WebSocket there does not speak {PROTOCOL}; "
                        "is it a parastream server, and not its port for another protocol?"
                    )
                answer = await _greet(websocket, first)
            except BaseException:
                await leave(websocket, patience=0.0)
                raise
    except InvalidStatus as error:
        raise _http_error(shown, error) from error
    except (OSError, ValueError, WebSocketException) as error:
        reason = _reason(error, url, timeout=timeout, reached=reached.is_set())
        raise ConnectionFailedError(f"cannot connect to {shown}: {reason}") from error
    return websocket, answer


async def _connect(url: str, token: str | None, on_reached: Callable[[], None]) -> ClientConnection:
    return await connect_websocket(
        url,
        subprotocols=[Subprotocol(PROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        compression=None,
        open_timeout=None,  # the caller has one
        close_timeout=CLOSE_TIMEOUT,
        ping_interval=None,  # the server is never silent for long
        max_queue=None,  # everything is read at once; a full queue would hold up closing
        proxy=_proxy_for(url),
        create_connection=partial(_Connection, on_reached),  # type: ignore[arg-type]
    )


class _Connection(ClientConnection):
    """Reports when the server has been reached, TLS included."""

    def __init__(self, on_reached: Callable[[], None], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_reached = on_reached

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._on_reached()
        super().connection_made(transport)


def _proxy_for(url: str) -> Literal[True] | None:
    """Return what websockets wants: no proxy for a server on this machine, else the one that the environment names."""
    return None if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1") else True


async def _greet(websocket: ClientConnection, first: Start | Resume) -> Ready:
    """Send the first message and return the answer.

    Raises:
        ServerError: the server refuses.
        ClientError: the answer belongs to another protocol.
        ConnectionClosed: the connection broke.
    """
    await websocket.send(encode(first), text=True)
    answer = await receive_message(websocket)
    if isinstance(answer, Error):
        raise ServerError(answer.code, answer.message, answer.allowed)
    if not isinstance(answer, Ready):
        raise ClientError(f"the server answered with {type(answer).__name__} instead of Ready")
    return answer


async def receive_message(websocket: ClientConnection) -> ServerMessage:
    """Return the next message.

    Raises:
        ClientError: it does not belong to the protocol.
        ConnectionClosed: the connection is closed.
    """
    try:
        return decode_server_message(await websocket.recv())
    except msgspec.DecodeError as error:
        raise ClientError(f"the server sent something other than {PROTOCOL}: {error}") from error


async def leave(websocket: ClientConnection, patience: float = CLOSE_TIMEOUT) -> None:
    """Close with a goodbye, after which the server drops a session that has not ended.

    However this ends, by cancellation too, the connection is closed then.

    Args:
        websocket: may be closed already.
        patience: seconds to wait for the server's answer; with 0 the goodbye is sent and nothing is waited for.
    """
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await websocket.close()
    finally:
        await abort(websocket)


async def abort(websocket: ClientConnection) -> None:
    """Close without a goodbye: the connection is broken, or nobody would hear it."""
    websocket.transport.abort()
    await websocket.wait_closed()


def _http_error(url: str, error: InvalidStatus) -> ClientError:
    """Return what an HTTP response other than the upgrade says."""
    with contextlib.suppress(msgspec.DecodeError):
        message = decode_server_message(bytes(error.response.body or b""))
        if isinstance(message, Error):
            return ServerError(message.code, message.message, message.allowed)
    return ConnectionFailedError(
        f"cannot connect to {url}: the server answered with HTTP status {error.response.status_code}, "
        "not with a WebSocket"
    )


def _reason(error: Exception, url: str, *, timeout: float, reached: bool) -> str:
    """Say why no connection could be opened, and what may be wrong with the address."""
    secure = url.startswith("wss:")
    match error:
        case InvalidURI():
            return "this is not the address of a WebSocket; it must begin with ws:// or wss://"
        case OSError() if codes := re.findall(r"\[Errno (\d+)\]", str(error)):
            # When a name has several addresses, asyncio puts the errors of all into one text.
            causes = dict.fromkeys(os.strerror(int(code)).lower() for code in codes)
            return " and ".join(causes) + _tls_hint(reached, secure=secure)
        case TimeoutError():
            return _timeout_reason(timeout, reached=reached, secure=secure)
        case socket.gaierror():
            return f"there is no host of this name ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"the TLS handshake failed ({error.reason}); without TLS the address begins with ws://"
        case InvalidMessage():
            return "the server did not answer in HTTP" + _tls_hint(reached, secure=secure)
        case ConnectionClosed():
            return f"the server closed the connection: {error.rcvd or error}"
    return str(error) or type(error).__name__


def _timeout_reason(timeout: float, *, reached: bool, secure: bool) -> str:
    if reached:
        return f"the server accepted the connection but did not answer within {timeout:g} s; is it parastream?"
    if secure:
        return (
            f"no TLS connection within {timeout:g} s; "
            "the host is out of reach, or it does not use TLS and its address begins with ws://"
        )
    return f"the host did not answer within {timeout:g} s"


def _tls_hint(reached: bool, *, secure: bool) -> str:
    return "; if it uses TLS, its address begins with wss://" if reached and not secure else ""
