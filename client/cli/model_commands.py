"""`parastream models`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from parastream.client.cli.options import Bits, GroupSize, OfflineOption, PlainCommand, Precision

models_app = typer.Typer(
    help="List, download, convert, quantize and check models.", no_args_is_help=True, rich_markup_mode=None
)


@models_app.command("list")
def list_models() -> None:
    """List the models that have a name."""
    from parastream.client.cli import models

    models.print_models()


@models_app.command(cls=PlainCommand)
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from the list, or ORG/MODEL on a hub.")],
) -> None:
    """Download a model into the cache and print where it is."""
    from parastream.client.cli import models

    models.download(name)


@models_app.command(cls=PlainCommand)
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Name or directory of a FunASR model.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New directory.")],
    dtype: Annotated[Precision, typer.Option(help="Type in which weights are stored.")] = Precision.FLOAT16,
    offline: OfflineOption = False,
) -> None:
    """Convert a FunASR checkpoint to safetensors, which load faster and need no pickle."""
    from parastream.model import prepare_process

    prepare_process()
    from parastream.client.cli import models

    models.convert(source, destination, dtype.value, offline=offline)


@models_app.command(cls=PlainCommand)
def quantize(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Name or directory of a model.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New directory.")],
    bits: Annotated[Bits, typer.Option(help="Bits per weight.")] = Bits.EIGHT,
    group_size: Annotated[GroupSize, typer.Option(help="Number of weights that share a scale.")] = GroupSize.MEDIUM,
    dtype: Annotated[
        Precision, typer.Option(help="Type of the scales, and of weights that are not quantised.")
    ] = Precision.FLOAT16,
    offline: OfflineOption = False,
) -> None:
    """Make a model smaller: its linear layers in 8, 6 or 4 bits.

    A GPU computes with the quantised weights. A CPU converts them to float32 when it loads them, so that the model
    takes less space on disk, but no less memory or time.
    """
    from parastream.model import prepare_process

    prepare_process()
    from parastream.client.cli import models

    models.quantize(source, destination, int(bits), int(group_size), dtype.value, offline=offline)


@models_app.command(cls=PlainCommand)
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="Speech or punctuation model.")],
    compared: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Recordings on which to compare what a CPU hears in 8 bits with what it hears in float32.",
            show_default=False,
        ),
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Recordings with a golden.json of known texts, which the model must reproduce.",
        ),
    ] = None,
    offline: OfflineOption = False,
) -> None:
    """Load a model strictly, run it once, and compare its output with known texts, or in 8 bits and in float32."""
    from parastream.model import prepare_process

    prepare_process()
    from parastream.client.cli import models

    raise typer.Exit(models.check(name, recordings, compared or [], offline=offline))
