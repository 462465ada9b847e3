"""The way from the inference thread to the event loop."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from parastream.streaming.events import Event

logger = logging.getLogger("parastream.server")

Post = Callable[[Callable[[], None]], Any]
"""Has a function called on the thread that receives. Raises `RuntimeError` when that is gone."""
Receive = Callable[[Sequence[Event]], None]


class Mailbox:
    """Takes events on one thread and hands them out on another, which is woken once for all that have come."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._letters: deque[tuple[Receive, Sequence[Event]]] = deque()
        self._posted = False

    def put(self, receive: Receive, events: Sequence[Event]) -> None:
        """Have `receive` called with `events`, in order."""
        self._letters.append((receive, events))
        if not self._posted:  # otherwise whoever was woken has yet to look
            self._posted = True
            with contextlib.suppress(RuntimeError):  # the loop has closed, so nobody listens any more
                self._post(self._deliver)

    def _deliver(self) -> None:
        self._posted = False  # before looking: what comes from now on posts again
        while self._letters:
            receive, events = self._letters.popleft()
            try:
                receive(events)
            except Exception:
                logger.exception("an event could not be dealt with")
