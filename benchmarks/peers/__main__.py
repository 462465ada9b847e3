"""Run a streaming Paraformer of full size in other programs and in parastream, side by side.

    ./run python -m benchmarks.peers [--json FILE] [--only NAME]… [--rounds N] [--work DIR] [--device cuda]

The same random weights and the same audio go through FunASR (PyTorch), sherpa-onnx (ONNX Runtime, float32 and int8,
exported by FunASR's own `export`) and parastream. The first call makes an environment for the peers and the weights
in all forms: 3 GB in the user's cache directory, or in DIR.

The figure is the cost of a session and window: the time from the request to the last answer, over the number of
sessions and of windows of 600 ms. In all systems it covers the way from samples to token ids: features, encoder,
predictor and decoder; for FunASR also its Python code around that and its text. Each system runs in processes of its
own, which are stopped (SIGSTOP) while another one is measured. The systems take turns in each round, and the result is
the median of the rounds. Streams are in their steady state: FunASR's and parastream's look-back is full.

`N workers` means N processes of one thread with an equal share of the sessions each; `N threads` is one process. When
there are fewer sessions than workers, some workers rest. `real time` is how many sessions could be served at the cost
measured with the largest number of them.

parastream is measured as graphs in float32, in 8 bits, and with MLX. All ratios are to the first.

With `--device cuda`, FunASR and parastream share an NVIDIA GPU; the environment that runs this script needs MLX's CUDA
wheel. There parastream is measured in float32 (without TF32, which is PyTorch's default) and in bfloat16, its own
default. FunASR's streaming takes no other type than float32; it is measured in one process, and in as many as there are
CPUs.

Systems with the same weights should give the same tokens. `agreement` is 1 minus the edit distance of the tokens over
their number, between a system and parastream. sherpa-onnx computes other windows than FunASR: 5 rows before and 3 after
the 10 new ones, and no look-back. It is compared with parastream's network over these windows. Tokens that FunASR
leaves out of its text (`<s>`, `<unk>`) are left out everywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from parastream.client.cli.bench.results import hardware
from parastream.model import blas
from parastream.model.cache_directory import cache_directory

from benchmarks.peers import environment
from benchmarks.peers.results import OURS, Costs, agreement, summary, table
from benchmarks.peers.worker import STREAMS

WINDOWS = {"cpu": {1: 8, 4: 4, STREAMS: 3}, "cuda": {1: 8, STREAMS: 3, 128: 2}}
"""For each device: numbers of sessions, and how many windows of each session a round measures."""
FILLING = 5
"""Windows that fill the look-back: four of 10 rows, and the first, in which 5 rows hold no audio."""
CHECKED = 4
"""Streams whose tokens are compared."""

Start = Callable[[str, int], "Worker"]


class Worker:
    """A process of `worker.py`. It is stopped except while it starts or owes an answer."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True
            )
        self._started = False

    def ask(self, **request: Any) -> None:
        """Send a request; `answer` must follow. The first one waits until the process has started."""
        assert self._process.stdin is not None
        if not self._started:
            self.answer()
            self._started = True
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer.

        Raises:
            SystemExit: the process has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a worker has ended: see {self._log}")
        self._process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class System:
    """A way to run a program: one worker, or several that share the sessions."""

    name: str
    workers: Sequence[Worker]

    def hear(self, sessions: int, windows: int) -> float:
        """Feed the next windows of so many sessions, and return the milliseconds for each session and window."""
        asked = []
        began = time.perf_counter()
        for number, worker in enumerate(self.workers):
            streams = [self._stream(k) for k in range(number, sessions, len(self.workers))]
            if streams:
                worker.ask(streams=streams, windows=windows)
                asked.append(worker)
        for worker in asked:
            worker.answer()
        return 1000 * (time.perf_counter() - began) / (sessions * windows)

    def tokens(self, session: int) -> list[str]:
        """Ask for the tokens of a session so far."""
        worker = self.workers[session % len(self.workers)]
        worker.ask(tokens=self._stream(session))
        return list(worker.answer())

    def _stream(self, session: int) -> str:
        return f"{self.name} {session}"


def main() -> None:
    """Measure, print, and write the result if a file is named."""
    parser = argparse.ArgumentParser(description="The cost of a streaming window in parastream and in other programs.")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--only", action="append", default=[], help="only systems with this in their name; repeatable")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=list(WINDOWS), default="cpu", help="where FunASR and parastream compute")
    parser.add_argument("--work", type=Path, default=cache_directory() / "peers", help="what is made once is kept here")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    on_gpu = mx.default_device().type == mx.gpu
    if on_gpu != (options.device == "cuda"):
        parser.error(f"--device {options.device}: MLX computes on a {'GPU' if on_gpu else 'CPU'} here")
    began, others = time.perf_counter(), others_seconds()
    with contextlib.ExitStack() as stack:
        start = launcher(work, stack, onnx=options.device == "cpu")
        make = start_systems if options.device == "cpu" else start_systems_on_gpu
        systems = list(make(start, options.only))
        rounds = measure(systems, WINDOWS[options.device], options.rounds)
        heard = {system.name: [system.tokens(k) for k in range(CHECKED)] for system in systems}
        as_sherpa = sherpas_windows(start, options.rounds) if any("sherpa" in name for name in heard) else []
    result = {
        "hardware": hardware(),
        "blas": str(blas.info()),
        "peers": environment.versions(),
        "others_cpu_cores": (others_seconds() - others) / (time.perf_counter() - began),
        **summary(rounds),
        "tokens": {name: sum(map(len, ids)) for name, ids in heard.items()},
        "token_agreement": {
            name: agreement(ids, as_sherpa if "sherpa" in name else heard[OURS]) for name, ids in heard.items()
        },
    }
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def launcher(work: Path, stack: contextlib.ExitStack, *, onnx: bool) -> Start:
    """Return a function that starts workers, given a system of `worker.py` and a number of threads.

    The stack ends them.
    """
    python, audio = environment.peers_python(work), environment.recording(work)
    model = environment.weights(work, onnx=onnx)
    number = itertools.count()

    def start(system: str, threads: int) -> Worker:
        own = Path(sys.executable) if system.startswith(OURS) else python
        log = work / f"{system}-{next(number)}.log"
        worker = Worker([own, environment.HERE / "worker.py", system, model, audio, str(threads)], log)
        stack.callback(worker.close)
        return worker

    return start


def start_systems(start: Start, only: Sequence[str]) -> Iterator[System]:
    """Start all systems, or parastream and those asked for."""
    cpus = min(blas.cpu_count(), STREAMS)
    yield System(OURS, [start("parastream", cpus)])

    def wanted(name: str) -> bool:
        return not only or any(part in name for part in only)

    for name, system in ((f"{OURS}, int8", "parastream-int8"), (f"{OURS}, MLX", "parastream-mlx")):
        if wanted(name):
            yield System(name, [start(system, cpus)])
    if wanted(name := f"FunASR PyTorch, {cpus} threads"):
        yield System(name, [start("funasr", cpus)])
    for kind in ("fp32", "int8"):
        names = [f"sherpa-onnx {kind}, 1 thread", f"sherpa-onnx {kind}, {cpus} workers"]
        if any(map(wanted, names)):
            workers = [start(f"sherpa-{kind}", 1) for _ in range(cpus)]
            yield from (
                System(name, some) for name, some in zip(names, (workers[:1], workers), strict=True) if wanted(name)
            )
    if wanted(name := f"sherpa-onnx fp32, {cpus} threads"):
        yield System(name, [start("sherpa-fp32", cpus)])


def start_systems_on_gpu(start: Start, only: Sequence[str]) -> Iterator[System]:
    """Start the systems that compute on a GPU, as `start_systems` does."""
    yield System(OURS, [start("parastream", 1)])
    names = [f"{OURS}, bfloat16", "FunASR PyTorch", f"FunASR PyTorch, {blas.cpu_count()} workers"]
    wanted = [not only or any(part in name for part in only) for name in names]
    if wanted[0]:
        yield System(names[0], [start("parastream-bfloat16", 1)])
    if any(wanted[1:]):
        workers = [start("funasr-cuda", 1) for _ in range(blas.cpu_count() if wanted[2] else 1)]
        yield from (
            System(name, some)
            for name, some, measured in zip(names[1:], (workers[:1], workers), wanted[1:], strict=True)
            if measured
        )


def measure(systems: Sequence[System], windows: Mapping[int, int], rounds: int) -> list[Costs]:
    """Return the costs in each round, in which the systems take turns; `windows` is as in `WINDOWS`."""
    for system in systems:
        print(f"filling the look-back of {system.name}", file=sys.stderr)
        system.hear(max(windows), FILLING)
    found = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        costs: Costs = {system.name: {} for system in systems}
        for sessions, measured in windows.items():
            for system in systems:
                costs[system.name][sessions] = system.hear(sessions, measured)
        found.append(costs)
    return found


def others_seconds() -> float:
    """Return the CPU seconds so far of all programs but this one and its children that have ended; 0 if unknown."""
    if sys.platform != "linux":
        return 0
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting = ticks[3:5]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in used)


def sherpas_windows(start: Start, rounds: int) -> list[list[str]]:
    """Return the tokens of parastream's network in the windows that sherpa-onnx has computed by now."""
    system = System("parastream as sherpa", [start("parastream-as-sherpa", 1)])
    # sherpa-onnx waits for two frames more than a window needs, so it is one window behind.
    windows = WINDOWS["cpu"]
    system.hear(CHECKED, FILLING + rounds * (windows[STREAMS] + windows[CHECKED]) - 1)
    system.hear(1, rounds * windows[1])
    return [system.tokens(k) for k in range(CHECKED)]


if __name__ == "__main__":
    main()
