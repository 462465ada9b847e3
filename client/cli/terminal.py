"""Shows a running transcript: redrawn in a terminal, line by line elsewhere."""

from __future__ import annotations

import math
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


class Meter:
    """The line at the bottom: how loud it is, for how long it has been going on, and how things are."""

    _FEWEST, _MOST = 4, 12  # cells of a bar
    _QUIETEST = -60.0  # dB below full scale
    _FALL = 6.0  # dB with each block, so that the eye can follow

    def __init__(self, channels: int, state: Callable[[], Text]) -> None:
        """`state`: asked for what stands at the end of the line whenever it is drawn."""
        self._levels = [self._QUIETEST] * channels
        self._state = state
        self.seconds = 0.0
        """Of sound so far."""

    def hear(self, block: NDArray[np.int16], rate: int) -> None:
        """Take a block of samples, (n,) or (n, channels) with n > 0."""
        self.seconds += len(block) / rate
        power = np.square(block.reshape(-1, len(self._levels)) / 32768.0).mean(axis=0)
        for channel, value in enumerate(power):
            level = 10 * math.log10(value) if value > 0 else self._QUIETEST
            self._levels[channel] = max(level, self._levels[channel] - self._FALL, self._QUIETEST)

    def line(self, width: int) -> Text:
        """As it is now, in so many columns; bars are shorter in a narrow terminal."""
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

    On anything but a terminal each partial that says something new becomes a line of its own.
    Stable text is bright, draft text (which may still change) is dim.
    """

    def __init__(self, console: Console, *, labels: Sequence[str] = (), meter: Meter | None = None) -> None:
        """
        Args:
            labels: names of the speakers, one for each channel, put before what they say.
            meter: its line is kept below the text in a terminal.
        """
        self._console = console
        self._labels = labels
        self._meter = meter
        self._live = (
            Live(console=console, get_renderable=lambda: self, refresh_per_second=12, transient=True)
            if console.is_terminal
            else None
        )
        self._open: dict[int, tuple[Text, Text]] = {}
        """What precedes, and what is heard of, each utterance that has no final yet, by their numbers."""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, message: ServerMessage) -> None:
        """Draw what the message changes; messages that are not about the transcript change nothing."""
        match message:
            case SpeechStarted() if self._live:
                self._open[message.utterance] = self._head(message.time, message.channel), Text("…", style="dim")
            case Partial():
                text = Text(message.stable, style="bold")
                text.append(message.draft, style="not bold dim")
                _, before = self._open.get(message.utterance, (None, Text()))
                if text.plain and text.plain != before.plain:
                    head = self._head(message.start, message.channel)
                    self._open[message.utterance] = head, text
                    if not self._live:
                        self._print(head, text)
            case Final():
                self._open.pop(message.utterance, None)
                if message.text:
                    self._print(self._head(message.start, message.channel, "✓"), Text(message.text, style="green"))

    def note(self, text: str) -> None:
        """A line of its own about what is going on."""
        self._print(Text(), Text(text, style="yellow"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is still open, and the meter; of text that is too high for the terminal, the end."""
        rows = [row for head, text in list(self._open.values()) for row in _hanging(head, text, console)]
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
    """Minutes, seconds and tenths."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _hanging(head: Text, text: Text, console: Console) -> list[Text]:
    """Rows of the console's width, those after the first one indented by what precedes the text."""
    indent = min(head.cell_len, max(0, console.width - _NARROWEST))
    # The last column stays free: some terminals wrap when it is written to.
    first, *rest = text.wrap(console, max(_NARROWEST, console.width - head.cell_len - 1)) or [Text()]
    return [head + first, *(Text(" " * indent) + row for row in rest)]
