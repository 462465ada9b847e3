"""A process in which an engine has served ends as it should."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import threading
from parastream.model import load, prepare_process, silero_weights
from parastream.streaming import Engine, Models, SessionConfig
from parastream.streaming.vad import Vad

prepare_process()
ended = threading.Event()
engine = Engine(lambda: Models(front=load(offline=True), vad=Vad(silero_weights.load(offline=True))))
engine.start()
engine.wait_ready()
stream = engine.open(SessionConfig(), lambda events: ended.set())
stream.send(bytes(32000))
stream.end()
assert ended.wait(30)
engine.close()
"""


@pytest.mark.process
def test_the_threads_of_mlx_are_gone_when_the_process_exits() -> None:
    # Once the engine's thread had ended, an exit at that moment aborted the process more often than not.
    for _ in range(3):
        process = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
        assert (process.returncode, process.stderr) == (0, "")
