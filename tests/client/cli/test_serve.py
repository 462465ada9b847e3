"""`parastream serve` as a process."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.client.cli.command import Run, Served


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
