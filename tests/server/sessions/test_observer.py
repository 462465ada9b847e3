"""What the engine tells of its work, in the histograms of the metrics."""

from __future__ import annotations

from typing import Literal

from parastream.server.metrics import Metrics
from parastream.server.sessions.observer import MetricsObserver
from parastream.streaming.events import EndReason
from parastream.streaming.observer import Batch, FinalTiming, PartialTiming, Turn


def turn(*batches: Batch) -> Turn:
    return Turn(began=0.0, seconds=0.1, batches=batches, windows_left=0)


def batch(kind: Literal["windows", "finals"], size: int, seconds: float, *, complete: bool = True) -> Batch:
    return Batch(kind, ("s",) * size, units=size, seconds=seconds, wait=0.0, complete=complete)


def final(latency: float, reason: EndReason, *, ahead: bool = False) -> FinalTiming:
    return FinalTiming(
        session="s", utterance=0, seconds=2.0, reason=reason, audio_in=10.0, decided=10.0, begun=None, overtaken=0,
        overtaken_seconds=0.0, done=10.0, marked=10.0, told=10.0 + latency, ahead=ahead,
    )  # fmt: skip


def histogram(metrics: Metrics, name: str, **labels: str) -> tuple[float, float]:
    """How many values and their sum."""
    count, total = (metrics.registry.get_sample_value(f"{name}_{part}", labels) for part in ("count", "sum"))
    assert count is not None
    assert total is not None
    return count, total


def test_batches_of_a_turn_are_counted_by_kind() -> None:
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    observer.turn(turn(batch("windows", 4, 0.25), batch("finals", 2, 0.5, complete=False)))
    observer.turn(turn(batch("windows", 2, 0.125), batch("finals", 2, 0.25)))
    assert histogram(metrics, "parastream_engine_batch_size", kind="windows") == (2, 6)
    assert histogram(metrics, "parastream_engine_batch_seconds", kind="windows") == (2, 0.375)
    assert histogram(metrics, "parastream_engine_batch_size", kind="finals") == (1, 2)
    assert histogram(metrics, "parastream_engine_batch_seconds", kind="finals") == (2, 0.75)


def test_latencies_are_counted_but_for_audio_ahead_of_real_time() -> None:
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    for ahead in (False, True):
        observer.partial(PartialTiming("s", 0, audio_in=1.0, told=1.5, ahead=ahead))
        observer.final(final(0.25, "silence", ahead=ahead))
    observer.final(final(0.75, "flush"))
    assert histogram(metrics, "parastream_partial_latency_seconds") == (1, 0.5)
    assert histogram(metrics, "parastream_final_latency_seconds", reason="silence") == (1, 0.25)
    assert histogram(metrics, "parastream_final_latency_seconds", reason="flush") == (1, 0.75)
