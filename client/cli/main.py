"""The command line `parastream`: options and help; each command's work is in `parastream.client.cli`.

Only the command that runs is imported, so that help and wrong usage answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal

import typer
from parastream.client.cli.bench.commands import bench_app
from parastream.client.cli.options import (
    Bits,
    DtypeOption,
    FinalModelOption,
    GroupSize,
    LabelOption,
    LineLengthOption,
    LinesOption,
    LogLevel,
    MaxCueOption,
    MaxSpeedOption,
    MinCueOption,
    ModelOption,
    OfflineOption,
    Precision,
    PunctuationOption,
    ServerOption,
    TokenOption,
    refuse,
    style_of,
)
from parastream.server.transcripts.formats import TranscriptFormat

app = typer.Typer(
    help="Real-time speech-to-text: Paraformer on MLX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # what it imports would double the time that help takes
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(
    help="List, download, convert, quantize and check models.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models_app, name="models")
app.add_typer(bench_app, name="bench")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 when it did what it should, 1 when it failed, 2 for wrong usage."""
    try:
        app(args=arguments, prog_name="parastream")
    except Exception as error:
        if os.environ.get("PARASTREAM_DEBUG") or not _is_expected(error):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _prepare() -> None:
    """Set the process up for computing, before a command imports MLX."""
    from parastream.model import prepare_process

    prepare_process()


def _is_expected(error: Exception) -> bool:
    """Whether the message says all there is to say. What was never imported was not raised either."""
    expected: list[type[Exception]] = [OSError]
    for module, name in (
        ("parastream.model.errors", "ParastreamError"),
        ("parastream.client.errors", "ClientError"),
        ("parastream.client.sources", "SourceError"),
        ("parastream.client.microphone", "MicrophoneError"),
        ("parastream.server.config", "ConfigError"),
        ("parastream.server.transcripts.journal", "JournalError"),
    ):
        if module in sys.modules:
            expected.append(getattr(sys.modules[module], name))
    return isinstance(error, tuple(expected))


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def parastream(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Real-time speech-to-text: Paraformer on MLX."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one.  [default: 8765]")] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    punctuation: PunctuationOption = None,
    dtype: DtypeOption = None,
    offline: OfflineOption = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file with any of the settings.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="What clients must present; needed when others can reach the address.")
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option("--allow-anonymous", help="Let others than this machine connect without a token."),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option("--origin", help="Web origin whose pages may connect, such as https://example.org; repeatable."),
    ] = None,
    viewer_token: Annotated[
        str | None, typer.Option(help="Lets its bearers watch caption rooms, and nothing else.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PORT", help="One more port, for one protocol: funasr=10095, vosk=2700 …; repeatable."
        ),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Certificate (chain) with which to speak TLS.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its private key, if it is not in there.")] = None,
    target_utilisation: Annotated[
        float | None,
        typer.Option(help="Share of the machine's time that sessions may take; more are refused.  [default: 0.85]"),
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(help="Most sessions at a time.")] = None,
    max_viewers: Annotated[int | None, typer.Option(help="Most viewers of caption rooms at a time.")] = None,
    max_session: Annotated[float | None, typer.Option(help="Longest session in seconds.")] = None,
    max_message: Annotated[int | None, typer.Option(help="Largest message in bytes.")] = None,
    save: Annotated[
        str | None, typer.Option(metavar="DIR", help="Save the transcript of every session there while it lasts.")
    ] = None,
    idle_timeout: Annotated[
        float | None, typer.Option(help="Seconds without audio after which a session is ended.")
    ] = None,
    ping_interval: Annotated[float | None, typer.Option(help="Seconds between pings.")] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            help="Least severe messages to log: info has sessions and connections, debug also what the engine does.  "
            "[default: warning]",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The same as --log-level info.")] = False,
) -> None:
    """Serve speech recognition over WebSockets.

    Each setting may also come from the environment (PARASTREAM_PORT …) or from the file; options win over
    the environment, which wins over the file.
    """
    refuse(verbose and log_level is not None, "--verbose", "has no use with --log-level")
    _prepare()
    from parastream.client.cli.serve import run

    flags = {
        "host": host,
        "port": port,
        "model": model,
        "final_model": final_model,
        "punctuation": punctuation,
        "dtype": dtype.value if dtype else None,
        "token": token,
        "allow_anonymous": allow_anonymous,
        "viewer_token": viewer_token,
        "origins": tuple(origins) if origins else None,
        "listen": tuple(listen) if listen else None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "target_utilisation": target_utilisation,
        "max_sessions": max_sessions,
        "max_viewers": max_viewers,
        "max_session": max_session,
        "max_message": max_message,
        "save": save,
        "idle_timeout": idle_timeout,
        "ping_interval": ping_interval,
        "log_level": "info" if verbose else log_level and log_level.value,
    }
    raise typer.Exit(run(flags, config, offline=offline))


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings: wav, flac, mp3, ogg.")],
    server: ServerOption = None,
    token: TokenOption = None,
    pace: Annotated[
        float | None,
        typer.Option(min=0, help="With --server: 1 sends at real-time pace, 0 as fast as accepted.  [default: 0]"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="With --server: recordings sent at once.  [default: 4]"),
    ] = None,
    format: Annotated[
        TranscriptFormat, typer.Option("--format", "-f", help="Form of the transcripts.")
    ] = TranscriptFormat.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write a file for each recording there."),
    ] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Print what the streaming pass alone hears: no second pass.")
    ] = False,
    punctuation: PunctuationOption = None,
    no_punctuation: Annotated[
        bool,
        typer.Option("--no-punctuation", help="The words as they were heard, without marks and capitals."),
    ] = False,
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Which channel to hear, counted from 0; all: each by itself, with its label on its lines. "
            "Left out: all of them mixed.",
        ),
    ] = None,
    label: LabelOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="With --server: save each session there while it lasts."),
    ] = None,
    line_length: LineLengthOption = None,
    lines: LinesOption = None,
    min_cue: MinCueOption = None,
    max_cue: MaxCueOption = None,
    max_speed: MaxSpeedOption = None,
    dtype: DtypeOption = None,
    offline: OfflineOption = False,
) -> None:
    """Transcribe recordings, here or through a running server.

    A recording that fails is named on stderr and the others are still done.
    """
    if server is None:
        refuse(pace is not None, "--pace", "needs --server")
        refuse(jobs is not None, "--jobs", "needs --server")
        refuse(save is not None, "--save", "needs --server")
    else:
        refuse(final_model is not None, "--final-model", "cannot be chosen by a client: it is the server's")
        refuse(
            punctuation not in (None, "none"),
            "--punctuation",
            "cannot be chosen by a client: the model is the server's (none turns it off)",
        )
        refuse(dtype is not None, "--dtype", "cannot be chosen by a client: it is the server's")
        refuse(offline, "--offline", "has no use with --server")
    refuse(streaming and final_model is not None, "--final-model", "has no use with --streaming: no second pass")
    refuse(not (channel is None or channel == "all" or channel.isdecimal()), "--channel", "needs a number or all")
    refuse(bool(label) and channel != "all", "--label", "needs --channel all")
    style = style_of(
        format, line_length=line_length, lines=lines, min_cue=min_cue, max_cue=max_cue, max_speed=max_speed
    )
    if output is None:
        refuse(
            len(files) > 1 and format in (TranscriptFormat.SRT, TranscriptFormat.VTT),
            "--output",
            f"is needed to write {format.value} for several recordings",
        )
    else:
        names: dict[str, Path] = {}
        for file in files:
            other = names.setdefault(file.stem, file)
            refuse(other is not file, "FILE", f"{other} and {file} would both become {file.stem}{format.suffix}")

    _prepare()
    from parastream.client.cli import transcribe as command
    from parastream.client.cli.composition import ModelChoice

    heard: int | Literal["all"] | None = None if channel is None else "all" if channel == "all" else int(channel)
    hearing = command.Hearing(heard, label or ())
    punctuate = not no_punctuation and punctuation != "none"
    task: command.Task
    if server is None:
        choice = ModelChoice(
            model=model,
            final_model=final_model,
            punctuation=punctuation if punctuate else "none",
            offline=offline,
            dtype=dtype.value if dtype else None,
        )
        task = command.Local(choice, final_pass=not streaming, hearing=hearing)
    else:
        task = command.Remote(
            server,
            token=token,
            model=model or "",
            punctuate=punctuate,
            final_pass=not streaming,
            hearing=hearing,
            pace=pace or 0.0,
            jobs=jobs or 4,
            save=save,
        )
    raise typer.Exit(command.run(files, task, format, output, style))


@app.command()
def subtitles(
    journal: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="A saved session.")],
    format: Annotated[
        TranscriptFormat, typer.Option("--format", "-f", help="Form of the transcript.")
    ] = TranscriptFormat.SRT,
    label: LabelOption = None,
    line_length: LineLengthOption = None,
    lines: LinesOption = None,
    min_cue: MinCueOption = None,
    max_cue: MaxCueOption = None,
    max_speed: MaxSpeedOption = None,
) -> None:
    """Print a saved session in another form, in another style or with other names.

    Sessions are saved by --save of mic, transcribe and serve.
    """
    style = style_of(
        format, line_length=line_length, lines=lines, min_cue=min_cue, max_cue=max_cue, max_speed=max_speed
    )
    from parastream.client.cli.subtitles import run

    run(journal, format, style, label or ())


@app.command()
def mic(
    server: ServerOption = None,
    token: TokenOption = None,
    device: Annotated[
        str | None, typer.Option(metavar="INDEX|NAME", help="Microphone; the default one if left out.")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the microphones and exit.")] = False,
    channels: Annotated[
        int,
        typer.Option(
            min=1, max=8, help="Channels of the device, one for each speaker: each is heard by itself, with its label."
        ),
    ] = 1,
    label: LabelOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Save the transcript there while it grows, in four forms."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Keep the sound, as .wav or .flac.")
    ] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    punctuation: PunctuationOption = None,
    offline: OfflineOption = False,
) -> None:
    """Transcribe the microphone live until Ctrl-C.

    Without --server a server of its own is started for the while.
    """
    if record is not None:
        refuse(record.suffix.lower() not in (".wav", ".flac"), "--record", f"{record}: must end in .wav or .flac")
    refuse(len(label or ()) > channels, "--label", f"more names than channels ({channels})")
    if server is not None:
        refuse(final_model is not None, "--final-model", "cannot be chosen by a client: it is the server's")
        refuse(
            punctuation not in (None, "none"),
            "--punctuation",
            "cannot be chosen by a client: the model is the server's (none turns it off)",
        )
    _prepare()
    from parastream.client.cli import mic as command
    from parastream.client.cli.composition import ModelChoice

    if list_devices:
        raise typer.Exit(command.print_devices())
    choice = ModelChoice(model=model, final_model=final_model, punctuation=punctuation, offline=offline)
    capture = command.Capture(device, channels, label or (), record, save)
    raise typer.Exit(command.run(choice, capture, server=server, token=token))


@app.command()
def demo(
    pace: Annotated[
        float, typer.Option(min=0.1, help="1 is real time; 4 sends the recording four times as fast.")
    ] = 1.0,
) -> None:
    """Start a server and stream a sample recording of real speech through it."""
    _prepare()
    from parastream.client.cli.demo import run

    raise typer.Exit(run(pace))


@app.command()
def doctor() -> None:
    """Show what parastream runs on: device, BLAS, versions, models, audio devices."""
    _prepare()
    from parastream.client.cli.doctor import run

    raise typer.Exit(run())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"parastream {installed_version('parastream')}")


@models_app.command("list")
def list_models() -> None:
    """List the models that have a name."""
    from parastream.client.cli import models

    models.print_models()


@models_app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A listed name, or a hub's ORG/MODEL.")],
) -> None:
    """Download a model into the cache and print where it is."""
    from parastream.client.cli import models

    models.download(name)


@models_app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Name or directory of a FunASR model.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New directory.")],
    dtype: Annotated[Precision, typer.Option(help="How weights are stored.")] = Precision.FLOAT16,
    offline: OfflineOption = False,
) -> None:
    """Convert a FunASR checkpoint to safetensors, which load faster and need no pickle."""
    _prepare()
    from parastream.client.cli import models

    models.convert(source, destination, dtype.value, offline=offline)


@models_app.command()
def quantize(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Name or directory of a model.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New directory.")],
    bits: Annotated[Bits, typer.Option(help="Bits of a weight.")] = Bits.EIGHT,
    group_size: Annotated[GroupSize, typer.Option(help="Weights that share a scale.")] = GroupSize.MEDIUM,
    dtype: Annotated[
        Precision, typer.Option(help="How scales, and the weights that are not quantised, are stored.")
    ] = Precision.FLOAT16,
    offline: OfflineOption = False,
) -> None:
    """Make a model smaller: its linear layers in 8 or 4 bits.

    A GPU computes with the quantised weights. A CPU turns them into float32 when it loads them: there the model takes
    less of the disk, but neither less memory nor less time.
    """
    _prepare()
    from parastream.client.cli import models

    models.quantize(source, destination, int(bits), int(group_size), dtype.value, offline=offline)


@models_app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="Speech or punctuation model.")],
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Recordings with a golden.json of known texts, which the model must reproduce.",
        ),
    ] = None,
    offline: OfflineOption = False,
) -> None:
    """Load a model strictly, run it once, and compare what it hears with known texts."""
    _prepare()
    from parastream.client.cli import models

    raise typer.Exit(models.check(name, recordings, offline=offline))
