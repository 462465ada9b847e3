"""Saves the transcript of every session while it lasts, on a thread of its own: a disk may take its time."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from parastream.server.sessions.transcription import Transcription
from parastream.server.transcripts.journal import Journal, journal_name
from parastream.server.wire.messages import Event, Flushed, Partial

logger = logging.getLogger("parastream.server")


class Saving:
    """Keeps a journal of each session in one directory."""

    def __init__(self, directory: Path) -> None:
        """Raises `OSError` when the directory cannot be made."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._writer = ThreadPoolExecutor(1, "parastream-saving")

    def listen(self, transcription: Transcription) -> None:
        """Save what a session that begins now hears."""
        name = journal_name(datetime.now(UTC), transcription.name)
        named = transcription.labels
        several = bool(transcription.start.labels) or len(named) > 1
        labels = tuple(named.get(channel, "") for channel in range(max(named) + 1)) if several else ()
        opening = self._writer.submit(self._open, name, labels)

        def listen(event: Event) -> None:
            if not isinstance(event, Partial | Flushed):  # a client may ask for any number of the latter
                self._submit(add, event)

        def add(event: Event) -> None:
            journal = opening.result()
            if journal is not None:
                journal.add(event)

        def close() -> None:
            journal = opening.result()
            if journal is not None:
                journal.close()

        transcription.listeners.append(listen)
        transcription.on_ended.append(lambda: self._submit(close))

    def _submit(self, *call: object) -> None:
        self._writer.submit(*call)  # type: ignore[arg-type]

    def _open(self, name: str, labels: tuple[str, ...]) -> Journal | None:
        try:
            return Journal(self._directory, name, labels=labels)
        except OSError as error:
            logger.warning("%s/%s: the session is not saved: %s", self._directory, name, error.strerror or error)
            return None

    def close(self) -> None:
        """Wait until everything has been written."""
        self._writer.shutdown()
