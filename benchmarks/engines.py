"""What do several engines on one machine serve, and what do they take?

    ./run python -m benchmarks.engines --engines 0 1 2 4 --clients 16 --rounds 3

Runs `parastream serve --engines N` for each N, 0 being an engine in the server's own process, and clients of
`parastream bench clients` that speak all the time. The servers take turns, so that whatever else the machine does
disturbs all of them alike. `places` is how many sessions the engines think that they can serve, by what they have
measured by the end. Memory that processes share counts in each. Other options go to `parastream serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Sequence
from typing import Any

from parastream.client.cli.bench.clients import Setting, measure
from parastream.client.cli.bench.processes import server_process
from parastream.client.cli.bench.results import hardware


async def serve(engines: int, clients: int, seconds: float, options: Sequence[str]) -> dict[str, float]:
    """Run one server with its clients, and return what came out."""
    limit = ("--max-sessions", "1000")  # the engines decide
    async with server_process(["--engines", str(engines), *limit, *options]) as server:
        before = server.usage()
        result: dict[str, Any] = await measure(Setting(seconds=seconds, servers=(server.url,)), clients)
        after, metrics = server.usage(), await server.metrics()
    return {
        "places": metrics["parastream_places"],
        "partial_beyond_look_p95_ms": result["partial_beyond_look_ms"]["p95"],
        "final_after_endpoint_p95_ms": result["final_after_endpoint_ms"]["p95"],
        "dropped": result["dropped"],
        "cpu_seconds_per_client_second": (after.cpu_seconds - before.cpu_seconds) / clients / seconds,
        "memory_mb": after.peak_mb,
    }


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    known, options = parser.parse_known_args()
    found: dict[int, list[dict[str, float]]] = {engines: [] for engines in known.engines}
    for _ in range(known.rounds):
        for engines, rounds in found.items():
            rounds.append(asyncio.run(serve(engines, known.clients, known.seconds, options)))
    print(json.dumps({"hardware": hardware(), "clients": known.clients}))
    for engines, rounds in found.items():
        medians = {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}
        print(json.dumps({"engines": engines} | medians))


if __name__ == "__main__":
    main()
