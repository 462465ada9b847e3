"""Measure what a final pass of Whisper costs on a CPU, in each form that it can be computed in.

    ./run python -m benchmarks.final_cost DIR [--whisper NAME|DIR] [--runs 5]

For each length, the recording of DIR (FLAC or WAV, 16 kHz) that is closest to it. The forms take turns in one process;
figures are medians, of the CPU time of all threads and of the time on the wall.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import parastream.model
import soundfile
from parastream.model.computing import Compute, ComputeType
from parastream.model.final_pass import FinalInput, FinalPass
from parastream.model.lanes import finish
from parastream.model.loading import load_final_pass

FORMS: tuple[tuple[Compute, ComputeType], ...] = (("mlx", "float32"), ("graphs", "float32"), ("graphs", "int8"))
LENGTHS = (2, 5, 10)
"""Seconds."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Cost of a final pass.")
    parser.add_argument("recordings", type=Path, help="folder of recordings")
    parser.add_argument("--whisper", default="whisper-tiny-en", help="name or directory")
    parser.add_argument("--runs", type=int, default=5, help="of each form and length")
    options = parser.parse_args()
    parastream.model.prepare_process()
    ears = {form: load_final_pass(options.whisper, compute=form[0], dtype=form[1]) for form in FORMS}
    paths = [path for path in options.recordings.rglob("*") if path.suffix in (".flac", ".wav")]
    seconds = {path: soundfile.info(path).duration for path in paths}
    print("| seconds | tokens | " + " | ".join(" in ".join(form) for form in FORMS) + " |")
    print("|---" * (2 + len(FORMS)) + "|")
    for length in LENGTHS:
        path = min(seconds, key=lambda path: abs(seconds[path] - length))
        utterance = FinalInput(soundfile.read(path, dtype="float32")[0])
        costs: defaultdict[tuple[Compute, ComputeType], list[tuple[float, float]]] = defaultdict(list)
        for _ in range(options.runs):
            for form, ear in ears.items():
                tokens, cost = measured(ear, utterance)
                costs[form].append(cost)
        cells = (
            " (".join(f"{1000 * median(values):.0f}" for values in zip(*costs[form], strict=True)) for form in FORMS
        )
        print(f"| {utterance.seconds:.1f} | {tokens} | " + " | ".join(f"{cell})" for cell in cells) + " |")


def measured(ear: FinalPass, utterance: FinalInput) -> tuple[int, tuple[float, float]]:
    """Return the tokens of a pass, and the seconds that it took of CPU and on the wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    (found,) = finish(ear.transcribe_in_slices([utterance], steps=1))
    return len(found.tokens), (time.process_time() - cpu, time.perf_counter() - wall)


if __name__ == "__main__":
    main()
