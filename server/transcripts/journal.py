"""Save a session while it lasts: its events as JSON lines, and its transcript as text, SRT and WebVTT.

However the process ends, each file holds everything that was final by then. The `.jsonl` file is authoritative: each
event is on the disk (fsync) before `Journal.add` returns. The other files follow it, and can be made from it again
(`read_journal`, `parastream subtitles`).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from parastream.server.transcripts.cues import Cue, SubtitleStyle, lay_out, time_cues
from parastream.server.transcripts.formats import VTT_HEADER, TranscriptFormat, srt_entry, text_line, vtt_entry
from parastream.server.transcripts.labels import clean_label
from parastream.server.transcripts.utterance import AttributedUtterance, spoken
from parastream.server.wire.messages import (
    Acknowledged,
    Final,
    Partial,
    Ready,
    ServerMessage,
    Stats,
    decode_server_message,
    encode,
)

HORIZON = 300.0
"""Seconds before the newest utterance from which on the end of a file may change. An older utterance of another channel
belongs into the settled part, so the files are written anew."""
MOST_UNWRITTEN = 16 << 20
"""Bytes of events to keep while the disk does not take them."""

_DERIVED = (TranscriptFormat.TEXT, TranscriptFormat.SRT, TranscriptFormat.VTT)
_TIMES = len("00:00:00,000")  # what differs when a cue turns out to end sooner

logger = logging.getLogger(__name__)


class JournalError(Exception):
    """A file is not the journal of a session, or it is damaged."""


class SessionHeader(msgspec.Struct, frozen=True, tag_field="type", tag="session"):
    """The first line of a journal."""

    started: datetime
    """UTC."""
    labels: tuple[str, ...] = ()
    """Names of the speakers, one for each channel."""


@dataclass(frozen=True)
class SavedSession:
    """The content of a journal."""

    started: datetime
    """UTC."""
    labels: tuple[str, ...]
    utterances: tuple[AttributedUtterance, ...]
    """By start time, without those in which nothing was said."""


def journal_name(started: datetime, session: str) -> str:
    """Return the name of a session's files: its time in UTC, and too little of its id to resume it."""
    moment = started.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    return f"{moment}-{re.sub('[^A-Za-z0-9_-]', '', session)[:6]}"


def read_journal(path: Path, labels: Sequence[str] = ()) -> SavedSession:
    """Read a journal, whose last line may be cut off.

    Args:
        path: The `.jsonl` file.
        labels: Names that replace the saved ones.

    Raises:
        JournalError: The file is no journal, or a line before the last is damaged.
        OSError: The file cannot be read.
    """
    lines = path.read_bytes().split(b"\n")
    try:
        header = msgspec.json.decode(lines[0], type=SessionHeader)
    except msgspec.DecodeError as error:
        raise JournalError(f"{path}: not the journal of a session: {error}") from error
    names = tuple(map(clean_label, (*labels, *header.labels[len(labels) :])))
    utterances = []
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        try:
            message = decode_server_message(line)
        except msgspec.DecodeError as error:
            if number == len(lines):  # no line break after it
                break
            raise JournalError(f"{path}: line {number} is damaged: {error}") from error
        if isinstance(message, Final) and message.text.strip():
            utterances.append(spoken(message, message.channel, names))
    return SavedSession(header.started, names, tuple(sorted(utterances, key=lambda utterance: utterance.start)))


class Journal:
    """The files of one session. A context manager, for one thread at a time.

    When the disk fails, the journal reports it once and tries again with each event. Nothing is lost unless more than
    `MOST_UNWRITTEN` bytes accumulate.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        labels: Sequence[str] = (),
        started: datetime | None = None,
        style: SubtitleStyle = SubtitleStyle(),
        report: Callable[[str], None] = logger.warning,
    ) -> None:
        """Make the directory and the files: NAME.jsonl, .txt, .srt and .vtt, or NAME-2 and so on if these exist.

        Args:
            directory: Where to make the files.
            name: See `journal_name`.
            labels: Names of the speakers, one for each channel; empty for lines without names.
            started: When the session began; now if left out.
            style: Look of the subtitles.
            report: Receives a message when the disk fails later.

        Raises:
            OSError: The files cannot be made.
        """
        self._labels = tuple(map(clean_label, labels))
        self._style = style
        self._report = report
        directory.mkdir(parents=True, exist_ok=True)
        self._files: dict[TranscriptFormat, _Tail] = {}
        self.path, self._events = _new_file(directory, name)
        """The `.jsonl`."""
        try:
            for form in _DERIVED:
                head = VTT_HEADER if form is TranscriptFormat.VTT else ""
                self._files[form] = _Tail(self.path.with_suffix(form.suffix), head.encode())
            _sync_directory(directory)
        except OSError:
            self._close_files()
            for form in (TranscriptFormat.JSONL, *self._files):
                self.path.with_suffix(form.suffix).unlink(missing_ok=True)
            raise
        self._unwritten = b""
        self._spoken: list[AttributedUtterance] = []
        self._cues: list[Cue] = []  # as `lay_out` gives them
        self._settled_cues = 0
        self._horizon = 0.0
        self._stale = False  # whether the other files lack something that the journal has
        self._failed = False
        self._closed = False
        self._add(msgspec.json.encode(SessionHeader(started or datetime.now(UTC), self._labels)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, message: ServerMessage) -> None:
        """Save a message if it is an event other than a partial. A failing disk raises nothing here: see `Journal`."""
        if not isinstance(message, Partial | Ready | Acknowledged | Stats):
            self._add(encode(message), message if isinstance(message, Final) and message.text.strip() else None)

    def close(self) -> None:
        """Write everything to the disk and close the files; nothing can be added afterwards."""
        if self._closed:
            return
        self._add(b"")
        self._closed = True
        self._close_files()

    def _close_files(self) -> None:
        os.close(self._events)
        for file in self._files.values():
            file.close()

    def _add(self, line: bytes, final: Final | None = None) -> None:
        if self._closed:
            return
        try:
            try:
                self._write_events()
            finally:
                if line and len(self._unwritten) <= MOST_UNWRITTEN:
                    self._unwritten += line + b"\n"
            self._write_events()
            os.fsync(self._events)
            if self._stale and (final is not None or not line):
                self._show_again()
            elif final is not None:
                self._show(spoken(final, final.channel, self._labels))
        except (OSError, JournalError) as error:
            self._stale = True
            if not self._failed:
                self._failed = True
                reason = getattr(error, "strerror", None) or error
                self._report(f"{self.path}: the session cannot be saved for now: {reason}")

    def _write_events(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[os.write(self._events, self._unwritten) :]

    def _show(self, utterance: AttributedUtterance) -> None:
        """Write an utterance in its place."""
        if utterance.start < self._horizon:
            self._show_again()
            return
        self._spoken.append(utterance)
        self._cues += lay_out(utterance, self._style)
        self._write()

    def _show_again(self) -> None:
        """Write everything anew from the journal."""
        self._stale = True  # until it is done
        self._spoken = list(read_journal(self.path).utterances)
        self._cues = [cue for utterance in self._spoken for cue in lay_out(utterance, self._style)]
        self._settled_cues = 0
        for file in self._files.values():
            file.forget()
        self._write()
        self._stale = False

    def _write(self) -> None:
        self._spoken.sort(key=lambda utterance: utterance.start)
        self._cues.sort(key=lambda cue: cue.start)
        timed = time_cues(self._cues, self._style)
        newest = self._spoken[-1].start if self._spoken else 0.0
        self._horizon = max(0.0, newest - HORIZON)
        # Nothing that is still to come can change these.
        utterances = _leading(utterance.end < self._horizon for utterance in self._spoken)
        cues = _leading(cue.end + self._style.min_pause < self._horizon for cue in timed)
        self._files[TranscriptFormat.TEXT].show(map(text_line, self._spoken), utterances)
        numbered = enumerate(timed, self._settled_cues + 1)
        self._files[TranscriptFormat.SRT].show((srt_entry(number, cue) for number, cue in numbered), cues)
        self._files[TranscriptFormat.VTT].show(map(vtt_entry, timed), cues)
        del self._spoken[:utterances], self._cues[:cues]
        self._settled_cues += cues


class _Tail:
    """A file of entries, of which the last ones may still change."""

    def __init__(self, path: Path, head: bytes) -> None:
        """Make the file, beginning with `head`.

        Raises:
            OSError: The file exists or cannot be made.
        """
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._head = len(head)
        self._settled = len(head)  # bytes that do not change any more
        self._shown: bytes | None = b""  # what follows them; None: anything
        try:
            _write_at(self._file, head, 0)
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def show(self, entries: Iterable[str], settled: int) -> None:
        """Replace the entries that are not settled with `entries`, and settle the first `settled` of these.

        Raises:
            OSError: The file cannot be written.
        """
        encoded = [entry.encode() for entry in entries]
        tail = b"".join(encoded)
        shown, self._shown = self._shown, None
        changed = None if shown is None else _changed(shown, tail)
        if shown is None or changed is None:
            self._replace(tail)
        else:
            for first, last in (changed, (len(shown), len(tail))):
                _write_at(self._file, tail[first:last], self._settled + first)
        done = sum(map(len, encoded[:settled]))
        self._settled += done
        self._shown = tail[done:]

    def forget(self) -> None:
        """Let the next call of `show` replace all entries."""
        self._settled = self._head
        self._shown = None

    def close(self) -> None:
        """Close the file. Errors have been raised while writing."""
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def _replace(self, tail: bytes) -> None:
        """Write another file and put it in the place of this one, in one step."""
        other = self._path.with_name(f"{self._path.name}.new")
        file = os.open(other, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            copied = 0
            while copied < self._settled:
                piece = os.pread(self._file, min(1 << 20, self._settled - copied), copied)
                if not piece:
                    raise OSError(errno.EIO, "was shortened by somebody else")
                _write_at(file, piece, copied)
                copied += len(piece)
            _write_at(file, tail, copied)
            os.fsync(file)
            os.replace(other, self._path)
        except OSError:
            os.close(file)
            other.unlink(missing_ok=True)
            raise
        os.close(self._file)
        self._file = file


def _changed(before: bytes, after: bytes) -> tuple[int, int] | None:
    """Return the range of `before` that differs in the longer `after`; None if it is longer than one time stamp."""
    if len(after) < len(before):
        return None
    differing = [index for index in range(len(before)) if before[index] != after[index]]
    if not differing:
        return 0, 0
    first, last = differing[0], differing[-1] + 1
    return (first, last) if last - first <= _TIMES else None


def _write_at(file: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def _new_file(directory: Path, name: str) -> tuple[Path, int]:
    """Make NAME.jsonl, or NAME-2.jsonl and so on if one of the session's files exists."""
    for number in itertools.count(1):
        path = directory / f"{name}{f'-{number}' if number > 1 else ''}.jsonl"
        if any(path.with_suffix(form.suffix).exists() for form in _DERIVED):
            continue
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        except FileExistsError:
            continue
    raise AssertionError("unreachable")


def _sync_directory(directory: Path) -> None:
    """Make the names of new files durable."""
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _leading(true: Iterable[bool]) -> int:
    """Count the leading true values."""
    return sum(1 for _ in itertools.takewhile(bool, true))
