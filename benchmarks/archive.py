"""How long does an archive take: in one process, in several, and on a Ray cluster?

    ./run python -m benchmarks.archive --recordings 32 --rounds 3

Makes recordings of a minute, and has `parastream transcribe` transcribe all of them, and only one; the difference is
the time without the start. The ways take turns, so that whatever else the machine does disturbs all of them alike. The
cluster has two nodes on this machine, with half of its CPUs each. Other options go to `parastream transcribe`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
from parastream.model import blas

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))
MINUTE = 60.0


def make(directory: Path, count: int) -> list[Path]:
    """Make recordings: the sample again and again, each with another beginning, in a directory of their own."""
    directory.mkdir()
    samples, rate = soundfile.read(SAMPLE, dtype="int16")
    minute = np.resize(samples, int(MINUTE * rate))
    made = [directory / f"{number}.flac" for number in range(count)]
    for number, path in enumerate(made):
        soundfile.write(path, np.roll(minute, number * rate), rate)
    return made


def seconds(recordings: Path, options: Sequence[str]) -> float:
    """Transcribe them, and return how long that took."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "parastream.client.cli", "transcribe", str(recordings), "-o", out, *options]
        began = time.monotonic()
        subprocess.run(command, check=True, stderr=subprocess.PIPE)
        return time.monotonic() - began


def main() -> None:
    """Measure all ways, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="*", default=[2])
    known, options = parser.parse_known_args()

    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cpus = blas.cpu_count()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus - cpus // 2, "include_dashboard": False})
    if cpus > 1:
        cluster.add_node(num_cpus=cpus // 2)
    ways: dict[str, list[str]] = {"one process": []}
    ways |= {f"{jobs} processes": ["--jobs", str(jobs)] for jobs in known.jobs}
    ways[f"Ray, {cpus} actors"] = ["--ray", cluster.address]
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    try:
        with tempfile.TemporaryDirectory() as directory:
            make(Path(directory) / "all", known.recordings)
            make(Path(directory) / "one", 1)
            for _ in range(known.rounds):
                for way, chosen in ways.items():
                    few, many = (seconds(Path(directory) / name, [*chosen, *options]) for name in ("one", "all"))
                    times[way].append((few, many))
    finally:
        cluster.shutdown()
    base = None
    for way, found in times.items():
        whole = statistics.median(many for _, many in found)
        rate = statistics.median((known.recordings - 1) / (many - few) for few, many in found)
        base = base or rate
        print(
            json.dumps(
                {
                    "way": way,
                    "seconds": round(whole, 1),
                    "one_recording": round(statistics.median(few for few, _ in found), 1),
                    "recordings_per_second": round(rate, 2),
                    "of_one_process": round(rate / base, 2),
                }
            )
        )


if __name__ == "__main__":
    main()
