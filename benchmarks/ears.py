"""Measure the word error rate of final passes: Whisper, Paraformer, and the better of the two by the rule.

    ./run python -m benchmarks.ears --set DIR/test.jsonl --set DIR/manifest.json [--whisper DIR] [--dtype int8]
        [--json FILE]

Each list has an object with `file` and `text` for every recording, in lines or in an array; `file` is beside the list
or in a folder there, FLAC at 16 kHz. Every recording is one utterance: there is no voice activity detection. Written
numbers are read in the way that fits best (see `spoken_forms`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import parastream.model
import soundfile
from numpy.typing import NDArray
from parastream.model.choice import choose
from parastream.model.final_pass import FinalInput, FinalPass, Hypothesis
from parastream.model.lanes import finish
from parastream.model.loading import load_final_pass

from benchmarks.spoken_forms import errors

BATCH = 8
"""Recordings in a batch, of about the same length."""


@dataclass(frozen=True)
class Row:
    """The figures of a set."""

    recordings: int
    words: int
    whisper: float
    """Word errors in percent, as the others."""
    paraformer: float
    by_the_rule: float
    best_of_both: float
    """With the better one of the two chosen by the reference, for comparison."""
    whisper_share: float
    """Percent of recordings for which the rule takes Whisper's text."""
    silenced: int
    """Recordings in which Whisper is sure that nobody speaks."""
    loops: int
    """Recordings in which Whisper was stopped because it repeated itself."""
    whisper_cost: float
    """Milliseconds of CPU for each second of audio, in batches of 8."""
    paraformer_cost: float


def main() -> None:
    """Measure every set and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Word error rates of final passes.")
    parser.add_argument("--set", type=Path, action="append", required=True, help="list of recordings", dest="sets")
    parser.add_argument("--whisper", default="whisper-tiny-en", help="name or directory")
    parser.add_argument("--dtype", choices=("float32", "int8"), help="type that Whisper is computed in")
    parser.add_argument("--paraformer", default="asr-small-en", help="name or directory")
    parser.add_argument("--most", type=int, help="most recordings of a set")
    parser.add_argument("--json", type=Path, help="file for all texts and figures")
    options = parser.parse_args()
    parastream.model.prepare_process()
    whisper, paraformer = load_final_pass(options.whisper, dtype=options.dtype), load_final_pass(options.paraformer)
    rows: dict[str, Row] = {}
    texts: dict[str, dict[str, dict[str, str]]] = {}
    for path in options.sets:
        known = read(path)
        known = dict(list(known.items())[: options.most])
        inputs = [FinalInput(samples(path.parent, name)) for name in known]
        firsts, first_cost = transcribe(whisper, inputs)
        seconds, second_cost = transcribe(paraformer, inputs)
        heard = list(zip(firsts, seconds, strict=True))
        rows[str(path)] = compare(list(known.values()), heard, (first_cost, second_cost))
        texts[str(path)] = {
            name: {"text": text, "whisper": one.text, "paraformer": other.text, "rule": choose(one, other).text}
            for (name, text), (one, other) in zip(known.items(), heard, strict=True)
        }
    print(table(rows))
    if options.json:
        result = {"figures": {name: asdict(row) for name, row in rows.items()}, "texts": texts}
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, str]:
    """Read the text of each recording, by its file as it is named in the list."""
    content = path.read_text(encoding="utf-8")
    entries = json.loads(content) if content.lstrip().startswith("[") else map(json.loads, content.splitlines())
    return {entry["file"]: entry["text"] for entry in entries}


def samples(folder: Path, name: str) -> NDArray[np.float32]:
    """Read a recording that a list in `folder` names."""
    path = next(folder.rglob(Path(name).name))
    found, rate = soundfile.read(path, dtype="float32")
    if rate != 16000:
        raise SystemExit(f"{path}: {rate} Hz; these recordings must have 16000")
    return np.asarray(found, np.float32)


def transcribe(ear: FinalPass, inputs: Sequence[FinalInput]) -> tuple[list[Hypothesis], float]:
    """Transcribe recordings in batches of about the same length; also return ms of CPU for a second of audio."""
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].samples))
    found: dict[int, Hypothesis] = {}
    began = time.process_time()
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        found |= zip(batch, finish(ear.transcribe_in_slices([inputs[i] for i in batch], steps=1)), strict=True)
    cost = 1000 * (time.process_time() - began) / sum(utterance.seconds for utterance in inputs)
    return [found[i] for i in range(len(inputs))], cost


def compare(known: Sequence[str], heard: Sequence[tuple[Hypothesis, Hypothesis]], costs: tuple[float, float]) -> Row:
    """Count the errors of Whisper, of Paraformer, and of what the rule takes."""
    words = sum(errors(text, "")[1] for text in known)
    chosen = [choose(one, other) for one, other in heard]
    first, second, ruled = (
        [errors(text, hypothesis.text)[0] for text, hypothesis in zip(known, hypotheses, strict=True)]
        for hypotheses in ([one for one, _ in heard], [other for _, other in heard], chosen)
    )
    return Row(
        recordings=len(known),
        words=words,
        whisper=100 * sum(first) / words,
        paraformer=100 * sum(second) / words,
        by_the_rule=100 * sum(ruled) / words,
        best_of_both=100 * sum(map(min, first, second)) / words,
        whisper_share=100 * sum(took.ear == one.ear for took, (one, _) in zip(chosen, heard, strict=True)) / len(known),
        silenced=sum(not took.words and took.no_speech > 0 for took in chosen),
        loops=sum(one.looped for one, _ in heard),
        whisper_cost=costs[0],
        paraformer_cost=costs[1],
    )


def table(rows: dict[str, Row]) -> str:
    """Format the rows in Markdown."""
    lines = [
        "| set | recordings | words | Whisper | Paraformer | by the rule | best of both | share of Whisper | loops |"
        " ms of CPU a second: Whisper | Paraformer |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row.recordings} | {row.words} | {row.whisper:.1f} | {row.paraformer:.1f} |"
            f" {row.by_the_rule:.1f} | {row.best_of_both:.1f} | {row.whisper_share:.0f} % | {row.loops} |"
            f" {row.whisper_cost:.0f} | {row.paraformer_cost:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
