"""Importing changes nothing in the process; `prepare_process` does; who forgets it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
linux = pytest.mark.skipif(sys.platform != "linux", reason="MLX brings a fast BLAS on macOS")

REPORT = """
import ctypes, json, os, sys
import numpy
from threadpoolctl import threadpool_info, threadpool_limits

looked_up = []
sys.addaudithook(lambda event, arguments: event == "ctypes.dlsym" and looked_up.append(arguments[1]))

def state():
    return dict(
        environment=dict(os.environ),
        threads=sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info()),
        mlx="mlx" in sys.modules,
        malloc="mallopt" in looked_up,
        blas=hasattr(ctypes.CDLL(None), "cblas_sgemm"),
    )

threadpool_limits(2)  # so that a limit of one thread shows on a machine with one CPU too
before = state()
{action}
print(json.dumps([before, state()]))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)


def states(action: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state of a fresh process before and after an action."""
    before, after = json.loads(run(REPORT.format(action=action)).stdout)
    return before, after


@pytest.mark.parametrize(
    "modules",
    [
        "parastream.model; from parastream.model import load, prepare_process, Punctuator, SpeechModel",
        "parastream.model.text, parastream.model.blas, parastream.model.process, parastream.model.silero_weights",
        "parastream.model.punctuation, parastream.model.hubs, parastream.model.tokenizer",
        "parastream.streaming",
        "parastream.server.app",
    ],
)
def test_an_import_changes_nothing(modules: str) -> None:
    before, after = states(f"import {modules}")
    # Packages may bring a BLAS of their own, but the ones that were there stay as they were.
    known = [pool for pool in after["threads"] if pool[0] in dict(before["threads"])]
    assert after | {"threads": known} == before


@linux
def test_importing_the_network_leaves_the_process_alone_too() -> None:
    before, after = states("import parastream.model.paraformer")
    assert after["mlx"]
    for what in ("environment", "malloc", "blas"):
        assert after[what] == before[what], what


@linux
def test_the_process_is_prepared_when_its_owner_asks() -> None:
    before, after = states("import parastream.model; parastream.model.prepare_process()")
    assert (before["malloc"], before["blas"]) == (False, False)
    assert (after["malloc"], after["blas"], after["mlx"]) == (True, True, False)
    assert {count for _, count in before["threads"]} == {2}
    assert {count for _, count in after["threads"]} == {1}
    assert after["environment"]["MLX_BFS_MAX_WIDTH"] == "400"
    assert after["environment"]["MLX_USE_CUDA_GRAPHS"] == "0"


@linux
def test_loading_returns_memory_that_nobody_uses_to_the_kernel() -> None:
    program = """
from pathlib import Path
import parastream.model

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

parastream.model.prepare_process()
blocks = [b"x" * 1_000_000 for _ in range(600)]
blocks = blocks[-1:]  # those below it are free, and kept
before = resident()
parastream.model.load(offline=True)
print(before - resident())
"""
    assert int(run(program).stdout) > 100_000_000


@linux
@pytest.mark.parametrize(
    ("first", "warnings"),
    [("", 1), ("parastream.model.prepare_process()", 0)],
    ids=["forgotten", "prepared"],
)
def test_who_forgets_to_prepare_the_process_is_told_once(first: str, warnings: int) -> None:
    """Models are loaded all the same, as often as one likes."""
    program = f"""
import parastream.model
from parastream.model import SpeechModel, load
{first}
for _ in range(2):
    load(offline=True)
"""
    said = run(program).stderr
    assert said.count("RuntimeWarning") == warnings, said
    assert said.count("parastream.model.prepare_process()") >= warnings


@linux
def test_what_mlx_was_imported_with_can_be_asked_without_preparing() -> None:
    program = """
from parastream.model import blas
assert not blas.info().fast
import mlx.core
assert not blas.info().fast and "prepare_process() was not called" in str(blas.info())
assert not blas.preload().fast and "mlx was imported before" in str(blas.info())
"""
    run(program)


@linux
def test_nothing_is_compiled(tmp_path: Path) -> None:
    """MLX would call a C++ compiler, if there is one, and load what it makes from a directory that others may write."""
    compiler, called = tmp_path / "g++", tmp_path / "called"
    compiler.write_text(f"#!/bin/sh\ntouch {called}\nexit 1\n")
    compiler.chmod(0o755)
    program = """
import parastream.model
from parastream.model.loading import load_final_pass
parastream.model.prepare_process()
parastream.model.load(compute="mlx").warm_up()
load_final_pass("whisper-tiny-en", compute="mlx").warm_up()
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=120, check=True)
    assert not called.exists()


def test_a_thread_may_leave_while_another_imports_mlx(tmp_path: Path) -> None:
    """As one does that finds no model while the server says what it runs on."""
    core = "import __main__\n__main__.began.set()\n__main__.go.wait()\ndef clear_streams(): print('cleared')\n"
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "__init__.py").touch()
    (tmp_path / "mlx" / "core.py").write_text(core)
    program = f"""
import sys
import threading
import time
from parastream.model.process import leave_thread

sys.path.insert(0, {str(tmp_path)!r})
began, go = threading.Event(), threading.Event()
threading.Thread(target=__import__, args=("mlx.core",)).start()
began.wait()
leaving = threading.Thread(target=leave_thread)
leaving.start()
while leaving.is_alive() and sys._current_frames()[leaving.ident].f_code.co_name != "acquire":  # of the import's lock
    time.sleep(0.001)
go.set()
"""
    assert run(program).stdout == "cleared\n"
