"""The live transcript, drawn into a terminal of known size and into a pipe."""

from __future__ import annotations

import io

import pytest
from parastream.client.live import LiveTranscript, clock
from parastream.server.messages import Final, Partial, ServerMessage, SpeechEnded, SpeechStarted
from rich.console import Console

MESSAGES: list[ServerMessage] = [
    SpeechStarted(0, 0.9),
    Partial(0, 0.9, 1.8, "", "enter", ()),
    Partial(0, 0.9, 2.4, "enter", " one", ()),
    Partial(0, 0.9, 3.0, "enter one", "", ()),
    SpeechStarted(1, 61.25),
    SpeechEnded(0, 3.2),
    Final(0, 0.9, 3.2, "Enter one.", (), 0.9),
    Final(1, 61.25, 62.0, "", (), 0.0),
]


def drawn(*, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=terminal, width=60, height=10, color_system=None, legacy_windows=False
    )
    with LiveTranscript(console) as live:
        for message in MESSAGES:
            live.show(message)
        live.note("done")
    return output.getvalue()


def test_lines_where_there_is_no_terminal() -> None:
    assert drawn(terminal=False).splitlines() == [
        "  0:00.9   enter",
        "  0:00.9   enter one",
        "  0:00.9 ✓ Enter one.",
        "done",
    ]


def test_terminal_is_left_with_the_finals_only() -> None:
    shown = screen(drawn(terminal=True))
    assert [line for line in shown if line.strip()] == ["  0:00.9 ✓ Enter one.", "done"]


def screen(output: str) -> list[str]:
    """What a terminal shows after `output`, whose only controls are those that rich's live display uses."""
    lines, row, column = [""], 0, 0
    index = 0
    while index < len(output):
        character = output[index]
        index += 1
        if character == "\x1b":
            end = index + 1
            while not output[end].isalpha():
                end += 1
            argument, control = output[index + 1 : end], output[end]
            index = end + 1
            match control:
                case "A":
                    row -= int(argument or 1)
                case "K":
                    lines[row] = ""
                case "h" | "l":  # the cursor is hidden and shown
                    pass
                case _:
                    raise AssertionError(f"unexpected control {argument}{control}")
        elif character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        else:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00.0"), (59.96, "1:00.0"), (3725.5, "62:05.5")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
