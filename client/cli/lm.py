"""`parastream lm train`: text to a language model."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from parastream.media.decoding import STANDARD_INPUT
from parastream.model.errors import LanguageModelError
from parastream.model.language.files import SUFFIX, save
from parastream.model.language.training import train as train_model
from rich.console import Console

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_LONGEST = 12
"""Characters of the longest n-grams that can be asked for."""
_DAMAGED = (EOFError, lzma.LZMAError, gzip.BadGzipFile)


def train(texts: Sequence[Path], output: Path, *, order: int, largest: int) -> None:
    """Train a model on some files and write it.

    Raises:
        LanguageModelError: A text cannot be used.
        OSError: A file cannot be read or written.
    """
    if output.suffix != SUFFIX:
        raise LanguageModelError(f"{output}: the name of a language model ends with {SUFFIX}")
    if not 2 <= order <= _LONGEST:
        raise LanguageModelError(f"--order is {order}; allowed are 2 to {_LONGEST}")
    if largest < 1:
        raise LanguageModelError(f"--largest is {largest}; allowed is 1 or more")
    began = time.monotonic()
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryFile() as kept, console.status("") as status:
        if STANDARD_INPUT in texts:  # which is read twice
            kept.writelines(sys.stdin.buffer)
        model = train_model(
            lambda: _lines(texts, kept), order=order, largest=largest, progress=lambda text: status.update(text)
        )
    save(model, output)
    size, seconds = output.stat().st_size / 1e6, time.monotonic() - began
    console.print(
        f"{output}: {len(model.table.keys)} n-grams of up to {model.order} of {len(model.alphabet.characters)}"
        f" characters; {size:.1f} MB, in {seconds:.0f} s",
        markup=False,
        soft_wrap=True,
    )


def _lines(texts: Sequence[Path], standard_input: BinaryIO) -> Iterator[str]:
    for path in texts:
        if path == STANDARD_INPUT:
            standard_input.seek(0)
            yield from _decoded(path, standard_input)
            continue
        opener: Callable[..., Any] = _OPENERS.get(path.suffix, open)
        with opener(path, "rb") as file:
            yield from _decoded(path, file)


def _decoded(path: Path, file: BinaryIO) -> Iterator[str]:
    try:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise LanguageModelError(f"{path}, line {number}: not UTF-8 ({error})") from error
    except _DAMAGED as error:
        raise LanguageModelError(f"{path}: damaged ({error})") from error
