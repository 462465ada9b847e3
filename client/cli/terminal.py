"""The terminal view of a running transcript: redrawn in a terminal, line by line elsewhere."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from parastream.server.wire.messages import Final, Partial, ServerMessage, SpeechStarted
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

_NARROWEST = 20  # columns that text gets in the narrowest of terminals


class LevelMeter:
    """The line at the bottom: the time, how loud each channel is, and the state of the connection."""

    _FEWEST, _MOST = 4, 12  # cells of a bar
    _QUIETEST = -60.0  # dB below full scale
    _FALL = 6.0  # dB with each block, so that the eye can follow

    def __init__(self, channels: int, state: Callable[[], Text]) -> None:
        """Begin with silence.

        Args:
            channels: number of bars.
            state: called for the end of the line whenever it is drawn.
        """
        self._levels = [self._QUIETEST] * channels
        self._state = state
        self.seconds = 0.0
        """Length of the sound so far."""

    def measure(self, block: NDArray[np.int16], rate: int) -> None:
        """Take a block of samples, (n,) or (n, channels) with n > 0."""
        self.seconds += len(block) / rate
        power = np.square(block.reshape(-1, len(self._levels)) / 32768.0).mean(axis=0)
        for channel, value in enumerate(power):
            level = 10 * math.log10(value) if value > 0 else self._QUIETEST
            self._levels[channel] = max(level, self._levels[channel] - self._FALL, self._QUIETEST)

    def line(self, width: int) -> Text:
        """Draw the line in `width` columns; bars are shorter in a narrow terminal."""
        line = Text.assemble((" ● ", "bold red"), (f"{clock(self.seconds)[:-2]:>5} ", "cyan"))
        state = self._state()
        room = (width - line.cell_len - state.cell_len - 2) // len(self._levels) - 1
        cells = min(max(room, self._FEWEST), self._MOST)
        for level in self._levels:
            lit = round(cells * (1 - level / self._QUIETEST))
            style = "red" if level > -3 else "yellow" if level > -12 else "green"
            line.append(" ").append("█" * lit, style=style).append("░" * (cells - lit), style="dim")
        line.append("  ").append_text(state)
        line.truncate(width, overflow="ellipsis")
        return line


class LiveTranscript:
    """Partials are redrawn at the bottom of a terminal, finals scroll up above them.

    On anything but a terminal each partial that says something new becomes a line of its own. Stable text is bright,
    draft text (which may still change) is dim.

    In a terminal a thread redraws what is still open. Each drawing begins by moving the cursor back over the last one,
    so whoever draws or prints holds the lock until all of it has been written.
    """

    def __init__(
        self,
        console: Console,
        *,
        labels: Sequence[str] = (),
        meter: LevelMeter | None = None,
        refreshes_per_second: float = 12.0,
    ) -> None:
        """Prepare a transcript; `with` shows it.

        Args:
            console: where it is shown.
            labels: names of the speakers, one for each channel, put before what they say.
            meter: its line is kept below the text in a terminal.
            refreshes_per_second: how often a terminal is redrawn.
        """
        self._console = console
        self._labels = labels
        self._meter = meter
        self._live = (
            Live(console=console, get_renderable=lambda: self, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )
        self._period = 1 / refreshes_per_second
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._refreshing = threading.Thread(target=self._refresh, name="live transcript", daemon=True)
        self._open: dict[int, tuple[Text, Text]] = {}
        """Head and text of each utterance that has no final yet, by the utterances' numbers."""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
            self._refreshing.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._left.set()
            self._refreshing.join()
            self._live.stop()

    def _refresh(self) -> None:
        assert self._live is not None
        while not self._left.wait(self._period):
            with self._lock:
                self._live.refresh()

    def show(self, message: ServerMessage) -> None:
        """Draw what the message changes; messages that are not about the transcript change nothing."""
        with self._lock:
            match message:
                case SpeechStarted() if self._live:
                    self._open[message.utterance] = self._head(message.time, message.channel), Text("…", style="dim")
                case Partial():
                    self._show_partial(message)
                case Final():
                    self._open.pop(message.utterance, None)
                    if message.text:
                        head = self._head(message.start, message.channel, "✓")
                        self._print(head, Text(message.text, style="green"))

    def _show_partial(self, partial: Partial) -> None:
        text = Text(partial.stable, style="bold")
        text.append(partial.draft, style="not bold dim")
        _, before = self._open.get(partial.utterance, (None, Text()))
        if text.plain and text.plain != before.plain:
            head = self._head(partial.start, partial.channel)
            self._open[partial.utterance] = head, text
            if not self._live:
                self._print(head, text)

    def forget(self, utterance: int) -> None:
        """Draw an utterance no more whose final will not come."""
        with self._lock:
            self._open.pop(utterance, None)

    def note(self, text: str) -> None:
        """Print a line of its own about what is going on."""
        with self._lock:
            self._print(Text(), Text(text, style="yellow"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what is still open, and the meter; if that is too high for the terminal, the end of it."""
        rows = [row for head, text in self._open.values() for row in _hanging(head, text, console)]
        if self._meter is not None:
            rows.append(self._meter.line(console.width - 1))
        for index, row in enumerate(rows[-max(1, console.height - 1) :]):
            if index:
                yield Segment.line()
            yield from row.render(console)

    def _head(self, start: float, channel: int, mark: str = " ") -> Text:
        head = Text.assemble((f"{clock(start):>8} ", "cyan"), f"{mark} ")
        if channel < len(self._labels):
            head.append(f"{self._labels[channel]}: ", style="magenta")
        return head

    def _print(self, head: Text, text: Text) -> None:
        if self._live:
            self._console.print(Text("\n").join(_hanging(head, text, self._console)), soft_wrap=True)
        else:
            self._console.print(head + text, soft_wrap=True)


def clock(seconds: float) -> str:
    """Format a time as minutes, seconds and tenths."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _hanging(head: Text, text: Text, console: Console) -> list[Text]:
    """Wrap text to the console's width, with every row after the first indented by the width of the head."""
    indent = min(head.cell_len, max(0, console.width - _NARROWEST))
    # The last column stays free: some terminals wrap when it is written to.
    first, *rest = text.wrap(console, max(_NARROWEST, console.width - head.cell_len - 1)) or [Text()]
    return [head + first, *(Text(" " * indent) + row for row in rest)]
