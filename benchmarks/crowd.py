"""How many speakers does a GPU carry? Several servers on it, and clients that speak all the time, through real sockets.

    nvidia-cuda-mps-control -d        # so that kernels of several processes run side by side
    ./run python -m benchmarks.crowd --servers 3 --engines 4 --clients 2000 --model random-full

The clients are those of `parastream bench clients`, in several processes. Other options go to `parastream serve`; every
client is admitted, whatever the servers think that they can do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parastream.client.cli.bench.inference import model_directory
from parastream.client.cli.bench.processes import ServerProcess, server_process
from parastream.client.cli.bench.results import hardware

_BEGUN = 10.0
"""Seconds after which all clients speak."""


async def speak(servers: Sequence[ServerProcess], clients: int, seconds: float, file: Path) -> dict[str, Any]:
    """Run one process of clients, spread over the servers, and return what it has measured."""
    addresses = [word for server in servers for word in ("--server", server.url)]
    command = [sys.executable, "-m", "parastream.client.cli", "bench", "clients", "--clients", str(clients)]
    options = ["--seconds", str(seconds), "--json", str(file), *addresses]
    process = await asyncio.create_subprocess_exec(*command, *options, stdout=asyncio.subprocess.DEVNULL)
    await process.wait()
    result: dict[str, Any] = json.loads(file.read_text())
    return result


async def measure(known: argparse.Namespace, model: str, options: Sequence[str]) -> dict[str, Any]:
    """Start the servers, have the clients speak, and return what came out."""
    async with contextlib.AsyncExitStack() as stack:
        admit = ("--target-utilisation", "1000", "--max-sessions", str(known.clients))
        served = [*admit, "--model", model, "--engines", str(known.engines), *options]
        # The first alone: what it has compiled for a GPU is there for the others.
        starts = [stack.enter_async_context(server_process(served)) for _ in range(known.servers)]
        servers = [await starts[0], *await asyncio.gather(*starts[1:])]
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        each = known.clients // known.generators
        runs = [
            asyncio.create_task(speak(servers, each, known.seconds, scratch / f"{number}.json"))
            for number in range(known.generators)
        ]
        await asyncio.sleep(_BEGUN)
        before = sum(server.usage().cpu_seconds for server in servers)
        await asyncio.sleep(max(1.0, known.seconds - _BEGUN))
        after = sum(server.usage().cpu_seconds for server in servers)
        results = await asyncio.gather(*runs)
        memory = sum(server.usage().peak_mb for server in servers)
    figures = ("partial_beyond_look_ms", "final_after_endpoint_ms")
    return {
        "servers": known.servers,
        "engines": known.engines,
        "clients": each * known.generators,
        "dropped": sum(result["dropped"] for result in results),
        # Of the process of clients with the worst.
        **{name: {p: max(_number(result[name][p]) for result in results) for p in ("p50", "p95")} for name in figures},
        "finals": sum(result["finals"] for result in results),
        "server_cpu_cores": round((after - before) / max(1.0, known.seconds - _BEGUN), 2),
        "server_memory_mb": round(memory),
        "generator_cpu_cores": round(sum(result["generator_cpu_cores"] for result in results), 2),
        "largest_send_delay_ms": max(result["largest_send_delay_ms"] for result in results),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--engines", type=int, default=0, help="processes for each server's engines; 0: its own")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each client speaks")
    parser.add_argument("--generators", type=int, default=4, help="processes that the clients run in")
    parser.add_argument("--model", help="as for `parastream serve`; also random-full")
    known, options = parser.parse_known_args()
    with model_directory(known.model) as model:
        result = asyncio.run(measure(known, model, options))
    print(json.dumps({"hardware": hardware()} | result))


if __name__ == "__main__":
    main()
