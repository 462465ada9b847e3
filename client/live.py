"""Shows a running transcript: redrawn in a terminal, line by line elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from parastream.server.messages import Final, Partial, ServerMessage, SpeechStarted
from rich.console import Console
from rich.live import Live
from rich.text import Text


class LiveTranscript:
    """Partials are redrawn at the bottom of a terminal, finals scroll up above them.

    On anything but a terminal each partial that says something new becomes a line of its own.
    Stable text is bright, draft text (which may still change) is dim.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=15, transient=True) if console.is_terminal else None
        self._utterance = -1  # the newest
        self._shown = ""

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
            case SpeechStarted():
                self._utterance = message.utterance
                if self._live:
                    self._draw(_line(message.time, Text("…", style="dim")))
            case Partial():
                text = Text(message.stable, style="bold")
                text.append(message.draft, style="not bold dim")
                if text.plain and text.plain != self._shown:
                    self._shown = text.plain
                    self._draw(_line(message.start, text))
            case Final():
                self._shown = ""
                # The next utterance may have begun: then the bottom line is its own.
                if self._live and message.utterance == self._utterance:
                    self._live.update(Text(""), refresh=True)
                if message.text:
                    self._print(_line(message.start, Text(message.text, style="green"), mark="✓"))

    def note(self, text: str) -> None:
        """A line of its own about what is going on."""
        self._print(Text(text, style="yellow"))

    def _draw(self, line: Text) -> None:
        if self._live:
            self._live.update(line)
        else:
            self._print(line)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _line(start: float, text: Text, mark: str = " ") -> Text:
    line = Text.assemble((f"{clock(start):>8} ", "cyan"), f"{mark} ")
    line.append_text(text)
    return line
