"""The documented examples run, and say what they promise."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import parastream.model.loading
import parastream.streaming.transcriber
import pytest
import soundfile
from parastream.server.app import Server
from parastream.server.config import ServerConfig
from parastream.streaming import Engine

from .conftest import SAMPLE, SAMPLE_TEXTS, load_models
from .server.fakes import UTTERANCE, expected_texts
from .server.protocols.talking import Talk

ROOT = Path(__file__).parents[1]


def snippets(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


SNIPPETS = snippets("README.md")
SPEECH = b"\0\1" * UTTERANCE


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory to work in that holds the recording which the examples name."""
    samples, rate = soundfile.read(SAMPLE, dtype="int16")
    soundfile.write(tmp_path / "talk.wav", samples, rate)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A real server on a free port."""
    engine = Engine(load_models)
    engine.start()
    engine.wait_ready(60)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(engine, ServerConfig(port=0))
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield f"ws://127.0.0.1:{server.port}"
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    engine.close()


@pytest.mark.parametrize("module", [parastream.model.loading, parastream.streaming.transcriber])
def test_docstrings(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]  # it is a module
    assert results.attempted > 0
    assert results.failed == 0


def run(snippet: str) -> list[str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


@pytest.mark.usefixtures("talk")
def test_the_readme_transcribes_a_file() -> None:
    lines = run(SNIPPETS[0])
    assert [line.split(" ", 2)[2] for line in lines] == SAMPLE_TEXTS


@pytest.mark.usefixtures("talk")
def test_the_readme_transcribes_live() -> None:
    lines = run(SNIPPETS[1])
    assert [line for line in lines if not line.startswith("...")] == SAMPLE_TEXTS
    assert lines[0].startswith("... ")


@pytest.mark.usefixtures("talk")
def test_the_readme_talks_to_a_server(url: str) -> None:
    assert "ws://127.0.0.1:8765" in SNIPPETS[2]
    assert run(SNIPPETS[2].replace("ws://127.0.0.1:8765", url)) == SAMPLE_TEXTS


def test_the_adapter_in_contributing_is_a_protocol() -> None:
    namespace: dict[str, Any] = {}
    exec(compile(snippets("CONTRIBUTING.md")[0], "CONTRIBUTING.md", "exec"), namespace)
    talk = Talk(namespace["Lines"])
    talk.say(SPEECH, "end")
    assert talk.raw() == expected_texts(SPEECH)
    assert talk.close_code == 1000

    talk = Talk(namespace["Lines"])
    talk.say("stop")
    assert talk.raw() == ["error: text 'stop'; allowed: end"]
    assert talk.close_code == 1002
