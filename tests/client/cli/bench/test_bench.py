"""`parastream bench`: what its figures mean, on events made by hand; and that it measures, on real speech."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parastream.client.cli.bench import clients, inference, latency, processes, results
from parastream.client.cli.bench.latency import Latencies, SessionTrace, percentile, problem, summary
from parastream.client.cli.main import main
from parastream.client.errors import ClientError
from parastream.model.config import ROW_SECONDS, ChunkSize
from parastream.server.wire.messages import Done, Error, Final, Partial, ServerMessage, SpeechEnded, SpeechStarted
from parastream.streaming.endpoint import EndpointConfig

PERCENTILES = ["p50", "p95", "p99"]


def bench(*arguments: object) -> int:
    """Exit status of the command."""
    with pytest.raises(SystemExit) as exit:
        main(["bench", *map(str, arguments)])
    assert isinstance(exit.value.code, int)
    return exit.value.code


def ordered(figures: dict[str, float]) -> bool:
    return list(figures) == PERCENTILES and sorted(figures.values()) == list(figures.values())


def spoken(*received: tuple[float, ServerMessage], seconds: float = 5.0, began: float = 100.0) -> SessionTrace:
    """A trace whose blocks were sent exactly on time."""
    return SessionTrace([began + 0.1 * block for block in range(round(10 * seconds))], list(received))


def partial(utterance: int, start: float, end: float, text: str = "one") -> Partial:
    return Partial(utterance, start, end, "", text, ())


def final(utterance: int, start: float, end: float) -> Final:
    return Final(utterance, start, end, "One.", (), 0.9)


def latencies(trace: SessionTrace) -> Latencies:
    found = Latencies()
    found.add(trace)
    return found


# --- what the figures mean ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 50, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        (range(1, 101), 95, 95),
        (range(1, 101), 99, 99),
        ([1, 2], 95, 2),
    ],
)
def test_percentiles(values: Sequence[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_a_partial_that_covers_no_more_than_the_one_before_is_not_late() -> None:
    trace = spoken(
        (102.0, partial(0, 0.5, 1.8)), (102.4, partial(0, 0.5, 1.8, "refined")), (102.6, partial(0, 0.5, 2.4))
    )
    assert latencies(trace).partial_beyond_look == pytest.approx([300, 300])


def test_there_are_no_percentiles_of_nothing() -> None:
    assert math.isnan(percentile([], 50))
    assert summary([]) == {"p50": None, "p95": None, "p99": None}
    assert summary([1.26, 1.24]) == {"p50": 1.2, "p95": 1.3, "p99": 1.3}


def test_the_look_and_the_endpoint_are_those_of_the_server() -> None:
    assert pytest.approx(ChunkSize().window * ROW_SECONDS) == latency.LOOK
    config = EndpointConfig()
    endpoint = latency.ENDPOINT
    assert (endpoint.pre_roll, endpoint.hangover, endpoint.min_silence) == (
        config.pre_roll,
        config.hangover,
        config.min_silence,
    )


def test_a_partial_is_late_by_the_audio_that_it_needs() -> None:
    # Audio up to 1.484 s was there with the block that begins at 1.4 s, the 15th; the hop begins at 0.584 s.
    found = latencies(spoken((101.45, partial(0, 0.284, 1.484))))
    assert found.partial_beyond_look == pytest.approx([50.0])
    assert found.partial == pytest.approx([950.0])


def test_the_first_hop_begins_before_the_session() -> None:
    found = latencies(spoken((100.6, partial(0, 0.0, 0.6))))
    assert found.partial == pytest.approx([1000.0])
    assert found.partial_beyond_look == pytest.approx([100.0])


def test_a_first_partial_is_late_by_the_speech_before_it() -> None:
    found = latencies(
        spoken(
            (101.9, partial(0, 0.5, 1.7, text="")),  # says nothing
            (102.4, partial(0, 0.5, 2.3)),  # speech from 0.8 s on, sent at 100.7
            (102.9, partial(0, 0.5, 2.9)),
        )
    )
    assert found.first_partial == pytest.approx([1700.0])
    assert len(found.partial) == 3


def test_without_room_for_a_pre_roll_speech_begins_at_once() -> None:
    found = latencies(
        spoken(
            (101.0, partial(0, 0.0, 0.6)),  # at the session's start
            (103.0, partial(1, 2.0, 2.6)),  # right behind the first, whose end is told later
            (103.1, SpeechEnded(0, 2.0)),
        )
    )
    # Of what comes before position 0 nothing was sent; the block before it would have been due 100 ms earlier.
    assert found.first_partial == pytest.approx([1100.0, 1100.0])


def test_a_final_is_late_by_the_silence_that_decided_its_end() -> None:
    # Speech ended at 2.048 s; the 19th frame of silence ended at 2.656 s, which the block at 2.6 s brought.
    trace = spoken((102.75, SpeechEnded(0, 2.348)), (102.75, final(0, 0.5, 2.348)))
    assert latencies(trace).final_after_endpoint == pytest.approx([150.0])


def test_a_final_at_the_end_of_the_audio_has_no_endpoint() -> None:
    assert latencies(spoken((105.1, final(0, 4.0, 5.0)))).final_after_endpoint == []


@pytest.mark.parametrize(
    ("messages", "failure", "expected"),
    [
        ([SpeechStarted(0, 1.0), final(0, 1.0, 2.0), Done(5.0)], "", ""),
        ([Error("capacity", "full")], "", "capacity: full"),
        ([], "no session: refused", "no session: refused"),
        ([SpeechStarted(0, 1.0), final(0, 1.0, 2.0)], "", "the session did not end"),
        ([Done(4.9)], "", "audio was lost: 4.900 of 5.000 s arrived"),
        (
            [SpeechStarted(0, 1.0), SpeechStarted(1, 2.0), final(0, 1.0, 2.0), Done(5.0)],
            "",
            "an utterance has no final",
        ),
    ],
)
def test_what_counts_as_dropped(messages: list[ServerMessage], failure: str, expected: str) -> None:
    trace = spoken(*((101.0, message) for message in messages))
    trace.failure = failure
    assert problem(trace) == expected


def test_utterances_in_batches_of_like_length() -> None:
    rows = [np.zeros((length, 2), np.float32) for length in (300, 10, 500, 400, 490)]
    batches = inference.batched_by_length(rows)
    assert [[len(utterance) for utterance in batch] for batch in batches] == [[500, 490], [400, 300], [10]]


BUSY_FAMILY = """
import subprocess, sys, time

def spend():
    began = time.process_time()
    while time.process_time() < began + 0.2:
        pass

match sys.argv[1:]:
    case []:
        subprocess.run([sys.executable, __file__, "ends"], check=True)
        with subprocess.Popen([sys.executable, __file__, "stays"], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            spend()
            print("ready", flush=True)
    case ["ends"]:
        spend()
    case ["stays"]:
        spend()
        print("ready", flush=True)
        sys.stdin.read()
"""
"""A process with one child that has ended and one that has not; each spends 0.2 s of CPU time."""


@pytest.mark.process
def test_usage_of_a_process_counts_its_descendants(tmp_path: Path) -> None:
    program = tmp_path / "family.py"
    program.write_text(BUSY_FAMILY)
    with subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        used = processes.usage(process.pid)
    # The system counts in ticks of 10 ms; macOS leaves out children that have ended.
    assert used.cpu_seconds > (0.55 if sys.platform == "linux" else 0.35)
    assert 10 < used.memory_mb <= used.peak_mb


@pytest.mark.process
def test_a_process_that_is_not_there_has_used_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert processes.usage(process.pid) == processes.Usage(0.0, 0.0, 0.0)


def test_a_table_of_results() -> None:
    measured: list[results.Result] = [
        {"hardware": "A|B", "partial_ms": {"p50": 1234.56, "p95": None}, "runs": [1]},
        {"hardware": "C", "clients": 3, "partial_ms": {"p50": 0.012345}},
    ]
    assert results.table(["one", "two"], measured).splitlines() == [
        "|  | one | two |",
        "| --- | --- | --- |",
        "| hardware | A/B | C |",
        "| partial_ms p50 | 1235 | 0.01235 |",
        "| partial_ms p95 | – |  |",
        "| clients |  | 3 |",
    ]


@pytest.mark.parametrize(
    ("capacity", "first", "largest", "tried"),
    [
        (100, 20, 100, [20, 40, 80, 160, 120, 100, 110, 105]),
        (3, 4, 3, [4, 2, 3]),
        (0, 2, 0, [2, 1]),
    ],
)
def test_the_search_for_the_largest_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capacity: int, first: int, largest: int, tried: list[int]
) -> None:
    numbers: list[int] = []

    async def measure(setting: clients.Setting, clients: int) -> dict[str, Any]:
        numbers.append(clients)
        good = clients <= capacity
        return {"clients": clients, "dropped": 0, "partial_ms": {"p95": 1000.0 if good else 1200.0}}

    monkeypatch.setattr(clients, "measure", measure)
    file = tmp_path / "result.json"
    status = clients.run(clients.Setting(5.0), first, file, find_largest=True)
    result = json.loads(file.read_text())
    assert numbers == tried
    assert result["largest_clients"] == largest
    assert result["clients"] == (largest or 1)
    assert [run["clients"] for run in result["runs"]] == tried
    assert status == int(largest == 0)


# --- measuring ---------------------------------------------------------------------------------


def test_window(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "window.json"
    assert (
        bench("window", "--batch", "1,2", "--repeats", 3, "--compute", "mlx", "--dtype", "float32", "--json", file) == 0
    )
    result = json.loads(file.read_text())
    assert {"hardware", "blas", "ms_per_session_window"} <= set(result)
    assert list(result["ms_per_session_window"]) == ["1", "2"]
    assert all(ms > 0 for ms in result["ms_per_session_window"].values())
    assert (result["model"], result["parameters"]) == ("asr-small-en", 30_866_963)
    assert (result["compute"], result["dtype"]) == ("mlx", "float32")
    assert "ms_per_session_window 2" in capfd.readouterr().out


def test_offline(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "offline.json"
    (tmp_path / "words.txt").write_text("rubout\n")
    words = ("--lm", "none", "--hotwords", tmp_path / "words.txt")
    assert bench("offline", "--repeats", 1, *words, "--json", file) == 0
    result = json.loads(file.read_text())
    assert (result["lm"], result["hotwords"]) == ("none", 1)
    assert (result["recordings"], result["seconds"], result["utterances"]) == (1, 12.0, 3)
    assert 0 < result["real_time_factor"] < 1
    capfd.readouterr()
    assert bench("report", file, file) == 0
    assert "| utterances | 3 | 3 |" in capfd.readouterr().out


@pytest.mark.process
@pytest.mark.slow
def test_clients(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    assert bench("clients", "--clients", 3, "--seconds", 6, "--lm", "none", "--json", file) == 0
    result = json.loads(file.read_text())
    assert "--lm none" in result["options"]
    assert (result["clients"], result["dropped"], result["errors"]) == (3, 0, {})
    assert result["computed"].startswith("asr-small-en by ")
    assert result["finals"] > 0
    for figures in ("first_partial_ms", "partial_ms", "partial_beyond_look_ms", "final_after_endpoint_ms"):
        assert ordered(result[figures]), figures
    assert result["partial_ms"]["p50"] - result["partial_beyond_look_ms"]["p50"] == pytest.approx(900)
    assert result["partial_beyond_look_ms"]["p50"] > 0
    assert result["final_after_endpoint_ms"]["p50"] > 0
    assert 0 <= result["finals_forgone"] <= result["finals"]
    assert 0 <= result["partials_refined"] <= 1
    assert result["cpu_cores"] > 0
    assert 0 < result["rss_idle_mb"] <= result["rss_mb"]
    assert 0 < result["rss_speaking_mb"] <= result["rss_mb"]


def test_clients_that_find_no_server(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        urls = [f"ws://127.0.0.1:{listener.getsockname()[1]}" for listener in (one, other)]
    servers = ("--server", urls[0], "--server", urls[1])
    assert bench("clients", "--clients", 3, "--seconds", 2, *servers, "--json", file) == 1
    result = json.loads(file.read_text())
    assert result["server"] == ", ".join(urls)
    assert result["dropped"] == 3
    assert [sum(found for error, found in result["errors"].items() if url in error) for url in urls] == [2, 1]
    assert result["partial_ms"]["p95"] is None
    assert next(iter(result["errors"])).startswith("no session: ")


@pytest.mark.process
def test_a_server_that_does_not_start() -> None:
    async def start() -> None:
        async with processes.server_process(["--model", "/nowhere"]):
            pass

    with pytest.raises(ClientError, match=r"did not start: .*/nowhere"):
        asyncio.run(start())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["window", "--batch", "1,x"], 2, "needs whole numbers above 0"),
        (["window", "--batch", "0"], 2, "needs whole numbers above 0"),
        (["window", "--model", "/nowhere"], 1, "/nowhere"),
        (["clients", "--server", "ws://127.0.0.1:1", "--dtype", "int8"], 2, "--dtype"),
        (["clients", "--server", "ws://127.0.0.1:1", "--model", "x"], 2, "cannot be used with --server"),
        (["clients", "--server", "ws://127.0.0.1:1", "--lm-share", "1"], 2, "--lm-share"),
        (["report", "FILE"], 1, "names no hardware"),
    ],
)
def test_wrong_usage(
    arguments: list[str], status: int, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "empty.json"
    file.write_text("{}")
    assert bench(*(file if argument == "FILE" else argument for argument in arguments)) == status
    assert message in capfd.readouterr().err.replace("\n", " ")
