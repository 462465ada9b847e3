"""One session's place in the engine: audio goes in on any thread, events come out on the engine's."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from parastream.model.hotwords import Hotwords
from parastream.streaming import schedule
from parastream.streaming.events import Event
from parastream.streaming.memory import COLLECTED
from parastream.streaming.observer import Observers
from parastream.streaming.schedule import Pace
from parastream.streaming.session import Session

if TYPE_CHECKING:
    from parastream.streaming.engine import Engine

_Input = bytes | Hotwords | None
"""What clients send: audio, hotwords, or a flush."""

logger = logging.getLogger("parastream.engine")


class Stream:
    """One session's thread-safe handle."""

    def __init__(
        self,
        engine: Engine,
        session: Session,
        on_events: Callable[[list[Event]], None],
        observers: Observers,
        *,
        behind: float = 0.0,
    ) -> None:
        """Hand out a session; the first `behind` seconds of its audio are late, not ahead of real time."""
        self._engine = engine
        self._observers = observers
        self.session = session
        self._on_events = on_events
        self._pace = Pace(time.monotonic(), entitled=session.config.entitled)
        self._inbox: deque[tuple[_Input, float]] = deque()  # with arrivals
        self._inbox_bytes = 0
        self._fresh_bytes = 0  # of them, those that came since the last look
        self._fresh_since = 0.0
        self._ending = False
        self._end_asked = 0.0
        self._ended = False  # the session has been told
        self._cancelled = False
        self._lag = 0.0
        audio = session.config.format
        self._bytes_per_second: int = audio.frame_bytes * audio.rate
        self._late_bytes = int(behind * self._bytes_per_second)

    def send(self, data: bytes) -> None:
        """Hand over audio bytes; from here on they are not lost. Ignored after `end`.

        The engine never refuses audio. A caller that can send faster than real time has to bound what waits: it holds
        back while `Progress` is too far behind what it has sent.

        Raises:
            EngineError: The engine has stopped.
        """
        with self._engine.changed:
            self._engine.check_running()
            if not self._ending:
                now = time.monotonic()
                self._inbox.append((data, now))
                self._inbox_bytes += len(data)
                late = min(self._late_bytes, len(data))
                self._late_bytes -= late
                if not self._fresh_bytes:
                    self._fresh_since = now
                self._fresh_bytes += len(data) - late
                self._engine.touch(self)

    def flush(self) -> None:
        """End the open utterance with the audio handed over so far: its `Final` and `Flushed` follow.

        Ignored after `end`.
        """
        with self._engine.changed:
            if not self._ending:
                self._inbox.append((None, time.monotonic()))
                self._engine.touch(self)

    def expect(self, hotwords: Hotwords) -> None:
        """Listen for other hotwords from the end of the audio handed over so far. Ignored after `end`."""
        with self._engine.changed:
            if not self._ending:
                self._inbox.append((hotwords, time.monotonic()))
                self._engine.touch(self)

    def end(self) -> None:
        """End the input: `Final` events and `SessionEnded` follow."""
        with self._engine.changed:
            if not self._ending:
                self._ending, self._end_asked = True, time.monotonic()
            self._engine.touch(self)

    def cancel(self) -> None:
        """Drop the session; no more events follow."""
        with self._engine.changed:
            self._cancelled = True
            self._engine.touch(self)

    @property
    def backlog(self) -> float:
        """Seconds of audio handed over but not yet looked at."""
        return self._lag + self._inbox_bytes / self._bytes_per_second

    @property
    def receiving(self) -> bool:
        """Whether more audio may come."""
        return not (self._ending or self._cancelled)

    # The rest is for the engine's thread.

    def collect(self) -> float:
        """Move what has come in into the session, a second of it at most, and none if that has enough to do already.

        Returns:
            How many seconds.
        """
        received: list[tuple[_Input, float]] = []
        with self._engine.changed:
            if self._fresh_bytes:
                self._pace.receive(self._fresh_bytes / self._bytes_per_second, self._fresh_since)
                self._fresh_bytes = 0
            self._lag = self.session.backlog
            if self._lag >= COLLECTED:
                return 0.0
            room = int(COLLECTED * self._bytes_per_second)
            while self._inbox and room > 0:
                data, arrived = self._inbox.popleft()
                if isinstance(data, bytes):
                    if len(data) > room:
                        self._inbox.appendleft((data[room:], arrived))
                        data = data[:room]
                    room -= len(data)
                received.append((data, arrived))
            size = sum(len(data) for data, _ in received if isinstance(data, bytes))
            seconds = size / self._bytes_per_second
            self._inbox_bytes -= size
            self._lag += seconds
            finished = self._ending and not self._inbox
            ending, self._ended = finished and not self._ended, finished
        for data, arrived in received:
            match data:
                case None:
                    self.session.receive_flush(arrived)
                case bytes():
                    self.session.receive_audio(data, arrived)
                case _:
                    self.session.receive_hotwords(data)
        if ending:
            self.session.receive_end(self._end_asked)
        return seconds

    @property
    def due(self) -> float:
        """Since when the next work of the session waits; in the future for what comes ahead of real time."""
        return self._pace.due(self.backlog)

    def urgent(self, now: float) -> bool:
        """Whether that work, or what comes next, is not ahead of real time."""
        return self.due <= now + schedule.BURST

    def publish(self, now: float) -> bool:
        """Tell what has happened, and return whether the session is over."""
        try:
            events = self.session.events()
        except Exception:
            logger.exception("session %s failed", self.session.name)
            self.session.fail("the recogniser could not deal with this audio")
            events = self.session.events()
        self._lag = self.session.backlog
        if self.backlog < COLLECTED:
            self._pace.catch_up(now)
        if events and not self._cancelled:
            try:
                self._on_events(events)
            except Exception:
                logger.exception("session %s: its listener failed, so the session is dropped", self.session.name or "-")
                self._cancelled = True
        if not self._cancelled:
            for timing in self.session.timings:
                self._observers.timing(timing)
        return self._cancelled or self.session.ended
