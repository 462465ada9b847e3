"""Where frames of WebSockets end (RFC 6455, section 5.2)."""

from __future__ import annotations

_LONGEST_HEAD = 14
"""Bytes before the payload of a frame, at most."""


class Frames:
    """Tells where frames end in what comes in, without looking at anything but their lengths."""

    def __init__(self) -> None:
        self._head = b""  # of a frame of which more has to come before its length is known
        self._left = 0  # bytes that the frame still has, the length of which is known

    def next(self, unread: bytearray) -> int:
        """Return how many bytes are of one frame, or of what is there of it; the next call is for those behind them."""
        if not self._left:
            known = len(self._head)
            self._head += unread[: _LONGEST_HEAD - known]
            length = _length(self._head)
            if length is not None:
                self._head, self._left = b"", length - known
        size = min(self._left or len(unread), len(unread))
        self._left = max(0, self._left - size)
        return size


def _length(head: bytes) -> int | None:
    """Return the bytes of a frame that begins like this, its head included; None while that is not known."""
    if len(head) < 2:
        return None
    short, mask = head[1] & 0x7F, 4 * (head[1] >> 7)
    extended = {126: 2, 127: 8}.get(short, 0)
    if len(head) < 2 + extended:
        return None
    payload = int.from_bytes(head[2 : 2 + extended], "big") if extended else short
    return 2 + extended + mask + payload
