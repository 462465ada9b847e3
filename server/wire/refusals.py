"""The one exception that becomes an `error` message: it says what the server refuses, and what is allowed."""

from __future__ import annotations

import re
import reprlib

from parastream.server.wire.messages import CLOSE_CODES, Error, ErrorCode

_SHOWN = 250
"""Characters of either end of a text."""
_QUOTED = 80
"""Characters of a client's value in an error."""
_repr = reprlib.Repr()
_repr.maxlevel = 2


def printable(text: str) -> str:
    """Return what a client said in a form for the log: on one line, and without its middle if it is long."""
    shown = text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}…{text[-_SHOWN:]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def quoted(value: object) -> str:
    """Return a client's value in a form for an error: never more than a line of it, whatever it is."""
    return repr(shortened(value)) if isinstance(value, str) else shortened(_repr.repr(value))


def shortened_quotes(message: str) -> str:
    """Return a message of msgspec with the long names in it cut; it puts those of the client's between backticks."""
    return re.sub(f"`([^`]{{{_QUOTED},}})`", lambda found: f"`{shortened(found[1])}`", message)


def shortened(text: str) -> str:
    """Return a client's text in a form for an error, without quotation marks."""
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


class RefusalError(Exception):
    """Something that the server refuses; `allowed` lists the possible values or names if there is a list.

    The message is one line that can be encoded and logged, whatever the client has put into it.
    """

    def __init__(self, code: ErrorCode, message: str, allowed: tuple[str, ...] = ()) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.code = code
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
