"""The numbers of a server for Prometheus. docs/metrics.md lists them.

Each `Metrics` has a registry of its own, so that several servers in one process do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from parastream.model.computing import Computing

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Of what `Metrics.render` returns."""

LATENCIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Upper bounds in seconds."""
COMPUTE_TIMES = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds in seconds, closest around the 50 ms that a slice of work may take."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds of numbers of pieces of work."""


class Metrics:
    """What has happened since the server started, and how much there is of what now."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions_opened = self._counter("sessions_opened", "Sessions begun.")
        self.sessions_resumed = self._counter("sessions_resumed", "Sessions resumed on another connection.")
        self.sessions_closed = self._counter("sessions_closed", "Sessions ended, for any reason.")
        self.requests_refused = self._counter("requests_refused", "Requests and connections refused with an error.")
        self.finals = self._counter("finals", "Finals of sessions that have ended.")
        self.audio_seconds = self._counter("audio_seconds", "Seconds of audio accepted in sessions that have ended.")

        self.partials_refined = self._counter("partials_refined", "Partials of which the better ear has heard a part.")
        self.engine_restarts = self._counter(
            "engine_restarts", "Processes of engines that ended and were started again."
        )
        self.sessions_moved = self._counter("sessions_moved", "Sessions that went on with another engine.")

        self.partial_latency = Histogram(
            "parastream_partial_latency_seconds",
            "Seconds from the arrival of the last audio that a partial needs to the partial.",
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.final_latency = Histogram(
            "parastream_final_latency_seconds",
            "Seconds from the arrival of the audio (or request) that ended an utterance to its final.",
            ["reason"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "parastream_engine_batch_seconds",
            "Seconds to compute a batch, or the piece of a batch for which a turn had time.",
            ["kind"],
            buckets=COMPUTE_TIMES,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "parastream_engine_batch_size",
            "Pieces of work in a batch.",
            ["kind"],
            buckets=SIZES,
            registry=self.registry,
        )

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"parastream_{name}", meaning, registry=self.registry)

    def watch(
        self,
        *,
        sessions: Callable[[], float],
        rooms: Callable[[], float],
        viewers: Callable[[], float],
        places: Callable[[], float],
        engine: Callable[[], object],
        computing: Callable[[], Mapping[str, Computing]] = dict,
    ) -> None:
        """Ask these, whenever the metrics are read, for the numbers of now.

        Args:
            sessions: Open sessions.
            rooms: Caption rooms.
            viewers: Viewers in all rooms.
            places: Streams that could be begun.
            engine: The engine's statistics, as `Engine.stats` returns them.
            computing: How each model that hears speech is computed, by its name.
        """
        for name, meaning, read in (
            ("sessions", "Open sessions.", sessions),
            ("rooms", "Caption rooms.", rooms),
            ("viewers", "Viewers of caption rooms.", viewers),
            ("places", "Streams that could be begun now; 0 unless the server is ready.", places),
        ):
            Gauge(f"parastream_{name}", meaning, registry=self.registry).set_function(read)
        self.registry.register(_EngineCollector(engine))
        self.registry.register(_ModelCollector(computing))

    def watch_engines(self, serving: Callable[[], float]) -> None:
        """Ask this, whenever the metrics are read, how many engines in processes of their own serve."""
        Gauge(
            "parastream_engines", "Engines in processes of their own that serve.", registry=self.registry
        ).set_function(serving)

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """Reads the engine's statistics when the metrics are read."""

    def __init__(self, read: Callable[[], object]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        stats = self._read()
        for field, name, meaning in ENGINE_GAUGES:
            yield GaugeMetricFamily(f"parastream_engine_{name}", meaning, value=float(getattr(stats, field)))
        for field, name, meaning in ENGINE_COUNTERS:
            yield CounterMetricFamily(f"parastream_engine_{name}", meaning, value=float(getattr(stats, field)))


class _ModelCollector(Collector):
    """Tells which models there are."""

    def __init__(self, read: Callable[[], Mapping[str, Computing]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "parastream_model_info",
            "1 for each model that hears speech, once it is loaded.",
            labels=("model", "compute", "dtype"),
        )
        for name, how in self._read().items():
            family.add_metric((name, how.compute, how.dtype), 1)
        yield family


ENGINE_GAUGES = (
    ("sessions", "sessions", "Streams open in the engine: one for each recognised channel."),
    ("capacity", "capacity", "Streams that the machine can serve in real time; 0 before that has been measured."),
    ("places", "places", "Streams more that the engine would admit now."),
    ("utilisation", "utilisation", "Share of time spent computing, over about the last ten seconds."),
    ("backlog", "backlog", "Seconds of audio received but not yet looked at, of the stream that waits longest."),
    ("held", "held_seconds", "Seconds of audio that there is memory for, of the stream that keeps most."),
    (
        "window_wait",
        "window_wait",
        "Longest wait of a streaming window in the last ten to twenty seconds, in seconds.",
    ),
    ("session_bytes", "session_bytes", "Most memory that a session with the usual settings takes."),
)
"""Field of the engine's statistics, name and meaning of each gauge."""
ENGINE_COUNTERS = (
    ("windows", "windows", "Streaming windows computed."),
    ("window_batches", "window_batches", "Batches in which streaming windows were computed."),
    ("finals", "finals", "Full-context passes begun."),
    ("final_batches", "final_batches", "Batches in which full-context passes were begun."),
    ("forgone", "forgone", "Finals that went out without the better ear, because they would have been late."),
    ("busy", "busy_seconds", "Seconds spent computing."),
)
"""Likewise of each counter; Prometheus's `_total` follows the name."""
