"""A server as a process of its own, and what it costs the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parastream.client.errors import ClientError

_READY_TIMEOUT = 120.0
_STOP_TIMEOUT = 15.0
_LINES = 20  # of the server's output that are kept to explain a failure


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used so far."""

    cpu_seconds: float
    memory_mb: float
    """Resident now, in units of 10^6 bytes."""
    peak_mb: float
    """The most that was ever resident; where the system does not keep that (macOS), what is now."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server."""

    url: str
    pid: int
    described: dict[str, str]
    """What it said of itself when it started: `model`, `device`, `BLAS`."""

    def usage(self) -> Usage:
        """Of the process and its children."""
        return usage(self.pid)


@contextlib.asynccontextmanager
async def server_process(options: Sequence[str]) -> AsyncIterator[ServerProcess]:
    """A warm `parastream serve` with these options on a free port of this machine, stopped on leaving.

    Raises:
        ClientError: it does not start; the message has the end of its output.
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
    ready = asyncio.Event()

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            lines.append(line.decode(errors="replace").rstrip())
            if found := re.match(r" +(address|model|device|BLAS) +(.+)", lines[-1]):
                described[found[1]] = found[2]
            elif lines[-1].startswith("ready"):
                ready.set()
        ready.set()

    reading = asyncio.create_task(read())
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), _READY_TIMEOUT)
        if not any(line.startswith("ready") for line in lines):
            raise ClientError("the server did not start: " + " ".join(lines))
        yield ServerProcess(described["address"], process.pid, described)
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
    """What process `pid` and all below it have used."""
    if sys.platform == "linux":
        return _usage_from_proc(pid)
    command = ["ps", "-A", "-o", "pid=,ppid=,time=,rss="]
    return usage_from_ps(subprocess.run(command, capture_output=True, text=True, check=True).stdout, pid)


def _usage_from_proc(pid: int) -> Usage:
    ticks: dict[int, int] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile
                # The name, in parentheses, may hold anything; then come state, parent …, and from the 12th on user and
                # system time, of the process and of its children that have ended.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    family = _family(pid, parents)
    memory: Counter[str] = Counter()
    for member in family:
        with contextlib.suppress(OSError):
            for name, size in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", Path(f"/proc/{member}/status").read_text()):
                memory[name] += 1024 * int(size)
    seconds = sum(ticks[member] for member in family) / os.sysconf("SC_CLK_TCK")
    return Usage(seconds, memory["VmRSS"] / 1e6, memory["VmHWM"] / 1e6)


def usage_from_ps(table: str, pid: int) -> Usage:
    """From lines of pid, parent, CPU time ([[days-]hours:]minutes:seconds) and memory (kB)."""
    parents: dict[int, int] = {}
    used: dict[int, tuple[float, int]] = {}
    for line in table.splitlines():
        member, parent, time, memory = line.split()
        days, _, clock = time.rpartition("-")
        seconds = 0.0
        for part in clock.split(":"):
            seconds = 60 * seconds + float(part)
        parents[int(member)] = int(parent)
        used[int(member)] = (seconds + 86400 * int(days or 0), int(memory))
    family = _family(pid, parents)
    memory_mb = 1024 * sum(used[member][1] for member in family) / 1e6
    return Usage(sum(used[member][0] for member in family), memory_mb, memory_mb)


def _family(pid: int, parents: dict[int, int]) -> list[int]:
    """A process and all below it; nobody if it is not there."""
    family = [pid] if pid in parents else []
    for member in family:  # grows meanwhile
        family += [child for child, parent in parents.items() if parent == member]
    return family
