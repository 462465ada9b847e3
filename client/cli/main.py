"""The command line `parastream`: options and help; each command's work is in `parastream.client.cli`.

Only the command that runs is imported, so that help and wrong usage answer at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal

import typer
from parastream.client.cli.bench.commands import bench_app
from parastream.client.cli.lm_commands import lm_app
from parastream.client.cli.model_commands import models_app
from parastream.client.cli.options import (
    ClusterCommand,
    ComputeOption,
    DtypeOption,
    Ears,
    FinalModelOption,
    ForceOption,
    HotwordsOption,
    JobsOption,
    LabelOption,
    Language,
    LanguageOption,
    LineLengthOption,
    LinesOption,
    LmOption,
    LmShareOption,
    LmWeightOption,
    LogLevel,
    MaxCueOption,
    MaxSpeedOption,
    MinCueOption,
    ModelOption,
    OfflineOption,
    PlainCommand,
    ProfanityOption,
    PunctuationOption,
    RayOption,
    RefineOption,
    ReplaceOption,
    ServerOption,
    TokenOption,
    check_cluster,
    refuse,
    refuse_choices_of_server,
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
app.add_typer(models_app, name="models")
app.add_typer(lm_app, name="lm")
app.add_typer(bench_app, name="bench")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with 0 if it succeeds, 1 if it fails, 2 if it was called wrongly."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal that is not UTF-8 cannot show is escaped; stderr does that by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
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
    """Return whether an error's message is all that the user needs.

    Errors of modules that have not been loaded cannot have occurred.
    """
    expected: list[type[Exception]] = [OSError]
    for module, name in (
        ("parastream.model.errors", "ParastreamError"),
        ("parastream.client.errors", "ClientError"),
        ("parastream.media.decoding", "SourceError"),
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
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port; 0 picks a free one.  [default: 8765]")] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    language: LanguageOption = None,
    ears: Annotated[
        Ears | None,
        typer.Option(
            "--ears",
            help="fixed: finals always wait for the better of two ears; auto: not where they would be late."
            "  [default: auto]",
        ),
    ] = None,
    refine: RefineOption = None,
    punctuation: PunctuationOption = None,
    replace: ReplaceOption = None,
    profanity: ProfanityOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_share: LmShareOption = None,
    lm_weight: LmWeightOption = None,
    compute: ComputeOption = None,
    dtype: DtypeOption = None,
    engines: Annotated[
        int | None,
        typer.Option(metavar="N", help="Engines in processes of their own.  [default: 0, in the server's process]"),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="N,…", help="GPUs of the engines, in turn.  [default: all have the first]")
    ] = None,
    offline: OfflineOption = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file with any of the settings.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", help="What clients must present; required if other machines can reach the address."
        ),
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option("--allow-anonymous", help="Let other machines connect without a token."),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--origin",
            metavar="URL",
            help="Web origin whose pages may connect, such as https://example.org; repeatable.",
        ),
    ] = None,
    viewer_token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Token that only lets its holders watch caption rooms.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PORT", help="Another port, for one protocol: funasr=10095, vosk=2700 …; repeatable."
        ),
    ] = None,
    announce: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Announce the Wyoming port in the local network, for Home Assistant."),
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="Certificate (chain) for TLS.")] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Private key, unless it is in the same file.")
    ] = None,
    target_utilisation: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the machine's time that sessions may take; further ones are refused.  [default: 0.85]",
        ),
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of concurrent sessions.")
    ] = None,
    max_viewers: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of viewers of caption rooms.")
    ] = None,
    max_session: Annotated[float | None, typer.Option(metavar="SECONDS", help="Maximum length of a session.")] = None,
    max_message: Annotated[int | None, typer.Option(metavar="BYTES", help="Maximum size of a message.")] = None,
    save: Annotated[
        str | None, typer.Option(metavar="DIR", help="Save the transcript of each session there as it grows.")
    ] = None,
    idle_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Time without audio after which a session ends.")
    ] = None,
    ping_interval: Annotated[float | None, typer.Option(metavar="SECONDS", help="Time between pings.")] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            help="Least severe messages to log: info reports sessions and connections, debug also the engine's work.  "
            "[default: warning]",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The same as --log-level info.")] = False,
) -> None:
    """Serve speech recognition over WebSockets.

    Each setting may also come from the environment (PARASTREAM_PORT …) or from the file. Options override the
    environment, and the environment overrides the file.
    """
    refuse(verbose and log_level is not None, "--verbose", "cannot be used with --log-level")
    _prepare()
    from parastream.client.cli.serve import run

    flags = {
        "host": host,
        "port": port,
        "model": model,
        "final_model": final_model,
        "language": language,
        "ears": ears.value if ears else None,
        "refine": refine.value if refine else None,
        "punctuation": punctuation,
        "replace": str(replace) if replace else None,
        "profanity": profanity.value if profanity else None,
        "hotwords": str(hotwords) if hotwords else None,
        "lm": lm,
        "lm_share": lm_share,
        "lm_weight": lm_weight,
        "compute": compute.value if compute else None,
        "dtype": dtype.value if dtype else None,
        "engines": engines,
        "devices": tuple(devices.split(",")) if devices else None,
        "token": token,
        "allow_anonymous": allow_anonymous,
        "viewer_token": viewer_token,
        "origins": tuple(origins) if origins else None,
        "listen": tuple(listen) if listen else None,
        "announce": announce,
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


@app.command(cls=ClusterCommand)
def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR|@LIST",
            help="Recordings or videos of nearly any kind; - is the standard input. With --output, also all in a"
            " directory, or in a list with a name a line, but for those that have a transcript there.",
        ),
    ],
    server: ServerOption = None,
    token: TokenOption = None,
    pace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SPEED",
            help="With --server: 1 sends at real-time speed, 0 as fast as the server accepts.  [default: 0]",
        ),
    ] = None,
    jobs: JobsOption = None,
    ray: RayOption = None,
    force: ForceOption = False,
    form: Annotated[
        TranscriptFormat, typer.Option("--format", "-f", help="Format of the transcripts.")
    ] = TranscriptFormat.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write one file for each recording there."),
    ] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    language: LanguageOption = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Print the text of the streaming pass, without a second pass.")
    ] = False,
    punctuation: PunctuationOption = None,
    no_punctuation: Annotated[
        bool,
        typer.Option("--no-punctuation", help="Print words without punctuation and capitals."),
    ] = False,
    itn: Annotated[
        bool,
        typer.Option("--itn", help="Print numbers, dates, times and amounts as people write them (English, Mandarin)."),
    ] = False,
    replace: ReplaceOption = None,
    profanity: ProfanityOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_share: LmShareOption = None,
    lm_weight: LmWeightOption = None,
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Channel to transcribe, counted from 0; all: each one separately, with its label.  "
            "[default: all of them mixed]",
        ),
    ] = None,
    label: LabelOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="With --server: save each session there as it grows."),
    ] = None,
    line_length: LineLengthOption = None,
    lines: LinesOption = None,
    min_cue: MinCueOption = None,
    max_cue: MaxCueOption = None,
    max_speed: MaxSpeedOption = None,
    compute: ComputeOption = None,
    dtype: DtypeOption = None,
    offline: OfflineOption = False,
) -> None:
    """Transcribe recordings, here or through a running server.

    A recording that fails or is damaged is reported on stderr. What can be read of it is transcribed, and so are the
    others; the exit status is 1 then.
    """
    if server is None:
        refuse(pace is not None, "--pace", "needs --server")
        refuse(save is not None, "--save", "needs --server")
    else:
        given = {"lm": lm, "lm_share": lm_share, "lm_weight": lm_weight, "compute": compute, "dtype": dtype}
        refuse_choices_of_server(punctuation, final_model=final_model, **given)
        refuse(offline, "--offline", "cannot be used with --server")
        refuse(ray is not None, "--ray", "cannot be used with --server")
    check_cluster(ray, files)
    refuse(
        streaming and final_model is not None,
        "--final-model",
        "cannot be used with --streaming, which has no second pass",
    )
    refuse(not (channel is None or channel == "all" or channel.isdecimal()), "--channel", "must be a number or all")
    refuse(bool(label) and channel != "all", "--label", "needs --channel all")
    style = style_of(form, line_length=line_length, lines=lines, min_cue=min_cue, max_cue=max_cue, max_speed=max_speed)
    archive = [file for file in files if str(file).startswith("@") or file.is_dir()]
    refuse(bool(archive) and output is None, "--output", f"is needed for {archive[0] if archive else ''}")
    refuse(force and not archive, "--force", "is for directories and lists: other transcripts are always made anew")
    if output is None:
        refuse(
            len(files) > 1 and form in (TranscriptFormat.SRT, TranscriptFormat.VTT),
            "--output",
            f"is needed to write {form.value} for several recordings",
        )
    elif not archive:
        names: dict[str, Path] = {}
        for file in files:
            stem = "stdin" if file == Path("-") else file.stem
            other = names.setdefault(stem, file)
            refuse(other is not file, "FILE", f"{other} and {file} would both become {stem}{form.suffix}")

    _prepare()
    from parastream.client.cli import archive as archives
    from parastream.client.cli import backends, cluster, workers
    from parastream.client.cli import transcribe as command
    from parastream.client.cli.composition import ModelChoice, language_model, read_rules
    from parastream.model import catalogue
    from parastream.model import profanity as swearing
    from parastream.model.hotwords import read_hotwords

    rules = read_rules(replace)
    expected = () if hotwords is None else read_hotwords(hotwords)
    chosen: int | Literal["all"] | None = None if channel is None else "all" if channel == "all" else int(channel)
    channels = backends.ChannelChoice(chosen, label or ())
    punctuate = not no_punctuation and punctuation != "none"
    backend: backends.Backend
    if server is None:
        choice = ModelChoice(
            model=model or (catalogue.DEFAULT if streaming else None),  # which has no final pass
            final_model=final_model,
            language=language,
            punctuation=punctuation if punctuate else "none",
            offline=offline,
            compute=compute.value if compute else None,
            dtype=dtype.value if dtype else None,
            lm=language_model(lm, lm_share, lm_weight),
        )
        local = backends.LocalBackend(
            choice,
            final_pass=not streaming,
            channels=channels,
            itn=itn,
            replacements=rules.before(swearing.rules(profanity.value if profanity else "keep")),
            hotwords=expected,
        )
        if ray is not None:
            backend = cluster.ClusterBackend(local, ray, jobs)
        else:
            backend = local if jobs in (None, 1) else workers.ProcessesBackend(local, jobs)
    else:
        backend = backends.RemoteBackend(
            server,
            token=token,
            model=model or "",
            language=language or "",
            punctuate=punctuate,
            final_pass=not streaming,
            channels=channels,
            pace=pace or 0.0,
            at_once=jobs or 4,
            itn=itn,
            replace=rules.lines,
            profanity=profanity.value if profanity else "",
            hotwords=expected,
            save=save,
        )
    written = command.Form(form, style)
    if archive:
        assert output is not None
        raise typer.Exit(archives.run(files, backend, written, output, force=force))
    raise typer.Exit(command.run(files, backend, written, output))


@app.command("itn")
def normalise(
    language: Annotated[Language, typer.Option("--language", help="What is spoken.")],
) -> None:
    """Write the numbers in lines of text as people write them: a sentence in, a sentence out.

    Each line of the standard input goes to the standard output at once, so this can stand in a pipe.
    """
    from parastream.client.cli.itn import run

    raise typer.Exit(run(language.value))


@app.command(cls=PlainCommand)
def subtitles(
    journal: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="A saved session.")],
    form: Annotated[
        TranscriptFormat, typer.Option("--format", "-f", help="Format of the transcript.")
    ] = TranscriptFormat.SRT,
    label: LabelOption = None,
    line_length: LineLengthOption = None,
    lines: LinesOption = None,
    min_cue: MinCueOption = None,
    max_cue: MaxCueOption = None,
    max_speed: MaxSpeedOption = None,
) -> None:
    """Print a saved session in another format or style, or with other names.

    The option --save of mic, transcribe and serve saves sessions.
    """
    style = style_of(form, line_length=line_length, lines=lines, min_cue=min_cue, max_cue=max_cue, max_speed=max_speed)
    from parastream.client.cli.subtitles import run

    run(journal, form, style, label or ())


@app.command()
def mic(
    server: ServerOption = None,
    token: TokenOption = None,
    device: Annotated[
        str | None, typer.Option(metavar="INDEX|NAME", help="Microphone.  [default: the system's]")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the microphones and exit.")] = False,
    channels: Annotated[
        int,
        typer.Option(
            min=1,
            max=8,
            metavar="N",
            help="Channels to record, one for each speaker; each is transcribed separately, with its label.",
        ),
    ] = 1,
    label: LabelOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Save the transcript there as it grows, in four formats."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Save the audio, as .wav or .flac.")
    ] = None,
    model: ModelOption = None,
    final_model: FinalModelOption = None,
    language: LanguageOption = None,
    refine: RefineOption = None,
    punctuation: PunctuationOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_share: LmShareOption = None,
    lm_weight: LmWeightOption = None,
    compute: ComputeOption = None,
    dtype: DtypeOption = None,
    offline: OfflineOption = False,
) -> None:
    """Transcribe the microphone live until Ctrl-C.

    Without --server, this starts a server of its own for as long as it runs.
    """
    if record is not None:
        refuse(record.suffix.lower() not in (".wav", ".flac"), "--record", f"{record}: must end with .wav or .flac")
    refuse(len(label or ()) > channels, "--label", f"there are more names than channels ({channels})")
    if server is not None:
        given = {"lm": lm, "lm_share": lm_share, "lm_weight": lm_weight, "compute": compute, "dtype": dtype}
        refuse_choices_of_server(punctuation, final_model=final_model, refine=refine, **given)
    _prepare()
    from parastream.client.cli import mic as command
    from parastream.client.cli.composition import ModelChoice, language_model
    from parastream.model.hotwords import read_hotwords

    if list_devices:
        raise typer.Exit(command.print_devices())
    refining: Literal["auto", "off"] = "off" if refine == "off" else "auto"
    choice = ModelChoice(
        model=model,
        final_model=final_model,
        language=language,
        refine=refining,
        punctuation=punctuation,
        offline=offline,
        compute=compute.value if compute else None,
        dtype=dtype.value if dtype else None,
        lm=language_model(lm, lm_share, lm_weight),
    )
    expected = () if hotwords is None else read_hotwords(hotwords)
    capture = command.Capture(device, channels, label or (), record, save)
    raise typer.Exit(command.run(choice, capture, server=server, token=token, hotwords=expected))


@app.command()
def demo(
    pace: Annotated[
        float, typer.Option(min=0.1, metavar="SPEED", help="1 is real time; 4 sends the recording four times as fast.")
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
