"""Saves the transcript of every session while it lasts, on a thread of its own: a disk may take its time."""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from parastream.server.sessions.transcription import Transcription
from parastream.server.transcripts.journal import Journal, journal_name
from parastream.server.wire.messages import Event, Flushed, Partial

logger = logging.getLogger("parastream.server")

_MOST_KEPT = 10_000
"""Events of a session that are kept while its files cannot be made."""


class Saving:
    """Keeps a journal of each session in one directory."""

    def __init__(self, directory: Path) -> None:
        """Make the directory, and a file in it, to see whether that is possible.

        Raises:
            OSError: It is not.
        """
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"parastream")
        self._directory = directory
        self._writer = ThreadPoolExecutor(1, "parastream-saving")

    def listen(self, transcription: Transcription) -> None:
        """Save what a session that begins now hears."""
        named = transcription.labels
        several = bool(transcription.start.labels) or len(named) > 1
        labels = tuple(named.get(channel, "") for channel in range(max(named) + 1)) if several else ()
        saved = _Saved(self._directory, transcription.name, labels)
        self._writer.submit(saved.open)

        def listen(event: Event) -> None:
            if not isinstance(event, Partial | Flushed):  # a client may ask for any number of the latter
                self._writer.submit(saved.add, event)

        transcription.listeners.append(listen)

        def close() -> None:
            self._writer.submit(saved.close)

        transcription.on_ended.append(close)

    def close(self) -> None:
        """Wait until everything has been written."""
        self._writer.shutdown()


class _Saved:
    """The journal of one session, for the writer thread.

    If its files cannot be made, because the disk is full for example, that is tried again with each event, and the
    events are kept in the meantime.
    """

    def __init__(self, directory: Path, session: str, labels: tuple[str, ...]) -> None:
        self._directory = directory
        self._session = session
        self._labels = labels
        self._started = datetime.now(UTC)
        self._journal: Journal | None = None
        self._kept: list[Event] = []
        self._failed = False

    def open(self) -> None:
        """Make the files, and write what has been kept."""
        name = journal_name(self._started, self._session)
        try:
            self._journal = Journal(self._directory, name, labels=self._labels, started=self._started)
        except OSError as error:
            if not self._failed:
                self._failed = True
                reason = error.strerror or error
                logger.warning("%s/%s: the session cannot be saved for now: %s", self._directory, name, reason)
            return
        for event in self._kept:
            self._journal.add(event)
        self._kept.clear()

    def add(self, event: Event) -> None:
        """Save an event."""
        if self._journal is None:
            self._kept.append(event)
            del self._kept[:-_MOST_KEPT]
            self.open()
        else:
            self._journal.add(event)

    def close(self) -> None:
        """Write what is left, if that is possible by now."""
        if self._journal is None:
            self.open()
        if self._journal is None:
            logger.error("session %.8s: its transcript could not be saved", self._session)
        else:
            self._journal.close()
