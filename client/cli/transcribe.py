"""`parastream transcribe`: recordings to transcripts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parastream.client.cli.backends import Backend, Outcome
from parastream.client.cli.interrupts import run_interruptible
from parastream.client.cli.progress import ProgressBars
from parastream.media.decoding import STANDARD_INPUT, display_name
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat, render, running_text
from parastream.server.transcripts.utterance import speaker_of


@dataclass(frozen=True)
class Form:
    """How transcripts are written."""

    format: TranscriptFormat
    style: SubtitleStyle

    @property
    def suffix(self) -> str:
        """Ending of their files."""
        return self.format.suffix


def run(files: Sequence[Path], backend: Backend, form: Form, output: Path | None) -> int:
    """Transcribe recordings, write the transcripts, and return the exit status: 1 if a recording failed in part.

    Raises:
        ParastreamError: nothing could be transcribed, for example because a model cannot be loaded.
        OSError: the directory of the transcripts cannot be made, or nobody reads them any more.
    """
    targets = None
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        targets = [output / (("stdin" if file == STANDARD_INPUT else file.stem) + form.suffix) for file in files]
    if (status := prepare(backend)) is not None:
        return status
    try:
        writer = Writer(files, form, targets)
        status = run_interruptible(transcribe(files, backend, writer))
    finally:
        backend.close()
    return status or (1 if writer.failed else 0)


def prepare(backend: Backend) -> int | None:
    """Prepare a backend; return the exit status if a signal breaks that off."""
    try:
        backend.prepare()
    except BaseException as error:
        backend.close()
        if not isinstance(error, KeyboardInterrupt):
            raise
        return 128 + signal.SIGINT
    return None


async def transcribe(files: Sequence[Path], backend: Backend, writer: Writer) -> int:
    """Transcribe recordings, hand the outcomes to the writer as they come, and return 0."""
    with ProgressBars(files) as bars:
        try:
            async with contextlib.aclosing(backend.outcomes(files, bars)) as outcomes:
                async for outcome in outcomes:
                    with bars.hidden():
                        writer.take(outcome)
                    bars.finish(outcome.index)
        finally:  # after Ctrl-C, too
            with bars.hidden():
                writer.finish()
    return 0


class Writer:
    """Writes transcripts and errors: to the standard output in the order of the recordings, to files at once."""

    def __init__(self, files: Sequence[Path], form: Form, targets: Sequence[Path] | None) -> None:
        """Write to `targets`, one for each of `files`, or else to the standard output."""
        self._files = files
        self._form = form.format
        self._targets = targets
        self._style = form.style
        self._waiting: dict[int, Outcome] = {}
        self._next = 0
        self.written = 0
        """Transcripts."""
        self.failed: set[int] = set()
        """Recordings with which anything went wrong."""

    def take(self, outcome: Outcome) -> None:
        """Write an outcome, or keep it until those before it have come."""
        self._waiting[outcome.index] = outcome
        if self._targets is not None:
            self.finish()
        while self._next in self._waiting:
            self._write(self._waiting.pop(self._next))
            self._next += 1

    def finish(self) -> None:
        """Write what waits for others, which may never come."""
        for index in sorted(self._waiting):
            self._write(self._waiting.pop(index))

    def _write(self, outcome: Outcome) -> None:
        file = self._files[outcome.index]
        if outcome.error is not None:
            self._report(outcome.index, outcome.error)
        if outcome.utterances is None:
            return
        try:
            if self._targets is None:
                self._print(self._text(outcome, file), display_name(file))
            else:
                self._save(self._text(outcome, file), self._targets[outcome.index])
            self.written += 1
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self._report(outcome.index, error)

    def _text(self, outcome: Outcome, file: Path) -> str:
        assert outcome.utterances is not None
        if self._form is TranscriptFormat.TEXT and not any(map(speaker_of, outcome.utterances)):
            return running_text(outcome.utterances)
        error = _described(file, outcome.error) if outcome.error is not None else ""
        return render(outcome.utterances, self._form, file=str(file), error=error, style=self._style)

    def _save(self, text: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever finds a transcript finds a whole one. Others may be at the same one, on another machine.
        part = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}")
        try:
            # A file's name may hold bytes that are not UTF-8: as \udcxx they are valid in JSON.
            part.write_text(text, "utf-8", errors="backslashreplace")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _print(self, text: str, name: str) -> None:
        if len(self._files) > 1 and self._form is TranscriptFormat.TEXT:
            # Speakers have lines of their own.
            text = "".join(f"{name}: {line}\n" for line in text.splitlines())
        try:
            text.encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            if self._form is not TranscriptFormat.JSONL:
                print(text, end="", flush=True)
                raise OSError(
                    f"the terminal shows {sys.stdout.encoding} only, so that some of the text is escaped; "
                    "--output writes files in UTF-8"
                ) from None
            text = "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in text)
        print(text, end="", flush=True)

    def _report(self, index: int, error: Exception) -> None:
        self.failed.add(index)
        print(f"error: {_described(self._files[index], error)}", file=sys.stderr, flush=True)


def _described(file: Path, error: Exception) -> str:
    name = display_name(file)
    message = " ".join(str(error).splitlines()) or type(error).__name__
    return message if message.startswith(name) else f"{name}: {message}"
