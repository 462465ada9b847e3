"""`parastream transcribe` for archives: whole directories, or lists of recordings, into a directory of transcripts.

The directory of transcripts is all the memory there is of what has been done: what is there is left out, and a
transcript is there only when it is complete. So work that was broken off goes on where it was, here or elsewhere.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parastream.client.cli.backends import Backend
from parastream.client.cli.interrupts import run_interruptible
from parastream.client.cli.transcribe import Form, Writer, prepare, transcribe
from parastream.media.decoding import display_name

_TOGETHER = 256
"""Recordings that are looked at together, at least: all that is in memory of an archive."""
_EACH = 32
"""How many of these there are for each that is transcribed at a time. At their end, all wait for the last one."""
_MOST_NAMED = 20
"""Failures that the summary names."""

SUFFIXES = frozenset(
    [
        *(".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac"),
        *(".flv", ".gsm", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm", ".spx", ".tta"),
        *(".ts", ".vob", ".voc", ".w64", ".wav", ".webm", ".wma", ".wmv", ".wv"),
    ]
)
"""Endings of recordings; in a directory, other files are left out."""


@dataclass(frozen=True)
class Entry:
    """A recording of an archive."""

    file: Path
    target: Path
    """Where its transcript goes."""


def recordings(arguments: Sequence[Path], output: Path, suffix: str) -> Iterator[Entry]:
    """Yield the recordings of directories and lists in a fixed order, and those that are named themselves.

    A transcript goes to the place that its recording has below its directory; those of a list go to the path that the
    list gives.

    Raises:
        OSError: A directory or list cannot be read.
    """
    for argument in arguments:
        if str(argument).startswith("@"):
            for file in _listed(Path(str(argument)[1:])):
                yield Entry(file, output / _below(file).with_suffix(suffix))
        elif argument.is_dir():
            for file in _found(argument):
                yield Entry(file, output / file.relative_to(argument).with_suffix(suffix))
        else:
            yield Entry(argument, output / f"{argument.stem}{suffix}")


def _found(directory: Path) -> Iterator[Path]:
    names = sorted(os.listdir(directory))
    for name in names:
        path = directory / name
        if path.is_dir():
            if not path.is_symlink():  # which may lead back
                yield from _found(path)
        elif path.suffix.lower() in SUFFIXES and not name.startswith("."):
            yield path


def _listed(listing: Path) -> Iterator[Path]:
    with listing.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if name := line.rstrip("\r\n"):
                yield Path(name)


def _below(file: Path) -> Path:
    """Return a path without what leads out of the directory that it is put into."""
    return Path(*(part for part in Path(os.path.normpath(file)).parts if part not in (os.sep, "..")))


@dataclass
class Summary:
    """What became of an archive."""

    done: int = 0
    """Transcripts written, those of damaged recordings included."""
    there: int = 0
    failures: list[str] = field(default_factory=list)
    """The first of them."""
    failed: int = 0

    def fail(self, file: Path) -> None:
        """Count a recording of which something is missing."""
        self.failed += 1
        if self.failed <= _MOST_NAMED:
            self.failures.append(display_name(file))

    def print(self) -> None:
        """Print it on stderr."""
        parts = [f"{self.done:,} transcribed"]
        if self.there:
            parts.append(f"{self.there:,} had been there")
        if self.failed:
            parts.append(f"{self.failed:,} failed, at least in part:")
        print(", ".join(parts), file=sys.stderr)
        for name in self.failures:
            print(f"  {name}", file=sys.stderr)
        if self.failed > len(self.failures):
            print(f"  and {self.failed - len(self.failures):,} more", file=sys.stderr)


def run(arguments: Sequence[Path], backend: Backend, form: Form, output: Path, *, force: bool) -> int:
    """Transcribe archives and return the exit status: 1 if a recording failed, at least in part.

    Args:
        arguments: Directories, `@` and the name of a list, or recordings.
        backend: How to transcribe.
        form: How transcripts are written.
        output: Directory of the transcripts.
        force: Whether those that are there are made anew.

    Raises:
        ParastreamError: Nothing could be transcribed, for example because a model cannot be loaded.
        OSError: A directory or list cannot be read.
    """
    wanted = _wanted(recordings(arguments, output, form.suffix), summary := Summary(), force=force)
    if (first := next(wanted, None)) is None:
        summary.print()
        return 0
    if (status := prepare(backend)) is not None:
        return status
    try:
        return run_interruptible(_run(itertools.chain([first], wanted), backend, form, summary))
    finally:
        backend.close()


def _wanted(found: Iterator[Entry], summary: Summary, *, force: bool) -> Iterator[Entry]:
    """Yield the recordings that are to be transcribed, and count the others."""
    taken: set[int] = set()
    for entry in found:
        key = hash(entry.target)  # a number for each takes less memory than its name
        if key in taken:
            target = display_name(entry.target)
            print(f"error: {display_name(entry.file)}: another recording becomes {target}, too", file=sys.stderr)
            summary.fail(entry.file)
            continue
        taken.add(key)
        if not force and entry.target.exists():
            summary.there += 1
        else:
            yield entry


async def _run(wanted: Iterator[Entry], backend: Backend, form: Form, summary: Summary) -> int:
    together = max(_TOGETHER, _EACH * backend.at_once)
    try:
        while some := list(itertools.islice(wanted, together)):
            files = [entry.file for entry in some]
            writer = Writer(files, form, [entry.target for entry in some])
            try:
                await transcribe(files, backend, writer)
            finally:  # after Ctrl-C, too
                summary.done += writer.written
                for index in sorted(writer.failed):
                    summary.fail(files[index])
    finally:
        summary.print()
    return 1 if summary.failed else 0
