"""Measure the words of whole recordings as the product hears them: by the command line, and by a server.

    ./run python -m benchmarks.words --set AN4/test.jsonl --set EVAL/manifest.json --text TEXT --into docs/benchmarks.md

Lists of recordings are as for `benchmarks.ears`, hotwords and distractors as for `benchmarks.search`. `parastream
transcribe` hears them with the best tokens, with the embedded language model, and with hotwords besides, with full
context and in windows (`--streaming`): first in its own process, then by a server, which is a process of its own and
never does without the language model (`--ears fixed`). The speech model is the embedded Paraformer alone.

`--into` writes the table into a document, in place of what is between the lines `<!-- words -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import parastream.model
import soundfile
from parastream.client.cli.bench.processes import server_process

from benchmarks.ears import read
from benchmarks.search import rare_words, recalled
from benchmarks.spoken_forms import errors

_MODELS = ("--model", "asr-small-en", "--final-model", "asr-small-en")
_FEW, _MANY = 100, 970
"""Distractors: with 30 hotwords, the second is as many as are allowed."""
_BEGIN, _END = "<!-- words -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Recordings:
    """A set, and the hotwords for it."""

    name: str
    texts: dict[str, str]
    """By file name."""
    files: Sequence[Path]
    seconds: float
    said: Sequence[str]
    others: Sequence[str]


@dataclass(frozen=True)
class Search:
    """How words are searched for."""

    name: str
    lm: bool
    distractors: int | None
    """Beside the hotwords; None: no hotwords."""


SEARCHES = [
    Search("best tokens", lm=False, distractors=None),
    Search("best tokens, hotwords", lm=False, distractors=_FEW),
    Search("language model", lm=True, distractors=None),
    Search("language model, hotwords", lm=True, distractors=_FEW),
    Search("language model, hotwords", lm=True, distractors=_MANY),
]


@dataclass(frozen=True)
class Figures:
    """What one way of hearing a set came to."""

    wrong: float
    """Percent of the words."""
    found: int
    """Of the hotwords that were said."""
    spoken: int
    false: int
    """Hotwords and distractors that were heard, but not said."""


def load_set(path: Path, text: Path, most: int | None) -> Recordings:
    """Read a list of recordings and choose its hotwords."""
    known = dict(list(read(path).items())[:most])
    files = [next(path.parent.rglob(Path(name).name)) for name in known]
    said, others = rare_words(list(known.values()), text, _MANY)
    texts = {file.name: text for file, text in zip(files, known.values(), strict=True)}
    seconds = sum(soundfile.info(file).duration for file in files)
    return Recordings(path.parent.name, texts, files, seconds, said, others)


def hotwords_of(recordings: Recordings, search: Search) -> list[str]:
    """Return the terms to listen for."""
    return [] if search.distractors is None else [*recordings.said, *recordings.others[: search.distractors]]


def heard_by(options: Sequence[str], recordings: Recordings, search: Search, *, whole: bool) -> Figures:
    """Have `parastream transcribe` hear a set."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as terms:
        terms.write("".join(f"{term}\n" for term in hotwords_of(recordings, search)))
        terms.flush()
        command = [sys.executable, "-m", "parastream.client.cli", "transcribe", *map(str, recordings.files)]
        command += ["--no-punctuation", "--format", "jsonl", *options, *([] if whole else ["--streaming"])]
        command += ["--hotwords", terms.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    heard = {Path(line["file"]).name: line["text"] for line in lines}
    pairs = [(text, heard[name]) for name, text in recordings.texts.items()]
    wrong, count = np.sum([errors(*pair) for pair in pairs], axis=0)
    texts, transcripts = [text for text, _ in pairs], [transcript for _, transcript in pairs]
    return Figures(100 * wrong / count, *recalled(texts, transcripts, recordings.said, recordings.others))


async def measure(sets: Sequence[Recordings]) -> list[str]:
    """Hear every set in every way; return the rows of the table."""
    rows = []
    for lm in (False, True):
        chosen = [] if lm else ["--lm", "none"]
        async with server_process([*_MODELS, *chosen, "--ears", "fixed"]) as server:
            for recordings in sets:
                for search in SEARCHES:
                    if search.lm is not lm:
                        continue
                    for whole in (True, False):
                        models = _MODELS if whole else _MODELS[:2]  # in windows there is no model for finals
                        own = heard_by([*models, *chosen], recordings, search, whole=whole)
                        before = server.usage().cpu_seconds
                        by_server = await asyncio.to_thread(
                            heard_by, ["--server", server.url], recordings, search, whole=whole
                        )
                        cost = 1000 * (server.usage().cpu_seconds - before) / recordings.seconds
                        rows.append(row(recordings, search, own, by_server, cost, whole=whole))
                        print(rows[-1], flush=True)
    return rows


def row(recordings: Recordings, search: Search, own: Figures, by_server: Figures, cost: float, *, whole: bool) -> str:
    """Return a row of the table."""
    terms = len(hotwords_of(recordings, search))
    name = search.name + (f" ({terms})" if terms else "")
    both = [own, by_server]
    cells = [
        " | ".join(f"{figures.wrong:.1f}" for figures in both),
        " | ".join(f"{figures.found} of {figures.spoken}" for figures in both),
        " | ".join(str(figures.false) for figures in both),
    ]
    form = "full" if whole else "windows"
    return f"| {recordings.name} | {name} | {form} | {' | '.join(cells)} | {cost:.0f} |"


def table(rows: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield (
        "| set | search | context | words wrong, CLI | server | hotwords found, CLI | server | falsely heard, CLI |"
        " server | ms of CPU a second, server |"
    )
    yield "|---" * 10 + "|"
    yield from rows


def write_into(document: Path, lines: Sequence[str]) -> None:
    """Put a table between its marks."""
    before, _, rest = document.read_text("utf-8").partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise SystemExit(f"{document} has no lines {_BEGIN.strip()} and {_END.strip()}")
    document.write_text(before + _BEGIN + "\n".join(lines) + "\n" + _END + after, "utf-8")


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description="Word error rates by the command line and by a server.")
    parser.add_argument("--set", type=Path, action="append", required=True, help="list of recordings", dest="sets")
    parser.add_argument("--text", type=Path, required=True, help="plain text that tells which words are rare")
    parser.add_argument("--most", type=int, help="most recordings of a set")
    parser.add_argument("--into", type=Path, help="document for the table")
    options = parser.parse_args()
    parastream.model.prepare_process()
    sets = [load_set(path, options.text, options.most) for path in options.sets]
    rows = asyncio.run(measure(sets))
    lines = list(table([line for each in sets for line in rows if line.startswith(f"| {each.name} |")]))
    print("\n".join(lines))
    if options.into is not None:
        write_into(options.into, lines)


if __name__ == "__main__":
    main()
