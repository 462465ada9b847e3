"""`parastream transcribe`: recordings to transcripts."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from parastream.client.cli.backends import Backend, Outcome
from parastream.client.cli.interrupts import run_interruptible
from parastream.client.cli.progress import ProgressBars
from parastream.media.decoding import STANDARD_INPUT, display_name
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat, render, running_text
from parastream.server.transcripts.utterance import speaker_of


def run(
    files: Sequence[Path], backend: Backend, form: TranscriptFormat, output: Path | None, style: SubtitleStyle
) -> int:
    """Transcribe recordings, write the transcripts, and return the exit status: 1 if a recording failed in part.

    Raises:
        ParastreamError: nothing could be transcribed, for example because a model cannot be loaded.
        OSError: the directory of the transcripts cannot be made, or nobody reads them any more.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    try:
        backend.prepare()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return run_interruptible(_run(files, backend, _Writer(files, form, output, style)))


async def _run(files: Sequence[Path], backend: Backend, writer: _Writer) -> int:
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
    return 1 if writer.failed else 0


class _Writer:
    """Writes transcripts and errors: to the standard output in the order of the recordings, to files at once."""

    def __init__(
        self, files: Sequence[Path], form: TranscriptFormat, output: Path | None, style: SubtitleStyle
    ) -> None:
        self._files = files
        self._form = form
        self._output = output
        self._style = style
        self._waiting: dict[int, Outcome] = {}
        self._next = 0
        self.failed = False
        """Whether anything went wrong so far."""

    def take(self, outcome: Outcome) -> None:
        """Write an outcome, or keep it until those before it have come."""
        self._waiting[outcome.index] = outcome
        if self._output is not None:
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
            self._report(file, outcome.error)
        if outcome.utterances is None:
            return
        try:
            if self._output is None:
                self._print(self._text(outcome, file), display_name(file))
            else:
                stem = "stdin" if file == STANDARD_INPUT else file.stem
                self._save(self._text(outcome, file), self._output / (stem + self._form.suffix))
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self._report(file, error)

    def _text(self, outcome: Outcome, file: Path) -> str:
        assert outcome.utterances is not None
        if self._form is TranscriptFormat.TEXT and not any(map(speaker_of, outcome.utterances)):
            return running_text(outcome.utterances)
        error = _described(file, outcome.error) if outcome.error is not None else ""
        return render(outcome.utterances, self._form, file=str(file), error=error, style=self._style)

    def _save(self, text: str, path: Path) -> None:
        # A file's name may hold bytes that are not UTF-8: as \udcxx they are valid in JSON.
        path.write_text(text, "utf-8", errors="backslashreplace")

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

    def _report(self, file: Path, error: Exception) -> None:
        self.failed = True
        print(f"error: {_described(file, error)}", file=sys.stderr, flush=True)


def _described(file: Path, error: Exception) -> str:
    name = display_name(file)
    message = " ".join(str(error).splitlines()) or type(error).__name__
    return message if message.startswith(name) else f"{name}: {message}"
