"""The process `parastream serve`: load, listen, and drain on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from importlib.metadata import version

from parastream.model import blas, catalogue, prepare_process
from parastream.model.errors import ParastreamError
from parastream.server.app import new_server
from parastream.server.config import LogLevel, ServerConfig
from parastream.server.transport.files import raise_limit
from parastream.streaming import Models
from rich.console import Console


def serve(config: ServerConfig, load: Callable[[], Models]) -> int:
    """Serve until a signal comes, then send the finals of all sessions and return the exit status.

    Messages of `config.log_level` and above go to stderr. A second signal ends the process at once. The process
    is taken to be the server's own: it is set up for computing (see `parastream.model.prepare_process`).

    Args:
        config: The server's settings.
        load: Loads the models; called on the engine's thread.
    """
    _log(config.log_level)
    prepare_process()
    raise_limit()
    return asyncio.run(_serve(config, load))


async def _serve(config: ServerConfig, load: Callable[[], Models]) -> int:
    from parastream.model.device import on_cpu  # imports MLX, which has to wait for prepare_process

    console = Console(stderr=True, highlight=False)
    stop = _stop_on_signals()
    began = time.monotonic()
    server = new_server(load, config)
    engine = server.engine
    try:
        await server.start()
    except OSError as error:
        console.print(f"cannot listen: {error.strerror or error}", markup=False, soft_wrap=True)
        return 1
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload_certificate)
    engine.start()
    console.print(f"parastream {version('parastream')}")
    console.print(f"  address  {server.url}")
    console.print(f"  page     {server.page_url}")
    for protocol, port in server.ports.items():
        console.print(f"  {protocol:8} on port {port}")
    if config.save:
        console.print(f"  saving   to {config.save}", markup=False)
    console.print(f"  model    {config.model or catalogue.DEFAULT}, loading", markup=False)
    console.print(f"  device   {'CPU' if on_cpu() else 'GPU'}")
    console.print(f"  BLAS     {blas.info()}", markup=False)
    console.print("  Ctrl-C stops: open sessions get their finals first")
    status = 0
    warm = asyncio.create_task(_on_thread(engine.wait_ready))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([warm, stopping], return_when=asyncio.FIRST_COMPLETED)
    try:
        if warm.done():
            warm.result()
            # What is there now stays: collecting it again and again would hold up audio for tens of milliseconds.
            gc.collect()
            gc.freeze()
            console.print(f"ready after {time.monotonic() - began:.1f} s")
            failing = asyncio.create_task(_on_thread(engine.wait_stopped))
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
    await asyncio.to_thread(engine.close)
    return status


def _log(level: LogLevel) -> None:
    """Log our own messages from `level` on, and those of libraries from warnings on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.WARNING), format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("parastream").setLevel(number)


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
