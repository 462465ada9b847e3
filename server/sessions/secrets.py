"""Tokens of short life, with which a page connects that must not know the server's token.

They hold the instant of their end, signed with the server's token: nobody has to remember them, and every server with
the same token knows them.
"""

from __future__ import annotations

import hmac
import secrets

_PREFIX = "ek_"


def make_secret(token: str, expires: int) -> str:
    """Return a token that is valid until `expires`, in seconds since 1970."""
    rest = f"{expires:x}_{secrets.token_hex(8)}"
    return f"{_PREFIX}{rest}_{_signature(rest, token)}"


def is_secret(given: str, token: str, now: float) -> bool:
    """Return whether a token was made with the server's token and has not expired."""
    rest, _, signature = given.removeprefix(_PREFIX).rpartition("_")
    if not given.startswith(_PREFIX) or not hmac.compare_digest(
        signature.encode(errors="surrogateescape"), _signature(rest, token).encode()
    ):
        return False
    return int(rest.partition("_")[0], 16) > now


def _signature(rest: str, token: str) -> str:
    return hmac.new(token.encode(), rest.encode(errors="surrogateescape"), "sha256").hexdigest()[:32]
