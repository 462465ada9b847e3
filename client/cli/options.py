"""Options that several commands share, checks of their values, and commands whose help names no Python types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat
from typer.core import TyperArgument, TyperCommand

ANY_CLUSTER = "auto"
"""The Ray cluster that the environment variable RAY_ADDRESS names, or else the one that this machine is a node of."""
CLUSTER = re.compile(rf"{ANY_CLUSTER}|[^/@\s]+:[0-9]{{1,5}}")
"""Addresses of Ray clusters."""


class PlainCommand(TyperCommand):
    """A command whose help names its arguments without the Python types that typer puts behind them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                vars(parameter)["display_type_rich"] = lambda ctx: None


class ClusterCommand(PlainCommand):
    """A command with `--ray [ADDRESS]`. What follows is its address only if it looks like one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `TyperCommand`."""
        for place, word in enumerate(args):
            if word == "--":
                break
            if word == "--ray" and not CLUSTER.fullmatch("".join(args[place + 1 : place + 2])):
                args = [*args[:place], f"--ray={ANY_CLUSTER}", *args[place + 1 :]]
        return super().parse_args(ctx, args)


class Precision(StrEnum):
    """Type of a model's numbers."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Compute(StrEnum):
    """What computes a network."""

    MLX = "mlx"
    GRAPHS = "graphs"


class ComputeType(StrEnum):
    """Type in which a network is computed."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


class Ears(StrEnum):
    """When the better of two final passes is heard."""

    AUTO = "auto"
    FIXED = "fixed"


class LogLevel(StrEnum):
    """Least severe messages that are logged."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


class Language(StrEnum):
    """Languages in which numbers can be written."""

    ENGLISH = "en"
    MANDARIN = "zh"


class Swearing(StrEnum):
    """What becomes of swear words."""

    KEEP = "keep"
    MASK = "mask"
    DROP = "drop"


class Bits(StrEnum):
    """Bits per quantised weight."""

    EIGHT = "8"
    SIX = "6"
    FOUR = "4"


class GroupSize(StrEnum):
    """Number of quantised weights that share a scale."""

    SMALL = "32"
    MEDIUM = "64"
    LARGE = "128"


class Refine(StrEnum):
    """Whether the better ear hears utterances while they last."""

    AUTO = "auto"
    OFF = "off"


RefineOption = Annotated[
    Refine | None,
    typer.Option(
        "--refine",
        help="auto: the better of two ears refines partials where there is room; off: never.  [default: auto]",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|DIR", help="Speech model.  [default: the embedded English one]"),
]
FinalModelOption = Annotated[
    str | None,
    typer.Option(
        "--final-model",
        metavar="NAME|DIR|auto",
        help="What hears whole utterances; auto: the speech model, and Whisper where there is room.  [default: auto"
        " without --model, else the speech model]",
    ),
]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="CODE",
        help="What is spoken: en, zh, yue, ja, ko, de …; chooses the models unless --model names one.",
    ),
]
PunctuationOption = Annotated[
    str | None,
    typer.Option("--punctuation", metavar="NAME|DIR|none", help="Punctuation model.  [default: the embedded one]"),
]
ReplaceOption = Annotated[
    Path | None,
    typer.Option(
        "--replace", metavar="FILE", help="Rules for replacing words, one a line: wrong => right (docs/words.md)."
    ),
]
ProfanityOption = Annotated[
    Swearing | None,
    typer.Option("--profanity", help="Swear words: mask shows f***, drop leaves them out.  [default: keep]"),
]
LmOption = Annotated[
    str | None,
    typer.Option(
        "--lm",
        metavar="FILE|NAME|none",
        help="Language model: of `parastream lm train`, ARPA, or KenLM's binary.  [default: a general English one with"
        " the embedded speech model, none with others]",
    ),
]
LmShareOption = Annotated[
    float | None,
    typer.Option(
        "--lm-share",
        metavar="SHARE",
        help="Its share beside the general one, for English; 1: it counts alone.  [default: 0.8]",
    ),
]
LmWeightOption = Annotated[
    float | None,
    typer.Option("--lm-weight", metavar="N", help="How much it counts beside the speech model.  [default: 0.3]"),
]
HotwordsOption = Annotated[
    Path | None,
    typer.Option(
        "--hotwords",
        metavar="FILE",
        help="Terms to listen for, one a line, with an optional weight behind it (0.1 to 5) and, behind a |, what it"
        " sounds like.",
    ),
]
BenchModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|DIR|random-full[-seaco]",
        help="Speech model; random-full: 220 million random weights, as many as the published models have;"
        " random-full-seaco: 247 million, with hotwords and timestamps.  [default: the embedded one]",
    ),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result to a file, as JSON.")
]
ComputeOption = Annotated[
    Compute | None,
    typer.Option(
        "--compute",
        help="What computes Paraformer and Whisper: graphs are onnxruntime's.  [default: graphs on CPUs, mlx on GPUs]",
    ),
]
DtypeOption = Annotated[
    ComputeType | None,
    typer.Option(
        "--dtype",
        help="Type to compute in: a GPU takes floats, graphs float32 or int8, MLX on a CPU float32.  [default: bfloat16"
        " on a GPU; on a CPU int8 for models that were measured in it, else float32]",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never download a model.")]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="A running server, such as ws://127.0.0.1:8765.")
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", envvar="PARASTREAM_TOKEN", help="Token that the server requires."),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Recordings at a time: with --server, as many sessions; else as many processes.  [default: 4; with --ray,"
        " one for each GPU or else CPU of the cluster; else 1]",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Share the work between the nodes of a Ray cluster that this machine belongs to, such as HOST:PORT.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="With directories and lists: also those that have a transcript.")
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME", help="Name of a channel's speaker; repeat it for further channels."),
]
LineLengthOption = Annotated[
    int | None, typer.Option("--line-length", metavar="N", help="Maximum columns of a subtitle's line.  [default: 42]")
]
LinesOption = Annotated[
    int | None, typer.Option("--lines", metavar="N", help="Maximum lines of a subtitle.  [default: 2]")
]
MinCueOption = Annotated[
    float | None,
    typer.Option("--min-cue", metavar="SECONDS", help="Minimum time of a subtitle, if there is room.  [default: 5/6]"),
]
MaxCueOption = Annotated[
    float | None, typer.Option("--max-cue", metavar="SECONDS", help="Maximum time of a subtitle.  [default: 7]")
]
MaxSpeedOption = Annotated[
    float | None,
    typer.Option(
        "--max-speed",
        metavar="N",
        help="Characters per second that people can read; longer text stays longer.  [default: 17]",
    ),
]


def check_cluster(address: str | None, files: Sequence[Path]) -> None:
    """Check the address of a Ray cluster, and what is to be transcribed there.

    Raises:
        typer.BadParameter: It is no address, or something cannot be read on other machines.
    """
    if address is not None:
        refuse(not CLUSTER.fullmatch(address), "--ray", f"must be HOST:PORT or {ANY_CLUSTER}, not {address}")
        refuse(Path("-") in files, "--ray", "is for files that all nodes can read, not for the standard input")


def style_of(
    form: TranscriptFormat,
    line_length: int | None,
    lines: int | None,
    min_cue: float | None,
    max_cue: float | None,
    max_speed: float | None,
) -> SubtitleStyle:
    """Return the subtitle style that options choose.

    Args:
        form: format of the transcript.
        line_length: maximum columns of a line; None, here and below, for the default.
        lines: maximum lines of a subtitle.
        min_cue: minimum time of a subtitle in seconds.
        max_cue: maximum time of a subtitle in seconds.
        max_speed: reading speed in characters per second.

    Raises:
        typer.BadParameter: an option has a value that is not allowed, or the format has no style.
    """
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
            form not in (TranscriptFormat.SRT, TranscriptFormat.VTT), _option(name), "is for the formats srt and vtt"
        )
    try:
        return SubtitleStyle(**given)
    except ValueError as error:
        name, _, message = str(error).partition(" ")
        raise typer.BadParameter(message, param_hint=_option(name)) from error


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def refuse_choices_of_server(punctuation: str | None, **given: object) -> None:
    """Refuse what only who starts a server can choose.

    Args:
        punctuation: the punctuation model; a client may have `none`.
        given: other options by the names of their parameters; None for those that were not given.

    Raises:
        typer.BadParameter: an option was given; the error names it.
    """
    for name, value in given.items():
        refuse(value is not None, _option(name), "cannot be chosen by a client: the server chooses it")
    refuse(
        punctuation not in (None, "none"),
        "--punctuation",
        "cannot be chosen by a client, apart from none: the server chooses the model",
    )


def refuse(condition: bool, option: str, message: str) -> None:
    """Refuse an option under a condition.

    Raises:
        typer.BadParameter: the condition holds; the error names the option.
    """
    if condition:
        raise typer.BadParameter(message, param_hint=option)
