"""The live transcript, drawn into a terminal of known size and into a pipe."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from parastream.client.cli.terminal import LevelMeter, LiveTranscript, clock
from parastream.server.wire.messages import Final, Partial, ServerMessage, SpeechEnded, SpeechStarted
from rich.console import Console
from rich.text import Text

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
LONG = "one two three four five six seven eight nine ten eleven twelve"


def console(*, terminal: bool = True, width: int = 60, height: int = 10) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
        height=height,
        color_system=None,
        legacy_windows=False,
    )


def shown(live: LiveTranscript, on: Console) -> list[str]:
    """What is drawn at the bottom of the terminal."""
    with on.capture() as capture:
        on.print(live)
    return [line.rstrip() for line in capture.get().splitlines()]


def drawn(messages: list[ServerMessage], labels: tuple[str, ...] = (), *, terminal: bool) -> str:
    on = console(terminal=terminal)
    with LiveTranscript(on, labels=labels) as live:
        for message in messages:
            live.show(message)
        live.note("done")
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def test_lines_where_there_is_no_terminal() -> None:
    assert drawn(MESSAGES, terminal=False).splitlines() == [
        "  0:00.9   enter",
        "  0:00.9   enter one",
        "  0:00.9 ✓ Enter one.",
        "done",
    ]


def test_terminal_is_left_with_the_finals_only() -> None:
    left = screen(drawn(MESSAGES, terminal=True))
    assert [line for line in left if line.strip()] == ["  0:00.9 ✓ Enter one.", "done"]


CONVERSATION: list[ServerMessage] = [
    SpeechStarted(0, 0.5, 1),
    Partial(0, 0.5, 1.5, "are you", " there", (), 1),
    SpeechStarted(1, 1.0, 0),
    Partial(1, 1.0, 2.0, "", "yes", (), 0),
    Final(1, 1.0, 2.0, "Yes, I am.", (), 0.9, 0),
    Final(0, 0.5, 1.8, "Are you there?", (), 0.9, 1),
]


def test_speakers_where_there_is_no_terminal() -> None:
    assert drawn(CONVERSATION, ("Alice", "Bob"), terminal=False).splitlines() == [
        "  0:00.5   Bob: are you there",
        "  0:01.0   Alice: yes",
        "  0:01.0 ✓ Alice: Yes, I am.",
        "  0:00.5 ✓ Bob: Are you there?",
        "done",
    ]


def test_each_open_utterance_has_its_line() -> None:
    on = console()
    live = LiveTranscript(on, labels=("Alice", "Bob"))
    for message, lines in zip(
        CONVERSATION[:-1],
        [
            ["  0:00.5   Bob: …"],
            ["  0:00.5   Bob: are you there"],
            ["  0:00.5   Bob: are you there", "  0:01.0   Alice: …"],
            ["  0:00.5   Bob: are you there", "  0:01.0   Alice: yes"],
            ["  0:00.5   Bob: are you there"],
        ],
        strict=True,
    ):
        live.show(message)
        assert shown(live, on) == lines


def test_long_text_is_wrapped_and_its_end_stays_in_sight() -> None:
    on = console(width=40, height=4)
    live = LiveTranscript(on)
    live.show(Partial(0, 0.9, 5.0, LONG, "", ()))
    assert " ".join(" ".join(shown(live, on)).split()) == f"0:00.9 {LONG}"
    assert all(line.startswith(" " * 11) for line in shown(live, on)[1:])
    live.show(Partial(0, 0.9, 9.0, f"{LONG} {LONG}", "", ()))
    assert len(shown(live, on)) == 3
    assert shown(live, on)[-1].endswith("twelve")
    on.width = 24
    assert all(len(line) < 36 for line in shown(live, on))


def test_meter() -> None:
    meter = LevelMeter(2, lambda: Text("connected"))
    on = console()
    live = LiveTranscript(on, meter=meter)
    assert shown(live, on) == [f" ●  0:00  {'░' * 12} {'░' * 12}  connected"]
    block = np.zeros((16_000, 2), np.int16)
    block[:, 1] = 32_767  # as loud as can be
    meter.measure(block, 16_000)
    assert shown(live, on) == [f" ●  0:01  {'░' * 12} {'█' * 12}  connected"]
    block[:, 1] = 1036  # -30 dB, but it falls slowly
    meter.measure(block, 16_000)
    assert shown(live, on) == [f" ●  0:02  {'░' * 12} {'█' * 11}░  connected"]
    for _ in range(5):
        meter.measure(block, 16_000)
    assert shown(live, on) == [f" ●  0:07  {'░' * 12} {'█' * 6}{'░' * 6}  connected"]
    on.width = 31
    assert shown(live, on) == [" ●  0:07  ░░░░ ██░░  connected"]
    on.width = 20
    assert shown(live, on) == [" ●  0:07  ░░░░ ██░…"]


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
                    row = max(0, row - int(argument or 1))
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


@pytest.mark.parametrize(("seconds", "expected"), [(0, "0:00.0"), (59.96, "1:00.0"), (3725.5, "62:05.5")])
def test_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def test_no_finished_sentence_is_overdrawn_when_the_machine_is_busy() -> None:
    drawn = threading.Event()

    def slow() -> Text:
        """The end of the meter's line: whoever draws it is overtaken by whoever else draws."""
        drawn.set()
        time.sleep(0.002)
        return Text("connected")

    on = console(height=1000)
    texts = [f"Sentence {number}." for number in range(50)]
    with LiveTranscript(on, meter=LevelMeter(1, slow), refreshes_per_second=5000.0) as live:
        for number, text in enumerate(texts):
            live.show(Partial(number, 1.0, 2.0, " ".join([LONG] * 3), "", ()))
            drawn.clear()
            assert drawn.wait(10)
            live.show(Final(number, 1.0, 2.0, text, (), 0.9))
    assert isinstance(on.file, io.StringIO)
    left = [line for line in screen(on.file.getvalue()) if line.strip()]
    assert left == [f"  0:01.0 ✓ {text}" for text in texts]
