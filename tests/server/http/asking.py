"""Requests made of bytes, which may break any rule, and what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from parastream.server.app import Server

BOUNDARY = "0123456789"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(line: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> bytes:
    """Return a request; `line` has the method and the target. The length of the body is told, if there is one."""
    told = {"Host": "localhost", **({"Content-Length": str(len(body))} if body else {}), **headers}
    lines = [f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def ask(server: Server, line: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> Answer:
    """Send a request and return the response."""
    return await exchange(server.port, request(line, headers, body))


async def exchange(port: int, sent: bytes) -> Answer:
    """Send bytes and return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return parsed(await reader.read())
    finally:
        writer.transport.abort()


def parsed(response: bytes) -> Answer:
    """Read a response, whose body ends with the connection."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body)


def form(fields: Iterable[tuple[str, str | bytes]], *, end: bool = True) -> bytes:
    """Return a form; the field `file` is a recording."""
    parts = []
    for name, value in fields:
        filename = '; filename="a.wav"' if name == "file" else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        parts.append(head.encode() + (value.encode() if isinstance(value, str) else value) + b"\r\n")
    return b"".join(parts) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")
