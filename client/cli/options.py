"""Options of the command line that several commands have, and what checks them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat


class Precision(StrEnum):
    """Type of a model's numbers."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class LogLevel(StrEnum):
    """Least severe messages that are logged."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


class Bits(StrEnum):
    """Of a quantised weight."""

    EIGHT = "8"
    FOUR = "4"


class GroupSize(StrEnum):
    """Quantised weights that share a scale."""

    SMALL = "32"
    MEDIUM = "64"
    LARGE = "128"


ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|DIR", help="Speech model; the embedded English one if left out."),
]
FinalModelOption = Annotated[
    str | None,
    typer.Option("--final-model", metavar="NAME|DIR", help="Model of the second pass; the same one if left out."),
]
PunctuationOption = Annotated[
    str | None,
    typer.Option("--punctuation", metavar="NAME|DIR|none", help="Punctuation model; the embedded one if left out."),
]
BenchModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|DIR|random-full",
        help="The embedded one if left out; random-full: 220 million random weights, the published models' size.",
    ),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result there, as JSON.")
]
DtypeOption = Annotated[
    Precision | None,
    typer.Option("--dtype", help="What a GPU computes in, bfloat16 if left out; a CPU takes float32 only."),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never ask the network for a model.")]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="A running server, such as ws://127.0.0.1:8765.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="PARASTREAM_TOKEN", help="Token that the server asks for.")
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME", help="Name of a channel's speaker; repeat it for the next channel."),
]
LineLengthOption = Annotated[
    int | None, typer.Option("--line-length", help="Most columns of a subtitle's line.  [default: 42]")
]
LinesOption = Annotated[int | None, typer.Option("--lines", help="Most lines of a subtitle.  [default: 2]")]
MinCueOption = Annotated[
    float | None, typer.Option("--min-cue", help="Seconds that a subtitle stays where there is room.  [default: 5/6]")
]
MaxCueOption = Annotated[
    float | None, typer.Option("--max-cue", help="Seconds that a subtitle stays at most.  [default: 7]")
]
MaxSpeedOption = Annotated[
    float | None,
    typer.Option("--max-speed", help="Characters a second that can be read: more stay longer.  [default: 17]"),
]


def style_of(
    format: TranscriptFormat,
    line_length: int | None,
    lines: int | None,
    min_cue: float | None,
    max_cue: float | None,
    max_speed: float | None,
) -> SubtitleStyle:
    """The style that options choose; those left out are None. Raises `typer.BadParameter`."""
    values = {
        "line_length": line_length,
        "lines": lines,
        "min_cue": min_cue,
        "max_cue": max_cue,
        "max_speed": max_speed,
    }
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    for name in given:
        refuse(
            format not in (TranscriptFormat.SRT, TranscriptFormat.VTT), _option(name), "is for the formats srt and vtt"
        )
    try:
        return SubtitleStyle(**given)
    except ValueError as error:
        name, _, message = str(error).partition(" ")
        raise typer.BadParameter(message, param_hint=_option(name)) from error


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def refuse(condition: bool, option: str, message: str) -> None:
    """Raise `typer.BadParameter` for an option's name if the condition holds."""
    if condition:
        raise typer.BadParameter(message, param_hint=option)
