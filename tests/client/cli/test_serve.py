"""`parastream serve` as a process."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from parastream.client.cli import engine_process
from parastream.server.wire.messages import Done, Final, Partial, decode_server_message
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from tests.client.cli.command import SAID, SAMPLE, Run, Served
from tests.conftest import SAMPLE_TEXTS
from tests.waiting import wait_until


@pytest.mark.process
def test_readyz_answers_once_warm(served: Served) -> None:
    with urllib.request.urlopen(served.url.replace("ws://", "http://").replace("/v1/stream", "/readyz")) as answer:
        assert answer.status == 200


def test_serve_refuses_wrong_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("porrt = 1\n")
    result = run("serve", "--config", tmp_path / "settings.toml")
    assert result.status == 1
    assert "unknown setting 'porrt'; did you mean port?" in result.err
    result = run("serve", "--host", "0.0.0.0")
    assert result.status == 1
    assert "set a token" in result.err
    (tmp_path / "rules.txt").write_text("a => b\nwrong\n")
    result = run("serve", "--replace", tmp_path / "rules.txt")
    assert result.status == 1
    assert f"{tmp_path / 'rules.txt'}, line 2: 'wrong' is no rule" in result.err


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--log-level", "error"], False), (["--verbose"], True)],
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
    assert "INFO session" in server.log
    assert "websockets" not in server.log
    told = re.findall(r"DEBUG session [\w-]{8}, utterance \d.*: final \d+ ms after its audio", server.log)
    assert len(told) == len(SAID)
    batches = families["parastream_engine_batch_size"].samples
    assert {each.labels["kind"] for each in batches} == {"vad", "finals", "marks"}  # no partials were asked for
    assert all(each.value > 0 for each in batches if each.name.endswith("_count"))


def value(served: Served, name: str) -> float:
    page = served.url.replace("ws://", "http://").replace("/v1/stream", "/metrics")
    with urllib.request.urlopen(page) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return next(each.value for family in families for each in family.samples if each.name == f"parastream_{name}")


@pytest.mark.process
@pytest.mark.slow
def test_an_engine_is_killed_and_no_client_hears_of_it(sample: NDArray[np.int16]) -> None:
    """One connection throughout: a client that came back on another one would not show what is meant here."""
    server = Served("--engines", "2")
    engines = [
        child for child in psutil.Process(server.process.pid).children() if engine_process.__name__ in child.cmdline()
    ]
    assert len(engines) == 2
    audio, finals = sample.tobytes(), []
    with connect(server.url) as websocket:
        websocket.send('{"type":"start","format":"s16le","rate":16000}')
        for part, engine in enumerate([engines[0], None, engines[1], None]):
            websocket.send(audio[part * len(audio) // 4 : (part + 1) * len(audio) // 4])
            if engine is not None:  # in the middle of words
                while not isinstance(message := decode_server_message(websocket.recv(30)), Partial):
                    finals += [message] if isinstance(message, Final) else []
                engine.kill()
        websocket.send('{"type":"stop"}')
        while not isinstance(message := decode_server_message(websocket.recv(30)), Done):
            finals += [message] if isinstance(message, Final) else []
    assert [final.text for final in finals] == SAMPLE_TEXTS
    assert [final.utterance for final in finals] == [0, 1, 2]
    assert value(server, "sessions_moved_total") >= 1
    wait_until(lambda: value(server, "engines") == 2)
    assert server.stop() == 0
    assert server.log.count("is started again") == 2
