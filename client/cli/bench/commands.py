"""`parastream bench`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from parastream.client.cli.options import (
    BenchModelOption,
    ComputeOption,
    DtypeOption,
    FinalModelOption,
    HotwordsOption,
    JsonOption,
    LmOption,
    LmShareOption,
    LmWeightOption,
    PlainCommand,
    RefineOption,
    TokenOption,
    refuse,
)

bench_app = typer.Typer(
    help="Measure parastream on this machine; docs/benchmarks.md defines each figure.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@bench_app.command()
def window(
    batch: Annotated[
        str, typer.Option(metavar="N,N…", help="Numbers of sessions with a window at the same time.")
    ] = "1,4,16",
    model: BenchModelOption = None,
    compute: ComputeOption = None,
    dtype: DtypeOption = None,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of windows; the result is their median.")
    ] = 20,
    json: JsonOption = None,
) -> None:
    """Measure the time of a streaming window, for each session of a batch.

    This is the model's step alone, on features of real speech. Each session has its own, with a full look-back.
    """
    sizes = batch.split(",")
    refuse(not all(size.isdecimal() and int(size) for size in sizes), "--batch", "needs whole numbers above 0: 1,16")
    from parastream.model import prepare_process

    prepare_process()
    from parastream.client.cli.bench import inference

    computed: Any = {"compute": compute and compute.value, "dtype": dtype and dtype.value}
    raise typer.Exit(inference.window(model, [int(size) for size in sizes], repeats, json, **computed))


@bench_app.command("offline", cls=PlainCommand)
def bench_offline(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Recordings.  [default: the sample that comes with parastream]"),
    ] = None,
    model: BenchModelOption = None,
    compute: ComputeOption = None,
    dtype: DtypeOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_share: LmShareOption = None,
    lm_weight: LmWeightOption = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Number of runs; the result is their median.")] = 3,
    json: JsonOption = None,
) -> None:
    """Measure the real-time factor of whole recordings.

    Two ways: as `transcribe` does them, one after the other; and the full-context pass alone over their utterances,
    batched by length.
    """
    from parastream.model import prepare_process

    prepare_process()
    from parastream.client.cli.bench import inference
    from parastream.client.cli.composition import language_model
    from parastream.model.hotwords import read_hotwords

    expected = () if hotwords is None else read_hotwords(hotwords)
    words: Any = {"lm": language_model(lm, lm_share, lm_weight), "hotwords": expected}
    computed: Any = {"compute": compute and compute.value, "dtype": dtype and dtype.value}
    raise typer.Exit(inference.offline(model, files or [], repeats, json, **words, **computed))


_CLIENTS_HELP = """\
Measure the latencies of many clients that speak all the time.

They go through a real server: those that --server names, or one started as a separate process. Each client
repeats real speech in messages of 100 ms, and begins at another place and another moment than the others.
Partials and the final pass are on.

\b
first_partial_ms         first speech of an utterance sent → its first partial with text
partial_ms               start of the newest hop that a partial covers sent → partial; at least the model's
                         own look of 900 ms
partial_beyond_look_ms   last audio that a partial needs sent → partial: partial_ms without the look
final_after_endpoint_ms  audio with which silence is long enough to end an utterance sent → its final
finals_forgone           finals that went out without the better of two ears
partials_refined         share of the partials of which the better ear has heard a part
dropped                  sessions with an error, with lost audio, or with an utterance without a final
cpu_cores                CPU seconds of the server for each second in which all clients speak
rss_mb                   peak memory of the server; rss_idle_mb: before the first client;
                         rss_speaking_mb: at the end of the time in which all speak
generator_cpu_cores      CPU seconds of this program for each such second
largest_send_delay_ms    longest delay in sending audio: whether this program kept up
"""


@bench_app.command(help=_CLIENTS_HELP)
def clients(
    clients: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of clients; with --find-largest, the first one to try.")
    ] = 20,
    seconds: Annotated[float, typer.Option(min=2, metavar="SECONDS", help="How long each client speaks.")] = 30.0,
    find_largest: Annotated[
        bool,
        typer.Option(
            "--find-largest", help="Find the largest number with p95 of partial_ms under 1200 and nothing dropped."
        ),
    ] = False,
    model: BenchModelOption = None,
    final_model: FinalModelOption = None,
    refine: RefineOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_share: LmShareOption = None,
    lm_weight: LmWeightOption = None,
    compute: ComputeOption = None,
    dtype: DtypeOption = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="A running server, such as ws://127.0.0.1:8765; more than once: several that share the clients.",
        ),
    ] = None,
    token: TokenOption = None,
    json: JsonOption = None,
) -> None:
    """Measure the latencies of many clients that speak all the time."""
    given: dict[str, object] = {
        "--model": model,
        "--final-model": final_model,
        "--refine": refine,
        "--hotwords": hotwords,
        "--lm": lm,
        "--lm-share": lm_share,
        "--lm-weight": lm_weight,
        "--compute": compute,
        "--dtype": dtype,
    }
    options = {name: str(value) for name, value in given.items() if value is not None}
    for name in options:
        refuse(bool(server), name, "cannot be used with --server")
    from parastream.client.cli.bench import clients as command

    setting = command.Setting(seconds, options, tuple(server or ()), token)
    raise typer.Exit(command.run(setting, clients, json, find_largest=find_largest))


@bench_app.command(cls=PlainCommand)
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Results that --json wrote.")],
) -> None:
    """Print results side by side, as a Markdown table."""
    from parastream.client.cli.bench import results

    print(results.table([file.stem for file in files], [results.read(file) for file in files]))
