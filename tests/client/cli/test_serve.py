"""`parastream serve` as a process."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from tests.client.cli.command import SAID, SAMPLE, Run, Served


@pytest.mark.process
def test_readyz_answers_once_warm(served: Served) -> None:
    with urllib.request.urlopen(served.url.replace("ws://", "http://").replace("/v1/stream", "/readyz")) as answer:
        assert answer.status == 200


def test_serve_refuses_wrong_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("prot = 1\n")
    result = run("serve", "--config", tmp_path / "settings.toml")
    assert result.status == 1
    assert "unknown setting 'prot'; did you mean port?" in result.err
    result = run("serve", "--host", "0.0.0.0")
    assert result.status == 1
    assert "set a token" in result.err


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], False), (["--log-level", "error"], False), (["--verbose"], True), (["--log-level", "debug"], True)],
)
def test_the_log_level_chooses_what_is_logged(arguments: list[str], told: bool) -> None:
    server = Served(*arguments)
    with connect(server.url) as websocket:
        websocket.send('{"type":"start"}')
        websocket.recv()
    assert server.stop() == 0
    assert ("INFO session" in server.log) == told
    assert "websockets" not in server.log  # libraries speak up from warnings on


@pytest.mark.process
def test_debugging_shows_where_the_time_of_each_final_went(run: Run) -> None:
    server = Served("--log-level", "debug")
    assert run("transcribe", SAMPLE, "--server", server.url).status == 0
    page = server.url.replace("ws://", "http://").replace("/v1/stream", "/metrics")
    with urllib.request.urlopen(page) as answer:
        families = {each.name: each for each in text_string_to_metric_families(answer.read().decode())}
    assert server.stop() == 0
    told = re.findall(r"DEBUG session [\w-]{8}, utterance \d.*: final \d+ ms after its audio", server.log)
    assert len(told) == len(SAID)
    batches = families["parastream_engine_batch_size"].samples
    assert {each.labels["kind"] for each in batches} == {"vad", "finals", "marks"}  # no partials were asked for
    assert all(each.value > 0 for each in batches if each.name.endswith("_count"))
