"""Run a server as a separate process and measure what it costs the machine."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from parastream.client.errors import ClientError

_READY_TIMEOUT = 120.0
_STOP_TIMEOUT = 15.0
_LINES = 20  # of the server's output that are kept to explain a failure


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants have used so far."""

    cpu_seconds: float
    memory_mb: float
    """Resident now, in units of 10^6 bytes."""
    peak_mb: float
    """The most that was ever resident; on macOS, which does not keep that, the same as `memory_mb`."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server."""

    url: str
    pid: int
    described: dict[str, str]
    """What it printed about itself when it started: `device`, `BLAS`, and how models are `computed`."""

    def usage(self) -> Usage:
        """Return what the process and its descendants have used so far."""
        return usage(self.pid)

    async def metrics(self) -> dict[str, float]:
        """Return its metrics without labels, by name.

        Raises:
            OSError: It does not answer.
        """
        address = urlsplit(self.url)

        def text() -> str:
            with urllib.request.urlopen(f"http://{address.netloc}/metrics", timeout=_STOP_TIMEOUT) as answer:
                found: str = answer.read().decode()
                return found

        lines = (line.split() for line in (await asyncio.to_thread(text)).splitlines() if line[:1] not in ("", "#"))
        return {name: float(value) for name, value in lines if "{" not in name}


@contextlib.asynccontextmanager
async def server_process(options: Sequence[str]) -> AsyncIterator[ServerProcess]:
    """Run a warm `parastream serve` with these options on a free port of this machine, and stop it on leaving.

    Raises:
        ClientError: the server does not start; the message holds the end of its output.
    """
    command = [
        sys.executable,
        "-m",
        "parastream.client.cli",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        *options,
    ]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    lines: deque[str] = deque(maxlen=_LINES)
    described: dict[str, str] = {}
    computed: list[str] = []
    ready = asyncio.Event()

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            lines.append(line.decode(errors="replace").rstrip())
            if found := re.match(r" +(address|device|BLAS) +(.+)", lines[-1]):
                described[found[1]] = found[2]
            elif found := re.match(r" +hears +(.+?): .*computed by ([^;]+)", lines[-1]):
                computed.append(f"{found[1]} by {found[2]}")
            elif lines[-1].startswith("ready"):
                ready.set()
        ready.set()

    reading = asyncio.create_task(read())
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), _READY_TIMEOUT)
        if not any(line.startswith("ready") for line in lines):
            raise ClientError("the server did not start: " + " ".join(lines))
        yield ServerProcess(described["address"], process.pid, described | {"computed": "; ".join(computed)})
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                process.kill()
        await reading
        await process.wait()


def usage(pid: int) -> Usage:
    """Return what process `pid` and all its descendants have used; nothing if there is no such process."""
    try:
        family = [psutil.Process(pid)]
        family += family[0].children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    seconds, memory, peak = 0.0, 0, 0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess), member.oneshot():
            times, resident = member.cpu_times(), member.memory_info().rss
            # Children that have ended count where the system adds them up: Linux does, macOS says 0.
            seconds += times.user + times.system + times.children_user + times.children_system
            memory += resident
            peak += _peak_bytes(member.pid) or resident
    return Usage(seconds, memory / 1e6, peak / 1e6)


def _peak_bytes(pid: int) -> int:
    """Return the largest resident size of a process so far, which only Linux keeps and psutil does not tell; or 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0
