"""Progress of `parastream transcribe`, drawn on a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from parastream.client.sources import FileSource, SourceError
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text


class _SpeedColumn(ProgressColumn):
    """Seconds of audio transcribed per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}×" if task.speed else "", style="cyan")


class ProgressBars:
    """On a terminal: a bar for each recording that is being transcribed, and one for all of them together."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
            _SpeedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        durations = list(map(_duration, files))
        self._all = self._progress.add_task(
            f"{len(files)} recordings", total=sum(durations) or None, visible=len(files) > 1
        )
        self._rows = [
            self._progress.add_task(file.name, total=duration or None, start=False, visible=False)
            for file, duration in zip(files, durations, strict=True)
        ]

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, index: int, seconds: float) -> None:
        """Note that `seconds` more of the recording with this index have been transcribed."""
        row = self._rows[index]
        if not self._progress.tasks[row].started:
            self._progress.start_task(row)
            self._progress.update(row, visible=True)
        self._progress.advance(row, seconds)
        self._progress.advance(self._all, seconds)

    def finish(self, index: int) -> None:
        """Remove the bar of a recording whose outcome is known."""
        self._progress.update(self._rows[index], visible=False)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bars while lines are printed, perhaps on the same terminal."""
        self._progress.stop()
        yield
        self._progress.start()


def _duration(file: Path) -> float:
    try:
        return FileSource(file).duration
    except SourceError:
        return 0.0
