"""Measure what recordings uploaded over HTTP cost the speakers, and the server's memory, in turns with and without one.

    ./run python -m benchmarks.uploads --megabytes 1000 --speakers 2

The server is a process of its own, and so is the uploader: it sends a WAV file of real speech (48 kHz, 2 channels, 24
bits: an hour is 1 GB) as fast as the server takes it, by `POST /v1/listen`, and goes away at the end of the turn.
`--whole` lets one upload go on to its end. Speakers send real speech at real-time pace, as in `parastream bench
clients`, which defines the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import time
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile
import soxr
from parastream.client.cli.bench.latency import Latencies, percentile, problem
from parastream.client.cli.bench.load import run_load
from parastream.client.cli.bench.processes import ServerProcess, server_process
from parastream.client.cli.bench.results import hardware
from parastream.client.sources import sample_recording

BYTES_PER_SECOND = 288_000
"""Of the recording."""
_PIECE = 1 << 16


def speech() -> bytes:
    """Return the sample, 16-bit at 16 kHz."""
    with sample_recording() as sample:
        audio: bytes = soundfile.read(sample, dtype="int16")[0].astype("<i2").tobytes()
    return audio


def recorded() -> bytes:
    """Return the sample as a recorder would have it: 24 bits, 48 kHz, 2 channels."""
    samples = soxr.resample(np.frombuffer(speech(), "<i2").astype(np.float32) / 32768, 16000, 48000)
    wide = np.clip(samples.astype(np.float64) * 2**31, -(2**31), 2**31 - 1).astype("<i4").repeat(2)
    audio: bytes = wide.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    return audio


async def upload(url: str, size: int) -> None:
    """Upload speech of so many bytes; print when it begins, how it goes on, and what became of it."""
    parts, audio = urlsplit(url), recorded()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    form = struct.pack("<IHHIIHH", 16, 1, 2, 48000, BYTES_PER_SECOND, 6, 24)
    header = b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + form
    head = f"POST /v1/listen HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {size + 44}\r\n\r\n"
    writer.write(head.encode() + header + b"data" + struct.pack("<I", size))
    print("uploading", flush=True)
    began, sent = time.monotonic(), 0
    while sent < size:
        place = sent % len(audio)
        piece = audio[place : place + min(_PIECE, size - sent)]
        writer.write(piece)
        await writer.drain()
        sent += len(piece)
        print(sent, flush=True)
    answer = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    words = len(json.loads(answer)["results"]["channels"][0]["alternatives"][0]["words"])
    print(
        json.dumps({"seconds": time.monotonic() - began, "audio_seconds": size / BYTES_PER_SECOND, "words": words}),
        flush=True,
    )


class Uploader:
    """The process that uploads."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.sent = 0
        self.result: dict[str, Any] = {}
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, url: str, size: int) -> Uploader:
        """Begin to upload."""
        arguments = [sys.executable, "-m", "benchmarks.uploads", "--upload", url, "--megabytes", str(size / 1e6)]
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            value = json.loads(line)
            if isinstance(value, dict):
                self.result = value
            else:
                self.sent = value

    async def stop(self) -> None:
        """Go away."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self.reading


async def measure(server: ServerProcess, speakers: int, seconds: float, size: int) -> dict[str, Any]:
    """Let speakers speak, beside an upload unless its size is 0."""
    uploader = await Uploader.start(server.url, size) if size else None
    load = await run_load([server.url], None, speech(), clients=speakers, seconds=seconds, usage=server.usage)
    latencies = Latencies()
    for trace in load.traces:
        latencies.add(trace)
    result: dict[str, Any] = {
        "upload": bool(size),
        "problems": [found for trace in load.traces if (found := problem(trace))],
        "cpu_cores": load.cpu_cores,
        "rss_mb": server.usage().memory_mb,
    }
    if uploader is not None:
        await uploader.stop()
        result["times_real_time"] = uploader.sent / BYTES_PER_SECOND / seconds
    for name, values in (
        ("partial_beyond_look_ms", latencies.partial_beyond_look),
        ("final_after_endpoint_ms", latencies.final_after_endpoint),
    ):
        result[name] = {f"p{percent}": percentile(values, percent) for percent in (50, 95)}
    return result


async def run(options: argparse.Namespace) -> None:
    """Measure in turns with and without an upload, and print the medians side by side."""
    size = round(options.megabytes * 1e6) // 6 * 6
    turns: list[dict[str, Any]] = []
    async with server_process([]) as server:
        for _ in range(options.rounds):
            for now in (0, size):
                turns.append(await measure(server, options.speakers, options.seconds, now))
                print(json.dumps(turns[-1]), flush=True)
        if options.whole:
            before = server.usage().memory_mb
            uploader = await Uploader.start(server.url, size)
            await uploader.reading
            print(
                json.dumps({"rss_mb_before": before, "rss_mb": server.usage().memory_mb, **uploader.result}), flush=True
            )
    print(
        f"\n{hardware()}: {options.speakers} speakers, medians of {options.rounds} turns of {options.seconds:g} s each"
    )
    print(
        "| upload | partial beyond look p50, p95 (ms) | final after endpoint p50, p95 (ms) | rss (MB) | x real time |"
    )
    print("|---|---|---|---|---|")
    for uploading in (False, True):
        own = [turn for turn in turns if turn["upload"] is uploading]
        cells = [
            ", ".join(f"{median(turn[name][p] for turn in own):.0f}" for p in ("p50", "p95"))
            for name in ("partial_beyond_look_ms", "final_after_endpoint_ms")
        ]
        memory, speed = max(turn["rss_mb"] for turn in own), median(turn.get("times_real_time", 0) for turn in own)
        print(f"| {'yes' if uploading else 'no'} | {cells[0]} | {cells[1]} | {memory:.0f} | {speed:.1f} |")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=1000.0, help="size of the recording")
    parser.add_argument("--speakers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="at last, upload one recording to its end")
    parser.add_argument("--upload", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upload:
        asyncio.run(upload(options.upload, round(options.megabytes * 1e6)))
    else:
        asyncio.run(run(options))


if __name__ == "__main__":
    main()
