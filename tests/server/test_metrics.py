"""What `/metrics` says, read by the parser of Prometheus's own library."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from parastream.model.computing import Computing
from parastream.server.metrics import ENGINE_COUNTERS, ENGINE_GAUGES, Metrics
from parastream.streaming import EngineStats
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from .fakes import FakeEngine, asynchronous, serving
from .http.test_answers import ask

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def watched(stats: EngineStats = EngineStats()) -> Metrics:
    metrics = Metrics()
    metrics.watch(sessions=lambda: 1, rooms=lambda: 2, viewers=lambda: 3, places=lambda: 5, engine=lambda: stats)
    metrics.watch_engines(lambda: 4)
    return metrics


def families(metrics: Metrics) -> dict[str, Metric]:
    """By name; without those that tell when a counter was made."""
    found = text_string_to_metric_families(metrics.render().decode())
    return {family.name: family for family in found if not family.name.endswith("_created")}


def value(metrics: Metrics, name: str) -> float:
    samples = [sample for family in families(metrics).values() for sample in family.samples if sample.name == name]
    assert len(samples) == 1
    return samples[0].value


def test_counters_are_counters_and_lose_no_digits_above_a_million() -> None:
    metrics = watched(EngineStats(windows=123_456_789, busy=1_234_567.125))
    metrics.audio_seconds.inc(12_345_678.0625)
    metrics.finals.inc(7)
    assert value(metrics, "parastream_audio_seconds_total") == 12_345_678.0625
    assert value(metrics, "parastream_engine_windows_total") == 123_456_789
    assert value(metrics, "parastream_engine_busy_seconds_total") == 1_234_567.125
    assert {families(metrics)[f"parastream_{name}"].type for name in ("finals", "engine_finals", "audio_seconds")} == {
        "counter"
    }


def test_what_there_is_now_is_read_when_the_metrics_are_read() -> None:
    viewers = [3, 4]
    metrics = Metrics()
    metrics.watch(sessions=int, rooms=int, viewers=lambda: viewers.pop(0), places=int, engine=EngineStats)
    assert [value(metrics, "parastream_viewers") for _ in range(2)] == [3, 4]
    with pytest.raises(IndexError):
        metrics.render()


def test_every_number_of_the_engine_is_told() -> None:
    numbers = {field.name for field in dataclasses.fields(EngineStats) if field.type in ("int", "float")}
    assert {field for field, *_ in (*ENGINE_GAUGES, *ENGINE_COUNTERS)} == numbers


def test_every_metric_says_what_it_means_and_is_documented() -> None:
    found = families(watched())
    documented = dict(re.findall(r"^\| `(parastream_\w+)` \| (\w+) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE))
    assert documented == {
        name + ("_total" if family.type == "counter" else ""): family.type for name, family in found.items()
    }
    text = DOCUMENT.read_text("utf-8")
    assert [
        name for name, family in found.items() if not family.documentation or family.documentation not in text
    ] == []


def test_models_say_how_they_are_computed() -> None:
    metrics, models = Metrics(), {"a": Computing("graphs", "int8"), "b": Computing("mlx", "float32")}
    metrics.watch(sessions=int, rooms=int, viewers=int, places=int, engine=EngineStats, computing=lambda: models)
    samples = families(metrics)["parastream_model_info"].samples
    assert [(sample.labels, sample.value) for sample in samples] == [
        ({"model": "a", "compute": "graphs", "dtype": "int8"}, 1),
        ({"model": "b", "compute": "mlx", "dtype": "float32"}, 1),
    ]


def test_servers_in_one_process_do_not_add_up() -> None:
    one, other = watched(), watched()
    one.finals.inc()
    assert (value(one, "parastream_finals_total"), value(other, "parastream_finals_total")) == (1, 0)


@asynchronous
async def test_the_type_of_the_page_is_that_of_prometheus() -> None:
    async with serving(FakeEngine()) as server:
        status, headers, body = await ask(server, "GET /metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "# TYPE parastream_sessions_opened_total counter\n" in body


@pytest.mark.process
def test_importing_the_metrics_loads_nothing_else_of_ours() -> None:
    program = "import sys, parastream.server.metrics; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = [name for name in result.stdout.split() if name.split(".")[0] in ("parastream", "mlx")]
    assert loaded == ["parastream", "parastream.server", "parastream.server.metrics"]
