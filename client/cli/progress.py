"""Progress of `parastream transcribe`, drawn on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from parastream.media.decoding import Recording, SourceError, display_name
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

_NUMBERS = 42
"""Columns that the numbers of a row take."""
_NARROWEST_BAR, _WIDEST_BAR = 10, 40  # columns
_SHORTEST_NAME = 8  # columns


class _SpeedColumn(ProgressColumn):
    """Seconds of audio transcribed per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}×" if task.speed else "", style="cyan")


class _SecondsColumn(ProgressColumn):
    """Seconds of audio transcribed, of all that there are if that is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:.0f} s" if task.total is None else f"{task.completed:.0f} of {task.total:.0f} s")


class ProgressBars:
    """On a terminal: a bar for each recording that is being transcribed, and one for all of them together."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        console = Console(stderr=True)
        room = max(0, console.width - _NUMBERS)
        bar = min(_WIDEST_BAR, max(_NARROWEST_BAR, room // 2))
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=bar),
            _SecondsColumn(),
            _SpeedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # Only a terminal is worth looking into all of the files for.
        durations = [_duration(file) if console.is_terminal else None for file in files]
        known = [duration for duration in durations if duration is not None]
        self._all = self._progress.add_task(
            f"{len(files)} recordings", total=sum(known) if len(known) == len(files) else None, visible=len(files) > 1
        )
        self._rows = [
            self._progress.add_task(
                shortened(display_name(Path(file.name)), room - bar), total=duration, start=False, visible=False
            )
            for file, duration in zip(files, durations, strict=True)
        ]

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, index: int, seconds: float, total: float | None) -> None:
        """Note that `seconds` more of the recording with this index have been transcribed, of `total` if known."""
        row = self._rows[index]
        if not self._progress.tasks[row].started:
            self._progress.start_task(row)
            self._progress.update(row, visible=True)
        self._progress.tasks[row].total = total
        self._progress.advance(row, seconds)
        self._progress.advance(self._all, seconds)
        everything = self._progress.tasks[self._all]
        if everything.total is not None and everything.completed > everything.total + 1:
            everything.total = None  # a recording was longer than its header says

    def note(self, text: str) -> None:
        """Print a line on stderr."""
        with self.hidden():
            print(text, file=sys.stderr, flush=True)

    def finish(self, index: int) -> None:
        """Remove the bar of a recording whose outcome is known."""
        self._progress.update(self._rows[index], visible=False)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bars while lines are printed, perhaps on the same terminal."""
        self._progress.stop()
        yield
        self._progress.start()


def shortened(name: str, width: int) -> str:
    """Return a name that fits into so many columns; its end says more than its middle."""
    width = max(_SHORTEST_NAME, width)
    if cell_len(name) <= width:
        return name
    end = name[-(width // 2) :]
    while cell_len(end) > width // 2:
        end = end[1:]
    return set_cell_size(name, width - cell_len(end) - 1).rstrip() + "…" + end


def _duration(file: Path) -> float | None:
    """Return the seconds of a recording by its header; None if that is unknown, or could only be read once."""
    try:
        if not file.is_file():
            return None
        with Recording(file) as recording:
            return recording.duration
    except (OSError, SourceError):
        return None
