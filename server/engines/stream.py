"""One session in the front, wherever its engine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from parastream.model.hotwords import Hotwords
from parastream.streaming import SessionConfig
from parastream.streaming.events import Event
from parastream.streaming.replay import Continuity, Replay

_MOST_MOVES = 3
"""A session on whose engine the process ended so often, without any progress in between, is taken for the cause."""


class Worker(Protocol):
    """An engine's process, as a stream sees it."""

    def open(self, stream: EngineStream, replay: Replay) -> None:
        """Begin the stream."""

    def audio(self, stream: EngineStream, data: bytes) -> None:
        """Hand over audio."""

    def flush(self, stream: EngineStream) -> None:
        """End the open utterance."""

    def expect(self, stream: EngineStream, hotwords: Hotwords) -> None:
        """Listen for other hotwords."""

    def end(self, stream: EngineStream) -> None:
        """End the input."""

    def leave(self, stream: EngineStream) -> None:
        """Let go of a stream; the engine drops it unless it is over."""


class EngineStream:
    """Sends audio to an engine's process; if that ends, to another, which goes on where the first one was."""

    def __init__(
        self,
        config: SessionConfig,
        on_events: Callable[[list[Event]], None],
        name: str,
        on_left: Callable[[EngineStream], None],
    ) -> None:
        """See `Engine.open`; `on_left` is called when the stream is over."""
        self.config = config
        self.name = name
        self.receiving = True
        """Whether more audio may come."""
        self._tell = on_events
        self._on_left = on_left
        self._continuity = Continuity(config.format, config.endpoint)
        self._worker: Worker | None = None
        self._moves = 0
        self._settled = 0

    def send(self, data: bytes) -> None:
        """Hand over audio bytes; from here on they are not lost. Ignored after `end`."""
        if self.receiving:
            self._continuity.send(data)
            if self._worker is not None:
                self._worker.audio(self, data)

    def flush(self) -> None:
        """End the open utterance with the audio handed over so far. Ignored after `end`."""
        if self.receiving:
            self._continuity.flush()
            if self._worker is not None:
                self._worker.flush(self)

    def expect(self, hotwords: Hotwords) -> None:
        """Listen for other hotwords from the end of the audio handed over so far. Ignored after `end`.

        An engine that takes over listens for them in all that it hears again.
        """
        if self.receiving:
            self.config = replace(self.config, hotwords=hotwords)
            if self._worker is not None:
                self._worker.expect(self, hotwords)

    def end(self) -> None:
        """End the input: `Final` events and `SessionEnded` follow."""
        if self.receiving:
            self.receiving = False
            if self._worker is not None:
                self._worker.end(self)

    def cancel(self) -> None:
        """Drop the session; no more events follow."""
        self.receiving = False
        self._leave()

    def work_on(self, worker: Worker) -> None:
        """Go on with an engine, which hears again what it has to know."""
        self._worker = worker
        replay, pieces = self._continuity.replay()
        worker.open(self, replay)
        for piece in pieces:
            if piece is None:
                worker.flush(self)
            else:
                worker.audio(self, piece)
        if not self.receiving:
            worker.end(self)

    def lose_worker(self) -> bool:
        """Note that the engine's process has ended; return whether the session can go on with another."""
        self._worker = None
        if self._settled < self._continuity.settled:
            self._settled, self._moves = self._continuity.settled, 0
        self._moves += 1
        if self._moves > _MOST_MOVES:
            self.fail("internal_error", "the recogniser has failed")
            return False
        return True

    def receive(self, events: Sequence[Event]) -> None:
        """Take events of the engine."""
        told = self._continuity.receive(events)
        if told:
            self._tell(told)
        if self._continuity.ended:
            self._leave()

    def fail(self, code: str, message: str) -> None:
        """End the session, because of what went wrong."""
        self.receiving = False
        self._tell(self._continuity.fail(code, message))
        self._leave()

    def _leave(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.leave(self)
        self._on_left(self)
