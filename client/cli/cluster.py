"""Recordings transcribed by actors of a Ray cluster, which is there already.

Ray (the extra `ray`) only starts the actors where there is room, and moves calls. What is done, by whom and how often
is decided here, as for processes of this machine. All nodes need parastream, and the recordings at the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parastream.client.cli.backends import LocalBackend, Outcome, Watcher
from parastream.client.cli.workers import Desk, Worker, WorkerLostError, share
from parastream.model import prepare_process
from parastream.model.errors import EngineError, ParastreamError

_PATIENCE = 10.0
"""Seconds in which somebody has to answer at an address, and after which it is said that actors are waited for."""


class ClusterError(ParastreamError):
    """There is no cluster to work with."""


@dataclass
class ClusterBackend:
    """Transcribes with actors of a Ray cluster; see `Backend`."""

    local: LocalBackend
    address: str
    """`HOST:PORT` of a cluster of which this machine is a node, or `auto`."""
    jobs: int | None
    """Actors; None: one for each GPU of the cluster, or without any, one for each CPU."""
    _ray: Any = field(default=None, init=False)
    _actors: list[_Actor] = field(default_factory=list, init=False)

    @property
    def at_once(self) -> int:
        """See `Backend`."""
        return len(self._actors)

    def prepare(self) -> None:
        """Start the actors and wait until one has loaded its models, so that wrong models are found out at once."""
        ray = self._ray = _connected(self.address)
        count, gpus = demand(ray.cluster_resources(), self.jobs, graphs=self.local.choice.compute == "graphs")
        # An actor that ends is not restarted by Ray: its place may be gone, and who waits for it would not be told.
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Transcribing)
        self._actors = [_Actor(ray, kind, self.local) for _ in range(count)]
        loading = [actor.loading for actor in self._actors]
        ready, _ = ray.wait(loading, timeout=_PATIENCE)
        if not ready:
            print(f"waiting for one of {count} actors to be started by the cluster", file=sys.stderr)
            ready, _ = ray.wait(loading)
        try:
            failure = ray.get(ready[0])
        except ray.exceptions.RayActorError as error:
            raise EngineError(f"an actor of the cluster ended before it had its models: {_last_line(error)}") from error
        if failure is not None:
            raise failure

    def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        """Share the files between the actors."""
        return share(files, watcher, self._actors)

    def close(self) -> None:
        """Leave the cluster, which ends the actors."""
        if self._ray is not None:
            self._ray.shutdown()


def demand(resources: Mapping[str, float], jobs: int | None, *, graphs: bool) -> tuple[int, int]:
    """Return how many actors there are to be, and how many GPUs each of them needs.

    Args:
        resources: What the cluster has, in Ray's words.
        jobs: How many the user wants; None: as many as there are GPUs, or else CPUs.
        graphs: Whether the models are computed by graphs, which need no GPU.
    """
    gpus = 0 if graphs else int(resources.get("GPU", 0))
    return jobs or gpus or int(resources.get("CPU", 0)) or 1, min(1, gpus)


def _connected(address: str) -> Any:
    """Return Ray, connected to a cluster.

    Raises:
        ClusterError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise ClusterError("--ray needs Ray: pip install 'parastream[ray]'") from error
    try:
        if ":" in address:  # Ray would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ClusterError(f"the Ray cluster {address} cannot be used: {_last_line(error)}") from error
    return ray


class _Actor(Worker):
    """An actor, as the process that shares the work out sees it."""

    def __init__(self, ray: Any, kind: Any, backend: LocalBackend) -> None:
        self._ray = ray
        self._kind = kind
        self._backend = backend
        self.start()

    def start(self) -> None:
        self._handle = self._kind.remote(self._backend, Path.cwd())
        self.loading = self._handle.failure.remote()

    async def ready(self) -> None:
        failure = await self._told(self.loading)
        if failure is not None:
            raise failure

    async def transcribe(self, file: Path) -> Outcome:
        outcome = await self._told(self._handle.transcribe.remote(file))
        assert isinstance(outcome, Outcome)
        return outcome

    async def _told(self, answer: Any) -> Any:
        try:
            return await answer
        except self._ray.exceptions.RayActorError as error:
            raise WorkerLostError(f"the actor that transcribed it ended ({_last_line(error)})") from error


class Transcribing:
    """What an actor is."""

    def __init__(self, backend: LocalBackend, directory: Path) -> None:
        """Load the models.

        Args:
            backend: What transcribes here.
            directory: Where relative names of files begin.
        """
        with contextlib.suppress(OSError):  # recordings that are not here say so
            os.chdir(directory)
        prepare_process(cpus=1)  # those of the other actors on this machine are theirs
        # MLX ties models to a thread, and Ray promises none.
        self._thread = ThreadPoolExecutor(1)
        self._desk: Desk
        self._failure: ParastreamError | None = None
        try:
            self._desk = self._thread.submit(Desk, backend).result()
        except ParastreamError as error:
            self._failure = error

    def failure(self) -> ParastreamError | None:
        """Say why the models could not be loaded, if that is so."""
        return self._failure

    def transcribe(self, file: Path) -> Outcome:
        """See `Desk.transcribe`."""
        return self._thread.submit(self._desk.transcribe, file).result()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
