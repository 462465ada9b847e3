"""Measure what recordings uploaded over HTTP cost the speakers, and the server's memory, in turns with and without one.

    ./run python -m benchmarks.uploads --megabytes 1000 --speakers 2

The server is a process of its own, and so is the uploader: it sends a WAV file of real speech (48 kHz, 2 channels, 24
bits: an hour is 1 GB) as fast as the server takes it, by `POST /v1/listen`, and goes away at the end of the turn.
Speakers send real speech at real-time pace, as in `parastream bench clients`, which defines the figures. `--whole`
uploads one recording to its end, by `POST /v1/audio/transcriptions` with `stream=true`, and shows the memory of the
server on the way and how many events came before the last byte was sent; with `--rounds 0` it does only that.
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
_BOUNDARY = "recording"
_SHARES = (0.05, 0.25, 0.5, 0.75, 1.0)
"""Of an upload that goes on to its end: where the memory is told."""


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


def wav_header(size: int) -> bytes:
    """Return the header of a recording of so many bytes."""
    form = struct.pack("<IHHIIHH", 16, 1, 2, 48000, BYTES_PER_SECOND, 6, 24)
    return b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    """Send speech of so many bytes, and print how many have been sent."""
    audio, sent = recorded(), 0
    while sent < size:
        place = sent % len(audio)
        piece = audio[place : place + min(_PIECE, size - sent)]
        writer.write(piece)
        await writer.drain()
        sent += len(piece)
        print(sent, flush=True)


async def upload(url: str, size: int) -> None:
    """Upload speech of so many bytes, whatever becomes of it; print when it begins and how it goes on."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST /v1/listen HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {size + 44}\r\n\r\n"
    writer.write(head.encode() + wav_header(size))
    print("uploading", flush=True)
    await send(writer, size)


async def upload_for_events(url: str, size: int) -> None:
    """Upload speech of so many bytes to its end for server-sent events; print how it goes on, and what came of it."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    field = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name="
    before = f'{field}"stream"\r\n\r\ntrue\r\n{field}"file"; filename="a.wav"\r\n\r\n'.encode() + wav_header(size)
    behind = f"\r\n--{_BOUNDARY}--\r\n".encode()
    kind = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
    length = f"Content-Length: {len(before) + size + len(behind)}\r\n\r\n"
    writer.write(f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {parts.netloc}\r\n{kind}{length}".encode() + before)
    print("uploading", flush=True)
    began, deltas, done = time.monotonic(), [], {}

    async def read() -> None:
        async for line in reader:
            if b'"delta"' in line:
                deltas.append(time.monotonic())
            elif line.startswith(b"data: {"):
                done.update(json.loads(line[6:]))

    reading = asyncio.create_task(read())
    await send(writer, size)
    sent = time.monotonic()
    writer.write(behind)
    await reading
    writer.close()
    result = {
        "seconds": time.monotonic() - began,
        "audio_seconds": size / BYTES_PER_SECOND,
        "words": len(done["text"].split()),
        "events": len(deltas),
        "events_before_the_last_byte": sum(moment < sent for moment in deltas),
        "first_event_after_seconds": deltas[0] - began,
    }
    print(json.dumps(result), flush=True)


class Uploader:
    """The process that uploads."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.sent = 0
        self.result: dict[str, Any] = {}
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, url: str, size: int, *, events: bool = False) -> Uploader:
        """Begin to upload, also for server-sent events."""
        arguments = [sys.executable, "-m", "benchmarks.uploads", "--upload", url, "--megabytes", str(size / 1e6)]
        arguments += ["--whole"] if events else []
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


async def watch_whole(server: ServerProcess, size: int) -> dict[str, Any]:
    """Upload one recording to its end; return what came of it, and the server's memory on the way."""
    before = server.usage().memory_mb
    uploader = await Uploader.start(server.url, size, events=True)
    seen: list[tuple[int, float]] = []
    while not uploader.reading.done():
        await asyncio.wait([uploader.reading], timeout=0.5)
        seen.append((uploader.sent, server.usage().memory_mb))
    on_the_way = {
        f"{share:.0%}": round(next(memory for sent, memory in seen if sent >= share * size), 1) for share in _SHARES
    }
    memory = {"before": round(before, 1), **on_the_way, "largest": round(max(memory for _, memory in seen), 1)}
    return {"rss_mb": memory, **uploader.result}


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
            print(json.dumps(await watch_whole(server, size)), flush=True)
    if not turns:
        return
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
    parser.add_argument("--whole", action="store_true", help="at last, upload one recording to its end, for events")
    parser.add_argument("--upload", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upload:
        asyncio.run((upload_for_events if options.whole else upload)(options.upload, round(options.megabytes * 1e6)))
    else:
        asyncio.run(run(options))


if __name__ == "__main__":
    main()
