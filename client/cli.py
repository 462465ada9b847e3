"""The command line `parastream`: options and help; each command's work is in `parastream.client.commands`.

Only the command that runs is imported, so that help and wrong usage answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from parastream.server.subtitles import TranscriptFormat


class Precision(StrEnum):
    """Type of a model's numbers."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Bits(StrEnum):
    """Of a quantised weight."""

    EIGHT = "8"
    FOUR = "4"


class GroupSize(StrEnum):
    """Quantised weights that share a scale."""

    SMALL = "32"
    MEDIUM = "64"
    LARGE = "128"


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
bench_app = typer.Typer(
    help="Measure parastream on this machine; docs/benchmarks.md defines each figure.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench_app, name="bench")

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
_DTYPE_HELP = "What a GPU computes in, bfloat16 if left out; a CPU takes float32 only."
DtypeOption = Annotated[Precision | None, typer.Option("--dtype", help=_DTYPE_HELP)]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never ask the network for a model.")]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="A running server, such as ws://127.0.0.1:8765.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="PARASTREAM_TOKEN", help="Token that the server asks for.")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 when it did what it should, 1 when it failed, 2 for wrong usage."""
    try:
        app(args=arguments, prog_name="parastream")
    except Exception as error:
        if os.environ.get("PARASTREAM_DEBUG") or not _is_expected(error):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _is_expected(error: Exception) -> bool:
    """Whether the message says all there is to say. What was never imported was not raised either."""
    expected: list[type[Exception]] = [OSError]
    for module, name in (
        ("parastream.model.errors", "ParastreamError"),
        ("parastream.client.errors", "ClientError"),
        ("parastream.client.sources", "SourceError"),
        ("parastream.client.microphone", "MicrophoneError"),
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
    punctuation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|none",
            envvar="PARASTREAM_PUNCTUATION",
            help="Punctuation model; the embedded one if left out.",
        ),
    ] = None,
    dtype: Annotated[Precision | None, typer.Option(envvar="PARASTREAM_DTYPE", help=_DTYPE_HELP)] = None,
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
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Web origin whose pages may connect, such as https://example.org; repeatable."),
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(help="Most sessions at a time.")] = None,
    max_session: Annotated[float | None, typer.Option(help="Longest session in seconds.")] = None,
    max_message: Annotated[int | None, typer.Option(help="Largest message in bytes.")] = None,
    idle_timeout: Annotated[
        float | None, typer.Option(help="Seconds without audio after which a session is ended.")
    ] = None,
    ping_interval: Annotated[float | None, typer.Option(help="Seconds between pings.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log sessions and connections.")] = False,
) -> None:
    """Serve speech recognition over WebSockets.

    Each setting may also come from the environment (PARASTREAM_PORT …) or from the file; options win over
    the environment, which wins over the file.
    """
    from parastream.client.commands.serve import run

    flags = {
        "host": host,
        "port": port,
        "model": model,
        "final_model": final_model,
        "token": token,
        "allow_anonymous": allow_anonymous,
        "origins": tuple(origin) if origin else None,
        "max_sessions": max_sessions,
        "max_session": max_session,
        "max_message": max_message,
        "idle_timeout": idle_timeout,
        "ping_interval": ping_interval,
    }
    raise typer.Exit(
        run(
            flags,
            config,
            punctuation=punctuation,
            dtype=dtype.value if dtype else None,
            offline=offline,
            verbose=verbose,
        )
    )


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
        int | None,
        typer.Option(min=0, help="Which channel to hear, counted from 0; all of them mixed if left out."),
    ] = None,
    dtype: DtypeOption = None,
    offline: OfflineOption = False,
) -> None:
    """Transcribe recordings, here or through a running server.

    A recording that fails is named on stderr and the others are still done.
    """
    if server is None:
        _refuse(pace is not None, "--pace", "needs --server")
        _refuse(jobs is not None, "--jobs", "needs --server")
    else:
        _refuse(final_model is not None, "--final-model", "cannot be chosen by a client: it is the server's")
        _refuse(
            punctuation not in (None, "none"),
            "--punctuation",
            "cannot be chosen by a client: the model is the server's (none turns it off)",
        )
        _refuse(dtype is not None, "--dtype", "cannot be chosen by a client: it is the server's")
        _refuse(offline, "--offline", "has no use with --server")
    _refuse(streaming and final_model is not None, "--final-model", "has no use with --streaming: no second pass")
    if output is None:
        _refuse(
            len(files) > 1 and format in (TranscriptFormat.SRT, TranscriptFormat.VTT),
            "--output",
            f"is needed to write {format.value} for several recordings",
        )
    else:
        names: dict[str, Path] = {}
        for file in files:
            other = names.setdefault(file.stem, file)
            _refuse(other is not file, "FILE", f"{other} and {file} would both become {file.stem}{format.suffix}")

    from parastream.client.commands import transcribe as command
    from parastream.client.commands.composition import ModelChoice

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
        task = command.Local(choice, final_pass=not streaming, channel=channel)
    else:
        task = command.Remote(
            server,
            token=token,
            model=model or "",
            punctuate=punctuate,
            final_pass=not streaming,
            channel=channel,
            pace=pace or 0.0,
            jobs=jobs or 4,
        )
    raise typer.Exit(command.run(files, task, format, output))


@app.command()
def mic(
    server: ServerOption = None,
    token: TokenOption = None,
    device: Annotated[
        str | None, typer.Option(metavar="INDEX|NAME", help="Microphone; the default one if left out.")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the microphones and exit.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also keep the sound, as .wav or .flac."),
    ] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    punctuation: PunctuationOption = None,
    offline: OfflineOption = False,
) -> None:
    """Transcribe the microphone live until Ctrl-C.

    Without --server a server of its own is started for the while.
    """
    if save is not None:
        _refuse(save.suffix.lower() not in (".wav", ".flac"), "--save", f"{save}: must end in .wav or .flac")
    if server is not None:
        _refuse(final_model is not None, "--final-model", "cannot be chosen by a client: it is the server's")
        _refuse(
            punctuation not in (None, "none"),
            "--punctuation",
            "cannot be chosen by a client: the model is the server's (none turns it off)",
        )
    from parastream.client.commands import mic as command
    from parastream.client.commands.composition import ModelChoice

    if list_devices:
        raise typer.Exit(command.print_devices())
    choice = ModelChoice(model=model, final_model=final_model, punctuation=punctuation, offline=offline)
    raise typer.Exit(command.run(choice, server=server, token=token, device=device, save=save))


@app.command()
def demo(
    pace: Annotated[
        float, typer.Option(min=0.1, help="1 is real time; 4 sends the recording four times as fast.")
    ] = 1.0,
) -> None:
    """Start a server and stream a sample recording of real speech through it."""
    from parastream.client.commands.demo import run

    raise typer.Exit(run(pace))


@app.command()
def doctor() -> None:
    """Show what parastream runs on: device, BLAS, versions, models, audio devices."""
    from parastream.client.doctor import run

    raise typer.Exit(run())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"parastream {installed_version('parastream')}")


@models_app.command("list")
def list_models() -> None:
    """List the models that have a name."""
    from parastream.client.commands import models

    models.print_models()


@models_app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A listed name, or a hub's ORG/MODEL.")],
) -> None:
    """Download a model into the cache and print where it is."""
    from parastream.client.commands import models

    models.download(name)


@models_app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Name or directory of a FunASR model.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New directory.")],
    dtype: Annotated[Precision, typer.Option(help="How weights are stored.")] = Precision.FLOAT16,
    offline: OfflineOption = False,
) -> None:
    """Convert a FunASR checkpoint to safetensors, which load faster and need no pickle."""
    from parastream.client.commands import models

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
    from parastream.client.commands import models

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
    from parastream.client.commands import models

    raise typer.Exit(models.check(name, recordings, offline=offline))


@bench_app.command()
def window(
    batch: Annotated[
        str, typer.Option(metavar="N,N…", help="How many sessions have a window at the same time.")
    ] = "1,4,16",
    model: BenchModelOption = None,
    dtype: DtypeOption = None,
    repeats: Annotated[int, typer.Option(min=1, help="Windows measured, of which the median counts.")] = 20,
    json: JsonOption = None,
) -> None:
    """Time of a streaming window, for each session of a batch.

    The model's step alone, on features of real speech, each session with its own; the look-back is full.
    """
    sizes = batch.split(",")
    _refuse(not all(size.isdecimal() and int(size) for size in sizes), "--batch", "needs whole numbers above 0: 1,16")
    from parastream.client.commands import bench_model

    raise typer.Exit(
        bench_model.window(model, [int(size) for size in sizes], repeats, json, dtype=dtype.value if dtype else None)
    )


@bench_app.command("offline")
def bench_offline(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE…]", help="Recordings; the sample that comes with it.")
    ] = None,
    model: BenchModelOption = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs, of which the median counts.")] = 3,
    json: JsonOption = None,
) -> None:
    """Real-time factor of whole recordings.

    As `transcribe` does them, one after the other; and the full-context pass alone over their utterances, batched by
    length.
    """
    from parastream.client.commands import bench_model

    raise typer.Exit(bench_model.offline(model, files or [], repeats, json))


@bench_app.command()
def clients(
    clients: Annotated[int, typer.Option(min=1, help="Clients; with --find-largest, the number to begin with.")] = 20,
    seconds: Annotated[float, typer.Option(min=2, help="How long each one speaks.")] = 30.0,
    find_largest: Annotated[
        bool,
        typer.Option(
            "--find-largest", help="Find the largest number with p95 of partial_ms under 1200 and nothing dropped."
        ),
    ] = False,
    model: BenchModelOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    json: JsonOption = None,
) -> None:
    """Latencies of many clients that speak all the time.

    They go through a real server, which is started as a process of its own unless --server names one. Each client
    sends real speech over and over in messages of 100 ms, from another place on and at another moment than the
    others; partials and the final pass are on.

    \b
    first_partial_ms         first speech of an utterance sent → its first partial with text
    partial_ms               start of the newest hop that a partial covers sent → partial; at least the model's
                             own look of 900 ms
    partial_beyond_look_ms   last audio that a partial needs sent → partial: partial_ms without the look
    final_after_endpoint_ms  audio with which silence is long enough to end an utterance sent → its final
    dropped                  sessions with an error, with lost audio, or with an utterance without a final
    cpu_cores                CPU seconds of the server for each second in which all clients speak
    rss_mb                   most memory that the server ever had; rss_idle_mb: before any client came;
                             rss_speaking_mb: at the end of the time in which all speak
    generator_cpu_cores      what this program itself takes of the machine
    largest_send_delay_ms    the latest that any audio was sent: whether this program kept up
    """
    _refuse(server is not None and model is not None, "--model", "has no use with --server")
    from parastream.client.commands import bench_clients

    setting = bench_clients.Setting(seconds, model, server, token)
    raise typer.Exit(bench_clients.run(setting, clients, json, find_largest=find_largest))


@bench_app.command()
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Results that --json wrote.")],
) -> None:
    """Print results side by side, as a Markdown table."""
    from parastream.client.commands import bench_results

    print(bench_results.table([file.stem for file in files], [bench_results.read(file) for file in files]))


def _refuse(condition: bool, option: str, message: str) -> None:
    if condition:
        raise typer.BadParameter(message, param_hint=option)


if __name__ == "__main__":
    main()
