"""Measure what the viewers of a caption room cost the speakers: latencies with and without viewers, in turns.

    ./run python -m benchmarks.viewers --viewers 500 --speakers 1

The server is a process of its own, and the viewers are another, which reads everything it is sent. Speakers send real
speech at real-time pace, as in `parastream bench clients`, which defines the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import soundfile
from parastream.client.cli.bench.latency import Latencies, percentile, problem
from parastream.client.cli.bench.load import run_load
from parastream.client.cli.bench.processes import ServerProcess, server_process
from parastream.client.cli.bench.results import hardware
from parastream.client.sources import sample_recording
from parastream.server.wire.messages import ROOMS_PATH, STREAM_PATH
from websockets.asyncio.client import ClientConnection, connect

ROOM = "bench"
_CONNECTING = 32
"""Connections that are being opened at a time."""


async def watch(url: str, viewers: int) -> None:
    """Watch a room over many connections until stdin ends.

    Prints `watching` once all are open, and at the end how many messages came, and by how many milliseconds the last
    viewer had a final later than the first one did.
    """
    arrivals: dict[int, list[float]] = {}
    messages = 0
    turns = asyncio.Semaphore(_CONNECTING)

    async def open_one() -> ClientConnection:
        async with turns:
            return await connect(url, compression=None, ping_interval=None, max_queue=None, proxy=None)

    async def read(viewer: ClientConnection) -> None:
        nonlocal messages
        async for data in viewer:
            messages += 1
            message = json.loads(data)
            if message["type"] == "final":
                arrivals.setdefault(message["line"], []).append(time.monotonic())

    connections = await asyncio.gather(*(open_one() for _ in range(viewers)))
    reading = [asyncio.create_task(read(connection)) for connection in connections]
    print("watching", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in reading:
        task.cancel()
    spreads = [max(times) - min(times) for times in arrivals.values() if len(times) == viewers]
    print(
        json.dumps({"messages": messages, "lines": len(arrivals), "spread_ms": round(1000 * max(spreads, default=0))})
    )


async def measure(server: ServerProcess, audio: bytes, speakers: int, seconds: float, viewers: int) -> dict[str, Any]:
    """Measure one turn."""
    watching = None
    if viewers:
        room = server.url.replace(STREAM_PATH, ROOMS_PATH + ROOM)
        command = [sys.executable, "-m", "benchmarks.viewers", "--watch", room, "--viewers", str(viewers)]
        pipe = asyncio.subprocess.PIPE
        watching = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert watching.stdout is not None
        await watching.stdout.readline()
    load = await run_load([server.url], None, audio, clients=speakers, seconds=seconds, usage=server.usage, room=ROOM)
    latencies = Latencies()
    for trace in load.traces:
        latencies.add(trace)
    result: dict[str, Any] = {
        "viewers": viewers,
        "problems": [found for trace in load.traces if (found := problem(trace))],
        "cpu_cores": load.cpu_cores,
    }
    for name, values in (
        ("partial_beyond_look_ms", latencies.partial_beyond_look),
        ("final_after_endpoint_ms", latencies.final_after_endpoint),
    ):
        result[name] = {f"p{percent}": percentile(values, percent) for percent in (50, 95)}
    if watching is not None:
        output, _ = await watching.communicate(b"")
        result |= json.loads(output)
    return result


async def run(viewers: int, speakers: int, seconds: float, rounds: int, file: Path | None) -> None:
    """Measure in turns with and without viewers, and print the medians side by side."""
    with sample_recording() as sample:
        audio = soundfile.read(sample, dtype="int16")[0].astype("<i2").tobytes()
    turns = []
    async with server_process(["--max-viewers", str(viewers)]) as server:
        for _ in range(rounds):
            for number in (0, viewers):
                turns.append(await measure(server, audio, speakers, seconds, number))
                print(json.dumps(turns[-1]), flush=True)
    print(f"\n{hardware()}: {speakers} speakers, medians of {rounds} turns of {seconds:g} s each")
    print("| viewers | partial beyond look p50, p95 (ms) | final after endpoint p50, p95 (ms) | server's CPU cores |")
    print("|---|---|---|---|")
    for number in (0, viewers):
        own = [turn for turn in turns if turn["viewers"] == number]
        cells = [
            ", ".join(f"{median(turn[name][p] for turn in own):.0f}" for p in ("p50", "p95"))
            for name in ("partial_beyond_look_ms", "final_after_endpoint_ms")
        ]
        print(f"| {number} | {cells[0]} | {cells[1]} | {median(turn['cpu_cores'] for turn in own):.2f} |")
    if file is not None:
        file.write_text(json.dumps({"hardware": hardware(), "speakers": speakers, "turns": turns}, indent=1) + "\n")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--speakers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    parser.add_argument("--watch", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch, options.viewers))
    else:
        asyncio.run(run(options.viewers, options.speakers, options.seconds, options.rounds, options.json))


if __name__ == "__main__":
    main()
