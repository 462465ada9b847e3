"""The vendors' own clients for JavaScript, in Node."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ...web.scripting import node
from ..fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, serving

SDKS = Path(__file__).parents[2] / "sdks"
AUDIO = random.Random(0).randbytes(5 * UTTERANCE)

pytestmark = pytest.mark.process


async def texts(script: str, url: str, what: str, directory: Path, **environment: str) -> list[str]:
    """Final texts that a script prints for the audio."""
    if not (SDKS / "node_modules").exists():
        reason = "the clients are not installed (npm ci in tests/sdks)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    (directory / "audio").write_bytes(AUDIO)
    command = [node(), str(SDKS / script), url, what, str(directory / "audio")]
    env = os.environ | environment
    result = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return str(result.stdout).split()


@pytest.mark.parametrize("version", ["v1", "v2"])
@asynchronous
async def test_deepgrams_client(version: str, tmp_path: Path) -> None:
    async with serving(FakeEngine()) as server:
        heard = await texts("deepgram.mjs", f"ws://127.0.0.1:{server.port}", version, tmp_path)
    assert heard == expected_texts(AUDIO)


@asynchronous
async def test_openais_client(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    tls: dict[str, Any] = {"tls_cert": str(cert), "tls_key": str(key)}
    async with serving(FakeEngine(), **tls) as server:
        url = f"wss://localhost:{server.port}"
        heard = await texts("openai.mjs", url, "", tmp_path, NODE_EXTRA_CA_CERTS=str(cert))
    assert heard == expected_texts(AUDIO)


@asynchronous
async def test_openais_client_for_voice_agents(tmp_path: Path) -> None:
    expected = expected_texts(AUDIO)
    async with serving(FakeEngine()) as server:
        heard = await texts("agents.mjs", f"ws://127.0.0.1:{server.port}", str(len(expected)), tmp_path)
    assert heard[-len(expected) :] == expected
