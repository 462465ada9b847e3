"""The one exception that becomes an `error` message: it says what the server refuses, and what is allowed."""

from __future__ import annotations

from parastream.server.wire.messages import CLOSE_CODES, Error, ErrorCode

_SHOWN = 500
"""Characters of either end of a text."""


def printable(text: str) -> str:
    """Return what a client said in a form for the log: on one line, and without its middle if it is long."""
    shown = text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}…{text[-_SHOWN:]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


class RefusalError(Exception):
    """Something that the server refuses; `allowed` lists the possible values or names if there is a list.

    `str()` gives a form for the log.
    """

    def __init__(self, code: ErrorCode, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(printable(message))
        self.code = code
        self.message = message
        self.allowed = allowed

    @property
    def error(self) -> Error:
        """The message for the client."""
        return Error(self.code, self.message, self.allowed)

    @property
    def explained(self) -> str:
        """The message and what is allowed, for protocols whose errors are one text."""
        return f"{self.message}; allowed: {', '.join(self.allowed)}" if self.allowed else self.message

    @property
    def close_code(self) -> int:
        """How the connection is closed after it."""
        return CLOSE_CODES[self.code]

    @property
    def close_reason(self) -> str:
        """The reason for the close frame, which holds 123 bytes of UTF-8."""
        return f"{self.code}: {self.message}".encode()[:123].decode(errors="ignore")


INTERNAL = RefusalError("internal", "internal error; the server's log says more")
"""What a client is told of a bug."""
