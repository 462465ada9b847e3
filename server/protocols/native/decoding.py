"""Reads what clients of the native protocol send."""

from __future__ import annotations

from parastream.server.wire.explain import Reader
from parastream.server.wire.messages import ClientMessage, Resume, Start, type_of
from parastream.server.wire.refusals import RefusalError

_reader = Reader[ClientMessage](ClientMessage)


def decode(text: str) -> ClientMessage:
    """Read a text frame of a client.

    Raises:
        RefusalError: `invalid_json`, or `invalid_message` with the place and what is allowed there.
    """
    return _reader.read(text)


def opening(data: str | bytes) -> Start | Resume:
    """Read the first message of a connection.

    Raises:
        RefusalError: it is neither `start` nor `resume`.
    """
    if isinstance(data, bytes):
        raise RefusalError("unexpected_message", "audio before `start`", ("start", "resume"))
    message = decode(data)
    if not isinstance(message, Start | Resume):
        raise RefusalError("unexpected_message", f"`{type_of(message)}` before `start`", ("start", "resume"))
    return message
