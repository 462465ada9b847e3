"""The vendors' own clients for JavaScript, in Node."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ...conftest import SAMPLE
from ...web.scripting import node
from ..fakes import UTTERANCE, FakeEngine, FakeStream, asynchronous, expected_texts, serving

SDKS = Path(__file__).parents[2] / "sdks"
EXPECTED = {"RubOut", "SevenTy"}
AUDIO = random.Random(0).randbytes(5 * UTTERANCE)

pytestmark = pytest.mark.process


async def printed(script: str, url: str, what: str, file: Path, **environment: str) -> str:
    """What a script prints that is given a file."""
    if not (SDKS / "node_modules").exists():
        reason = "the clients are not installed (npm ci in tests/sdks)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    command = [node(), str(SDKS / script), url, what, str(file)]
    env = os.environ | environment
    result = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


async def texts(script: str, url: str, what: str, directory: Path, **environment: str) -> list[str]:
    """Final texts that a script prints for the audio."""
    (directory / "audio").write_bytes(AUDIO)
    return (await printed(script, url, what, directory / "audio", **environment)).split()


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


def terms(stream: FakeStream) -> set[str]:
    return {hotword.term for hotword in stream.config.hotwords}


async def uploaded(script: str, engine: FakeEngine) -> Any:
    """What a script prints that uploads the sample."""
    async with serving(engine) as server:
        return json.loads(await printed(script, f"http://127.0.0.1:{server.port}", "", SAMPLE))


@asynchronous
async def test_openais_client_uploads() -> None:
    engine = FakeEngine()
    answer = await uploaded("openai-uploads.mjs", engine)
    assert answer["text"] == answer["named"] != ""
    assert answer["parts"][-1] == "transcript.text.done"
    assert set(answer["parts"][:-1]) == {"transcript.text.delta"}
    assert answer["models"][:2] == ["scripted", "whisper-1"]
    assert answer["secret"].startswith("ek_")
    assert [terms(stream) for stream in engine.streams] == [set(), EXPECTED, set()]


@asynchronous
async def test_deepgrams_client_uploads() -> None:
    engine = FakeEngine()
    answer = await uploaded("deepgram-uploads.mjs", engine)
    assert answer["text"]
    assert [terms(stream) for stream in engine.streams] == [EXPECTED]
