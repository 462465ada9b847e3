"""`parastream bench clients`: run paced clients through a real server, and find how many it can serve."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from parastream.client.cli.bench.inference import model_directory
from parastream.client.cli.bench.latency import Latencies, problem, summary
from parastream.client.cli.bench.load import LoadResult, run_load
from parastream.client.cli.bench.processes import Usage, server_process
from parastream.client.cli.bench.results import Result, hardware, publish
from parastream.client.cli.interrupts import run_interruptible
from parastream.client.sources import read, sample_recording
from parastream.server.wire.messages import Final, Partial

LIMIT_MS = 1200
"""Limit for the 95th percentile of partials."""
_PRECISION = 16
"""The largest number is found to a sixteenth of itself."""


@dataclass(frozen=True)
class Setting:
    """What to measure."""

    seconds: float
    """How long each client speaks."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of a server that is started, such as `--model`; its defaults count for those that are left out."""
    servers: tuple[str, ...] = ()
    """Addresses of running servers that share the clients; none: start a server for each run."""
    token: str | None = None


def run(setting: Setting, clients: int, file: Path | None, *, find_largest: bool) -> int:
    """Measure, print, and return the exit status: 1 if anything was dropped, or no number of clients passed.

    Raises:
        ClientError: The server does not start.
        ParastreamError: The model cannot be loaded.
        OSError: A file cannot be read or written.
    """
    return run_interruptible(_run(setting, clients, file, find_largest=find_largest))


async def _run(setting: Setting, clients: int, file: Path | None, *, find_largest: bool) -> int:
    with contextlib.ExitStack() as stack:
        if not setting.servers:
            directory = stack.enter_context(model_directory(setting.options.get("--model")))
            setting = replace(setting, options={**setting.options, "--model": directory})
        if find_largest:
            result = await _find_largest(setting, clients)
        else:
            result = await measure(setting, clients)
    publish(result, file)
    return int(result["largest_clients"] == 0 if find_largest else result["dropped"] > 0)


async def measure(setting: Setting, clients: int) -> Result:
    """Measure one run."""
    with sample_recording() as sample:
        audio = (read(sample)[0] * 32768).astype("<i2").tobytes()
    before: Usage | None = None
    after: Usage | None = None
    metrics: dict[str, float] = {}
    if setting.servers:
        described = {"server": ", ".join(setting.servers)}
        load = await run_load(
            setting.servers, setting.token, audio, clients=clients, seconds=setting.seconds, usage=None
        )
    else:
        options = [word for option in setting.options.items() for word in option]
        async with server_process(["--max-sessions", str(clients), *options]) as server:
            before = server.usage()
            load = await run_load(
                [server.url], setting.token, audio, clients=clients, seconds=setting.seconds, usage=server.usage
            )
            after, metrics = server.usage(), await server.metrics()
        described = {
            "blas": server.described["BLAS"],
            "computed": server.described["computed"],
            "options": " ".join(options),
        }
    figures = _figures(load, setting, clients, before, after) | _of_better_ear(metrics)
    return {"benchmark": "clients", "hardware": hardware()} | described | figures


def _of_better_ear(metrics: Mapping[str, float]) -> Result:
    """Return how many finals did without the better ear, and the share of partials that it refined; None if unknown."""
    partials = metrics.get("parastream_partial_latency_seconds_count")
    return {
        "finals_forgone": int(metrics["parastream_engine_forgone_total"]) if metrics else None,
        "partials_refined": round(metrics["parastream_partials_refined_total"] / partials, 3) if partials else None,
    }


def _figures(load: LoadResult, setting: Setting, clients: int, before: Usage | None, after: Usage | None) -> Result:
    latencies = Latencies()
    for trace in load.traces:
        latencies.add(trace)
    problems = Counter(found for trace in load.traces if (found := problem(trace)))
    kinds = Counter(type(message) for c in load.traces for _, message in c.received)
    # The kernel's counters of resident memory and of its peak are each off by a little, so take the largest of all.
    memory = [mb for used in (before, load.usage, after) if used is not None for mb in (used.memory_mb, used.peak_mb)]
    return {
        "clients": clients,
        "seconds": setting.seconds,
        "dropped": problems.total(),
        "errors": dict(problems),
        "first_partial_ms": summary(latencies.first_partial),
        "partial_ms": summary(latencies.partial),
        "partial_beyond_look_ms": summary(latencies.partial_beyond_look),
        "final_after_endpoint_ms": summary(latencies.final_after_endpoint),
        "partials": kinds[Partial],
        "partials_per_client_second": round(kinds[Partial] / (clients * setting.seconds), 3),
        "finals": kinds[Final],
        "finals_by_ear": dict(Counter(m.ear for c in load.traces for _, m in c.received if isinstance(m, Final))),
        "cpu_cores": None if load.cpu_cores is None else round(load.cpu_cores, 3),
        "rss_mb": round(max(memory), 1) if memory else None,
        "rss_idle_mb": None if before is None else round(before.memory_mb, 1),
        "rss_speaking_mb": None if load.usage is None else round(load.usage.memory_mb, 1),
        "generator_cpu_cores": round(load.generator_cpu_cores, 3),
        "largest_send_delay_ms": round(1000 * load.largest_send_delay, 1),
    }


async def _find_largest(setting: Setting, clients: int) -> Result:
    """Double the number of clients until a run fails, then bisect between that number and the last that passed.

    Returns:
        The result of the largest number that passed, or of the smallest that failed if none passed.
    """
    passed, failed = 0, 0
    results: dict[int, Result] = {}
    while not failed or failed - passed > max(1, passed // _PRECISION):
        trial = results[clients] = await measure(setting, clients)
        p95 = trial["partial_ms"]["p95"]
        good = trial["dropped"] == 0 and p95 is not None and p95 < LIMIT_MS
        print(
            f"{clients} clients: partials {p95} ms (p95), {trial['dropped']} dropped: {'yes' if good else 'no'}",
            flush=True,
        )
        passed, failed = (clients, failed) if good else (passed, clients)
        clients = (passed + failed) // 2 if failed else 2 * passed
    runs = [
        {"clients": number, "dropped": trial["dropped"], "partial_ms": trial["partial_ms"]}
        for number, trial in results.items()
    ]
    return results[passed or failed] | {"largest_clients": passed, "runs": runs}
