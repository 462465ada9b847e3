"""Measure what loading a model takes in each form: seconds, and memory at its peak and afterwards.

    ./run python -m benchmarks.loading [--model NAME|DIR] [--rounds N] [--json FILE]

By default the model is `random-full`: 220 million random weights in float32, the size of the published models. Each
form is loaded in processes of its own, and the forms take turns. Their medians are printed:

- `seconds` and `cpu_seconds`: of `parastream.model.load`, with everything imported and the file in the page cache;
- `loaded_mb`: resident memory of the process then, in 10^6 bytes, what it imported included;
- `running_mb`: when the model has run once besides, whole and in windows: what the process needs from then on;
- `peak_mb`: the most that it ever had;
- `peak_ratio`: that over `running_mb`.

Linux only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from parastream.client.cli.bench.inference import model_directory
from parastream.client.cli.bench.results import hardware, publish
from parastream.model import load, random_weights
from parastream.model.computing import Computing
from parastream.model.onnx import import_onnxruntime

FORMS = [Computing("mlx", "float32"), Computing("graphs", "float32"), Computing("graphs", "int8")]


def main() -> None:
    """Print the figures of all forms, or, in a process of its own, those of one."""
    parser = argparse.ArgumentParser(description="Seconds and memory that loading a model takes.")
    parser.add_argument("--model", default=random_weights.NAME, help="name or directory (default: random-full)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--only", type=int, choices=range(len(FORMS)), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure(options.model, FORMS[options.only])))
        return
    found: list[list[dict[str, float]]] = [[] for _ in FORMS]
    with model_directory(options.model) as directory:
        for _ in range(options.rounds):
            for number, figures in enumerate(found):
                command = [sys.executable, "-m", __spec__.name, "--model", directory, "--only", str(number)]
                figures.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    result: dict[str, Any] = {"hardware": hardware(), "model": options.model, "rounds": options.rounds}
    for form, figures in zip(FORMS, found, strict=True):
        result[str(form)] = {
            name: round(statistics.median(figure[name] for figure in figures), 2) for name in figures[0]
        }
    publish(result, options.json)


def measure(directory: str, form: Computing) -> dict[str, float]:
    """Load a model in this process and return the figures."""
    importlib.import_module("parastream.model.checkpoint")  # and MLX
    import_onnxruntime()
    began, cpu = time.perf_counter(), time.process_time()
    speech = load(directory, compute=form.compute, dtype=form.dtype)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    loaded = memory("VmRSS")
    speech.warm_up()
    running, peak = memory("VmRSS"), memory("VmHWM")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "loaded_mb": loaded,
        "running_mb": running,
        "peak_mb": peak,
        "peak_ratio": peak / running,
    }


def memory(kind: str) -> float:
    """Read the resident memory of this process (`VmRSS`), or the most it has had (`VmHWM`), in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{kind}:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
