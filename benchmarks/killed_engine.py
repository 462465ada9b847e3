"""Kill an engine under paced sessions: are words lost, and how long do clients wait?

    ./run python -m benchmarks.killed_engine --sessions 40 --engines 2

Starts `parastream serve --engines`, lets clients speak at real-time pace, each beginning a little later, and kills an
engine in the middle. The same without a kill comes first. What is compared are the words of all finals of each session.
A client that had to connect again would count as lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import psutil
from parastream.client import Final, Partial, connect
from parastream.client.cli import engine_process
from parastream.client.cli.bench.latency import percentile
from parastream.client.sources import FileSource

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))


@dataclass
class Heard:
    """What a client heard."""

    texts: list[str] = field(default_factory=list)
    reconnects: int = 0
    longest: float = 0.0
    """Seconds between two events, at most."""


async def speak(url: str, delay: float) -> Heard:
    """Send the sample at real-time pace."""
    heard = Heard()

    def note(_: object) -> None:
        heard.reconnects += 1

    await asyncio.sleep(delay)
    source = FileSource(SAMPLE, pace=1)
    async with connect(url, format=source.format, rate=source.rate, on_reconnect=note) as client:

        async def send() -> None:
            async for block in source:
                await client.send(block)
            await client.stop()

        sending = asyncio.create_task(send())
        last = time.monotonic()
        async for event in client:
            if isinstance(event, Partial | Final):
                now = time.monotonic()
                heard.longest, last = max(heard.longest, now - last), now
            if isinstance(event, Final):
                heard.texts.append(event.text)
        await sending
    return heard


async def measure(engines: int, sessions: int, options: Sequence[str], *, kill: bool) -> list[Heard]:
    """Run a server, and the sessions on it."""
    command = [sys.executable, "-m", "parastream.client.cli", "serve", "--port", "0", "--engines", str(engines)]
    command += ["--target-utilisation", "1000"]  # all clients are let in, however busy the machine is
    server = await asyncio.create_subprocess_exec(*command, *options, stderr=asyncio.subprocess.PIPE)
    assert server.stderr is not None
    url, line = "", ""
    while not line.startswith("ready"):
        line = (await server.stderr.readline()).decode()
        url = found[0] if (found := re.search(r"ws://\S+", line)) else url
    spacing = 6 / sessions
    tasks = [asyncio.create_task(speak(url, number * spacing)) for number in range(sessions)]
    if kill:
        await asyncio.sleep(9)  # the first are in their second sentence, the last in their first
        children = psutil.Process(server.pid).children()
        next(child for child in children if engine_process.__name__ in child.cmdline()).kill()
    heard = await asyncio.gather(*tasks)
    server.terminate()
    await server.communicate()
    return heard


def main() -> None:
    """Run both, and print what they heard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--engines", type=int, default=2)
    known, options = parser.parse_known_args()
    results = {}
    for kill in (False, True):
        heard = asyncio.run(measure(known.engines, known.sessions, options, kill=kill))
        longest = [each.longest for each in heard]
        results["killed" if kill else "undisturbed"] = {
            "words": [sum(len(text.split()) for text in each.texts) for each in heard],
            "texts": sorted({" ".join(each.texts) for each in heard}),
            "reconnects": sum(each.reconnects for each in heard),
            "longest_silence_p50": round(percentile(longest, 50), 2),
            "longest_silence_max": round(max(longest), 2),
        }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
