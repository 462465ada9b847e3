"""Measure what a final costs with a model that listens for hotwords by itself (SeACo): full size, random weights.

    ./run python -m benchmarks.listening [--compute graphs|mlx] [--dtype float32|int8] [--seconds 5] [--runs 5]

Lists of several lengths take turns. Figures are milliseconds of CPU time of all threads, medians; a list is new in its
first pass and known in all others. The last row is the same network without hotwords and without its head for times.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
import parastream.model
from numpy.typing import NDArray
from parastream.model import random_weights
from parastream.model.computing import Compute, ComputeType
from parastream.model.final_pass import SAMPLE_RATE, FinalInput, FinalPass
from parastream.model.hotwords import Hotword, Hotwords
from parastream.model.lanes import finish
from parastream.model.loading import load_final_pass

LISTS = (0, 10, 50, 200, 1000)
"""Hotwords."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Cost of listening for hotwords.")
    parser.add_argument("--compute", choices=get_args(Compute), default="graphs")
    parser.add_argument("--dtype", choices=("float32", "int8"), default="float32")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the utterance")
    parser.add_argument("--runs", type=int, default=5, help="passes with each list, besides the first")
    options = parser.parse_args()
    parastream.model.prepare_process()
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 0.05, round(options.seconds * SAMPLE_RATE)).astype(np.float32)
    names = random_weights.tokens()[3:-1]
    lists = {count: tuple(Hotword("".join(rng.choice(names, 3))) for _ in range(count)) for count in LISTS}
    ear = loaded("random-full-seaco", options.compute, options.dtype)
    costs: defaultdict[int, list[float]] = defaultdict(list)
    for _ in range(options.runs + 1):
        for count, hotwords in lists.items():
            costs[count].append(measured(ear, samples, hotwords))
    del ear
    plain = loaded("random-full", options.compute, options.dtype)
    without = median([measured(plain, samples, ()) for _ in range(options.runs + 1)][1:])
    print(f"| hotwords | pass over {options.seconds:g} s | the first pass with a list |")
    print("|---" * 3 + "|")
    for count, (first, *others) in costs.items():
        print(f"| {count} | {median(others):.0f} | {first:.0f} |")
    print(f"| none, nor times | {without:.0f} | |")


def loaded(name: str, compute: Compute, dtype: ComputeType) -> FinalPass:
    """Load random weights of that name."""
    with tempfile.TemporaryDirectory(prefix="parastream-") as scratch:
        random_weights.save(Path(scratch), sizes=random_weights.NAMED[name])
        return load_final_pass(scratch, compute=compute, dtype=dtype)


def measured(ear: FinalPass, samples: NDArray[np.float32], hotwords: Hotwords) -> float:
    """Return the milliseconds of CPU that a pass takes."""
    began = time.process_time()
    finish(ear.transcribe_in_slices([FinalInput(samples, hotwords=hotwords)], steps=1))
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main()
