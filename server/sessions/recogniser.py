"""What recognises: an engine in this process, or several in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from parastream.model.hotwords import Hotwords
from parastream.server.config import ServerConfig
from parastream.streaming import EngineConfig, EngineStats, SessionConfig
from parastream.streaming.events import Event
from parastream.streaming.runner import Listener


def engine_config(config: ServerConfig) -> EngineConfig:
    """Return the settings of an engine that a server uses."""
    # The server turns clients away; the engine only has to have room for sessions it has not yet let go of.
    return EngineConfig(
        max_sessions=2 * config.max_sessions,
        target_utilisation=config.target_utilisation,
        always_better=config.ears == "fixed",
        refine=config.refine == "auto",
    )


class RecogniserStream(Protocol):
    """One session; see `parastream.streaming.Stream`."""

    def send(self, data: bytes) -> None:
        """Hand over audio bytes; from here on they are not lost. Raises `EngineError`."""

    def flush(self) -> None:
        """End the open utterance with the audio handed over so far."""

    def expect(self, hotwords: Hotwords) -> None:
        """Listen for other hotwords from the end of the audio handed over so far."""

    def end(self) -> None:
        """End the input: finals and `SessionEnded` follow."""

    def cancel(self) -> None:
        """Drop the session; no more events follow."""


class Recogniser(Protocol):
    """Opens sessions; see `parastream.streaming.Engine`."""

    @property
    def ready(self) -> bool:
        """Whether sessions can be opened."""
        ...

    @property
    def model(self) -> str:
        """Name of the model that is served. Raises `EngineError` before it is loaded."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that finals may be in, as ISO 639 codes. Raises `EngineError` before the models are loaded."""
        ...

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The models that listen. Raises `EngineError` before they are loaded."""
        ...

    def check_running(self) -> None:
        """Raise `EngineError` if no session can be served any more."""

    def open(self, config: SessionConfig, on_events: Callable[[list[Event]], None], name: str = "") -> RecogniserStream:
        """Begin a session, whose events go to `on_events` on any thread. Raises what `Engine.open` raises."""
        ...

    def stats(self) -> EngineStats:
        """Return a snapshot."""
        ...
