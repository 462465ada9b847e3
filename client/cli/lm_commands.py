"""`parastream lm`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from parastream.client.cli.options import PlainCommand

lm_app = typer.Typer(help="Train language models.", no_args_is_help=True, rich_markup_mode=None)


@lm_app.callback()
def lm() -> None:
    """Train language models."""


@lm_app.command(cls=PlainCommand)
def train(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT",
            help="Plain text in UTF-8, a sentence a line, also compressed (.gz, .xz, .bz2); - is the standard input.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NAME.lm", help="The new file.")],
    order: Annotated[
        int, typer.Option(metavar="N", help="Characters of the longest n-grams, 2 to 12; fewer for Mandarin.")
    ] = 8,
    largest: Annotated[
        int, typer.Option(metavar="N", help="Most n-grams to keep, about: each takes 2 to 3 bytes on disk.")
    ] = 1_200_000,
) -> None:
    """Train a language model on text of a subject, for --lm.

    A few thousand sentences help already. The model is mixed with a general one, so it needs no general text.
    """
    from parastream.client.cli import lm as command

    command.train(texts, output, order=order, largest=largest)
