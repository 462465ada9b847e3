"""Measure what clients that take more than their share cost: memory, and how long others have to wait.

    ./run python -m benchmarks.attacks

The server is a process of its own on 127.0.0.1, and so is the attacker, whose time and bytes are bounded. Meanwhile a
request for `/healthz` is made every 20 ms: how long the longest took is how long the event loop was busy otherwise.

- `pings`: one client sends pings of 125 bytes and reads no answers.
- `burst`: one client sends 43,000 empty frames at once, again and again.
- `stream`: one client sends empty frames as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import psutil
from parastream.client.cli.bench.processes import server_process
from parastream.client.cli.bench.results import hardware

ATTACKS = ("pings", "burst", "stream")
_BURST = 43_000
_PROBE = 0.02  # seconds between requests
_MOST_BYTES = 1 << 30


def frames(opcode: int, payload: bytes, count: int) -> bytes:
    """Return masked frames, the mask being zero."""
    return (bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload) * count


def attack(kind: str, port: int, seconds: float) -> None:
    """Attack a server of this machine until the time is over or the server has had enough."""
    end = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port)) as connection, contextlib.suppress(OSError):
        connection.sendall(
            b"GET /v1/rooms/bench HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        connection.recv(1 << 16)
        connection.settimeout(1.0)
        data = frames(9, bytes(125), 500) if kind == "pings" else frames(10, b"", _BURST if kind == "burst" else 500)
        sent = 0
        while time.monotonic() < end and sent < _MOST_BYTES:
            sent += send_some(connection, data)
            if kind == "burst":
                time.sleep(0.5)


def send_some(connection: socket.socket, data: bytes) -> int:
    """Send data as far as the server takes it; return how many bytes that were."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < len(data):
            sent += connection.send(data[sent:])
    return sent


async def probe(port: int) -> float:
    """Return how many seconds a request takes."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await reader.read()
    writer.close()
    return time.monotonic() - began


async def measure(kind: str, seconds: float) -> dict[str, Any]:
    """Attack a server of its own."""
    async with server_process([]) as server:
        port = urlsplit(server.url).port
        assert port is not None
        process = psutil.Process(server.pid)
        quiet = max([await probe(port) for _ in range(50)])
        before = process.memory_info().rss
        command = [sys.executable, "-m", "benchmarks.attacks", "--attack", kind, "--port", str(port)]
        attacker = subprocess.Popen([*command, "--seconds", str(seconds)])
        delays, most = [0.0], before
        while attacker.poll() is None:
            delays.append(await probe(port))
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(_PROBE)
    delays.sort()
    return {
        "attack": kind,
        "quiet_ms": round(1000 * quiet),
        "p50_ms": round(1000 * delays[len(delays) // 2]),
        "longest_ms": round(1000 * delays[-1]),
        "rss_mb": round(before / 1e6),
        "rss_growth_mb": round((most - before) / 1e6),
    }


async def run(seconds: float) -> None:
    """Measure each attack and print a table."""
    results = [await measure(kind, seconds) for kind in ATTACKS]
    print(json.dumps(results))
    print(f"\n{hardware()}: {seconds:g} s of each attack")
    print("| attack | a request, p50 (ms) | longest (ms) | memory grows by (MB) |")
    print("|---|---|---|---|")
    for result in results:
        print(f"| {result['attack']} | {result['p50_ms']} | {result['longest_ms']} | {result['rss_growth_mb']} |")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--attack", choices=ATTACKS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        attack(options.attack, options.port, min(options.seconds, 60.0))
    else:
        asyncio.run(run(options.seconds))


if __name__ == "__main__":
    main()
