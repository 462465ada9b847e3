"""`parastream transcribe --ray`, on a cluster of two nodes on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from parastream.client.cli.backends import ChannelChoice, LocalBackend
from parastream.client.cli.cluster import Transcribing, demand
from parastream.client.cli.composition import ModelChoice
from parastream.model import blas

from tests.client.cli.command import SAID, SAMPLE, TRANSCRIBE, Run, words
from tests.waiting import wait_until

LIMIT = 240
"""Seconds: it takes 10 to start a cluster and actors there, and a busy machine ten times as many."""
WITHOUT_RAY = "Ray is not installed: pip install 'parastream[ray]'"
AN4 = Path(__file__).parents[2] / "data" / "an4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "--ray=nonsense"], r"--ray.*HOST:PORT or auto, not nonsense"),
        (["-", "--ray"], "--ray.*not for the standard input"),
        (["--ray", "in", "--server", "ws://localhost:1"], "--ray.*cannot be used with --server"),
        (["in", "--ray", "127.0.0.1:0"], "the Ray cluster 127.0.0.1:0 cannot be used: "),
        (["--ray", "in"], "the Ray cluster auto cannot be used: "),
    ],
)
def test_what_is_no_cluster(
    run: Run, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").touch()
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    monkeypatch.setattr("ray.init", no_cluster)
    result = run("transcribe", *arguments, "-o", "out")
    assert result.status in (1, 2)
    assert re.search(message, " ".join(result.err.split()))


def no_cluster(*_: object, **__: object) -> None:
    raise ConnectionError("Could not find any running Ray instance.")


def test_ray_has_to_be_installed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("transcribe", SAMPLE, "--ray", "-o", tmp_path)
    assert (result.status, result.err) == (1, "error: --ray needs Ray: pip install 'parastream[ray]'\n")


@pytest.mark.parametrize(
    ("resources", "jobs", "graphs", "expected"),
    [
        ({"CPU": 6.0, "memory": 1e9}, None, False, (6, 0)),
        ({"CPU": 64.0, "GPU": 4.0}, None, False, (4, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, 9, False, (9, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, None, True, (64, 0)),
        ({}, None, False, (1, 0)),  # there may be machines later
    ],
)
def test_how_many_actors_there_are(
    resources: dict[str, float], jobs: int | None, graphs: bool, expected: tuple[int, int]
) -> None:
    assert demand(resources, jobs, graphs=graphs) == expected


def test_what_an_actor_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On whatever thread it is called."""
    monkeypatch.setattr(blas, "_share", None)
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLE, tmp_path)
    local = LocalBackend(ModelChoice(model="asr-small-en"), final_pass=True, channels=ChannelChoice(None))
    with ThreadPoolExecutor(1) as elsewhere:
        actor = elsewhere.submit(Transcribing, local, tmp_path).result()
    assert actor.failure() is None
    outcome = actor.transcribe(Path(SAMPLE.name))
    assert outcome.error is None
    assert [words(each.text) for each in outcome.utterances or ()] == SAID
    assert blas.cpu_count() == 1
    missing = replace(local, choice=ModelChoice(model=str(tmp_path)))
    assert str(tmp_path) in str(Transcribing(missing, tmp_path / "gone").failure())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a CPU each."""
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    from ray._private import services
    from ray.cluster_utils import Cluster

    asked = services.get_node

    def patient(*arguments: Any) -> Any:
        """Ray itself gives a node 30 s to come, which is too little on a machine that is busy."""

        def found() -> Any:
            with suppress(RuntimeError):
                return asked(*arguments)

        return wait_until(found, limit=LIMIT)

    monkeypatch.setattr(services, "get_node", patient)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    less = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    slowly = {"worker_register_timeout_seconds": LIMIT}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": slowly, **less})
    made.add_node(num_cpus=1, wait=False)
    made.wait_for_nodes(LIMIT)
    yield made
    made.shutdown()


def kill(cluster: Any) -> None:
    """Kill a node, as a machine is lost: with all that runs there."""
    (node,) = cluster.worker_nodes
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    there = [raylet, *raylet.children(recursive=True)]
    for process in there:
        process.kill()
    psutil.wait_procs(there)
    cluster.remove_node(node, allow_graceful=False)


def begun(pipe: Path) -> IO[bytes]:
    """Wait until somebody reads a pipe."""

    def opened() -> int | None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    descriptor = wait_until(opened, limit=LIMIT)
    assert descriptor is not None
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def lay(pipes: Sequence[Path]) -> None:
    """Put new pipes there."""
    for pipe in pipes:
        pipe.unlink()
        os.mkfifo(pipe)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(3 * LIMIT)
def test_neither_a_driver_nor_a_node_that_is_killed_costs_a_transcript(run: Run, tmp_path: Path, cluster: Any) -> None:
    """Recordings in pipes tell when they are begun, and wait."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = sorted(AN4.glob("*.flac"))[:4]
    files = [Path(shutil.copy(name, source)) for name in names]
    pipes = files[1:3]
    lay(pipes)
    arguments = [*TRANSCRIBE, source, "--ray", cluster.address, "-o", out]

    command = [sys.executable, "-m", "parastream.client.cli", *map(str, arguments), "--jobs", "1"]
    with subprocess.Popen(command) as driver, begun(pipes[0]):
        wait_until((out / f"{files[0].stem}.txt").exists, limit=LIMIT)
        driver.kill()
    lay(pipes)  # the actors that had the driver may not know yet that it is gone

    def lose_a_node() -> None:
        both = [begun(pipe) for pipe in pipes]
        kill(cluster)
        lost = []
        for writer, name, pipe in zip(both, names[1:3], pipes, strict=True):
            try:
                with writer:
                    writer.write(name.read_bytes())
            except BrokenPipeError:
                lost.append((name, pipe))
        ((name, pipe),) = lost
        with begun(pipe) as again:  # the other actor, now that it has done its own
            again.write(name.read_bytes())

    with ThreadPoolExecutor(1) as other:
        losing = other.submit(lose_a_node)
        result = run(*arguments)
        losing.result()
    assert (result.status, result.err.splitlines()[-1]) == (0, "3 transcribed, 1 had been there")
    expected = run(*TRANSCRIBE, *names, "-o", tmp_path / "expected")
    assert expected.status == 0
    for file in files:
        assert (out / f"{file.stem}.txt").read_text() == (tmp_path / "expected" / f"{file.stem}.txt").read_text()
