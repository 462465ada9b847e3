"""The process `parastream serve`: load, listen, and drain on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Protocol

from parastream.model import blas, prepare_process
from parastream.model.errors import ParastreamError
from parastream.server.app import Server, new_engine
from parastream.server.config import ServerConfig
from parastream.server.engines.engines import Engines
from parastream.server.log import set_log_level
from parastream.server.metrics import Metrics
from parastream.server.sessions.observer import MetricsObserver
from parastream.server.transport.files import raise_limit
from parastream.streaming import Engine, Models
from rich.console import Console

_MOST_LANGUAGES = 8
"""Of a model, that are listed one by one."""


class _Life(Protocol):
    """What becomes of a recogniser from its start to its end."""

    async def start(self) -> None:
        """Begin to load, and return at once."""

    async def wait_ready(self) -> None:
        """Wait until the models are warm. Raises `ParastreamError` if that fails."""

    async def wait_stopped(self) -> None:
        """Wait until it has failed."""

    async def close(self) -> None:
        """Stop; open sessions get no more events."""


class _OwnEngine:
    """The life of an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(self) -> None:
        self._engine.start()

    async def wait_ready(self) -> None:
        await _on_thread(self._engine.wait_ready)

    async def wait_stopped(self) -> None:
        await _on_thread(self._engine.wait_stopped)

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)


def serve(
    config: ServerConfig, load: Callable[[], Models], engine_command: Sequence[str] = (), *, offline: bool = False
) -> int:
    """Serve until a signal comes, then send the finals of all sessions and return the exit status.

    Messages of `config.log_level` and above go to stderr. A second signal ends the process at once. The process
    is taken to be the server's own: it is set up for computing (see `parastream.model.prepare_process`).

    Args:
        config: The server's settings.
        load: Loads the models; called on the engine's thread. Engines in processes of their own load theirs.
        engine_command: Starts the process of an engine, given the descriptor of a socket.
        offline: Whether such processes never ask the network for a model.
    """
    set_log_level(config.log_level)
    if not config.engines:
        prepare_process()
    raise_limit()
    return _run(_serve(config, load, engine_command, offline=offline))


def _run(serving: Coroutine[None, None, int]) -> int:
    """Run on uvloop where that is installed: it takes about half the time for what goes through sockets."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serving)
    status: int = uvloop.run(serving)
    return status


async def _serve(
    config: ServerConfig, load: Callable[[], Models], engine_command: Sequence[str], *, offline: bool
) -> int:
    console = Console(stderr=True, highlight=False)
    stop = _stop_on_signals()
    began = time.monotonic()
    metrics = Metrics()
    life: _Life
    engine: Engine | Engines
    if config.engines:
        engine = life = Engines(engine_command, config, metrics, MetricsObserver(metrics), offline=offline)
    else:
        engine = new_engine(load, config, metrics)
        life = _OwnEngine(engine)
    server = Server(engine, config, metrics)
    try:
        await server.start()
    except OSError as error:
        console.print(f"cannot listen: {error.strerror or error}", markup=False, soft_wrap=True)
        return 1
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload_certificate)
    await life.start()
    console.print(f"parastream {version('parastream')}")
    console.print(f"  address  {server.url}")
    console.print(f"  page     {server.page_url}")
    for protocol, port in server.ports.items():
        console.print(f"  {protocol:8} on port {port}")
    if config.save:
        console.print(f"  saving   to {config.save}", markup=False)
    console.print("  models   loading", markup=False)
    if config.engines:
        console.print(f"  engines  {config.engines}, in processes of their own")
    else:
        _print_device(console)
    console.print("  Ctrl-C stops: open sessions get their finals first")
    status = 0
    warm = asyncio.create_task(life.wait_ready())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([warm, stopping], return_when=asyncio.FIRST_COMPLETED)
    try:
        if warm.done():
            warm.result()
            # What is there now stays: collecting it again and again would hold up audio for tens of milliseconds.
            gc.collect()
            gc.freeze()
            _print_ears(console, server)
            console.print(f"ready after {time.monotonic() - began:.1f} s")
            failing = asyncio.create_task(life.wait_stopped())
            await asyncio.wait([stopping, failing], return_when=asyncio.FIRST_COMPLETED)
            failing.cancel()
            engine.check_running()
        console.print("stopping")
    except ParastreamError as error:
        console.print(f"{error}", markup=False)
        status = 1
    warm.cancel()
    stopping.cancel()
    await server.close()
    await life.close()
    return status


def _print_ears(console: Console, server: Server) -> None:
    """Say what listens."""
    for ear in server.ears:
        hears = " and ".join(["text while people speak"] * ear.partials + ["finals"] * ear.finals)
        few = ear.languages if len(ear.languages) <= _MOST_LANGUAGES else (f"{len(ear.languages)} languages",)
        told = [hears, ", ".join(few), f"computed by {ear.computed}", ear.figures, ear.licence]
        console.print(f"  hears    {ear.name}: {'; '.join(filter(None, told))}", markup=False, soft_wrap=True)


def _print_device(console: Console) -> None:
    from parastream.model.device import on_cpu  # imports MLX, which has to wait for prepare_process

    console.print(f"  device   {'CPU' if on_cpu() else 'GPU'}")
    console.print(f"  BLAS     {blas.info()}", markup=False)


def _stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGINT or SIGTERM sets; the second signal ends the process."""
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _on_thread(call: Callable[[], None]) -> None:
    """Wait for a call that blocks, and raise what it raises. Nothing waits for it when this is cancelled."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    failure: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            failure.append(error)
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(done.set)

    # A daemon: after a signal during a long load nobody waits for it, as asyncio would for a thread of its own.
    threading.Thread(target=run, name="parastream-waiting", daemon=True).start()
    await done.wait()
    if failure:
        raise failure[0]
