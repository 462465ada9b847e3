"""The JavaScript client in Node, against a real server."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
from math import inf
from pathlib import Path

import pytest

from tests.client.cutting_proxy import CuttingProxy
from tests.server.fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving
from tests.web.scripting import node

PACKAGE = Path(__file__).parents[2] / "client-js"
AUDIO = random.Random(0).randbytes(60 * UTTERANCE + 1000)


def example() -> str:
    """The one for Node in the client's documentation."""
    examples = re.findall(r"```js\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    (found,) = [example for example in examples if "node:fs" in example]
    return str(found)


@pytest.mark.process
@pytest.mark.parametrize("allowances", [[], [50_000.0, 90_000.0]], ids=["whole", "broken"])
@asynchronous
async def test_the_documented_example_transcribes_all_audio_once(tmp_path: Path, allowances: list[float]) -> None:
    program = node()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "parastream").symlink_to(PACKAGE)
    (tmp_path / "speech.pcm").write_bytes(AUDIO)
    engine = FakeEngine()
    async with serving(engine) as server:
        proxy = CuttingProxy(server.port, lambda: allowances.pop(0) if allowances else inf)
        async with proxy.running() as url:
            (tmp_path / "example.mjs").write_text(example().replace("ws://127.0.0.1:8765", url))
            # Node has a WebSocket of its own from 22 on; 20 has it on request.
            command = [program, "--experimental-websocket", "example.mjs"]
            result = await asyncio.to_thread(
                subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False
            )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == expected_texts(AUDIO)
    assert [stream.audio for stream in engine.streams if not stream.cancelled] == [AUDIO]
    assert allowances == []
