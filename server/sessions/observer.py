"""Feed the histograms of a server's metrics with what its engine tells of its work."""

from __future__ import annotations

from parastream.server.metrics import Metrics
from parastream.streaming.observer import FinalTiming, Observer, PartialTiming, Turn


class MetricsObserver(Observer):
    """Counts batches and latencies.

    Partials and finals of audio that was sent ahead of real time do not count: they wait for others on purpose.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def turn(self, turn: Turn) -> None:
        """Count the batches of a turn; the size of one that took several turns counts with its last piece."""
        for batch in turn.batches:
            self._metrics.batch_seconds.labels(batch.kind).observe(batch.seconds)
            if batch.complete:
                self._metrics.batch_size.labels(batch.kind).observe(batch.size)

    def partial(self, partial: PartialTiming) -> None:
        """Count the latency of a partial, and whether it is refined."""
        if not partial.ahead:
            self._metrics.partial_latency.observe(partial.latency)
            self._metrics.partials_refined.inc(partial.refined)

    def final(self, final: FinalTiming) -> None:
        """Count the latency of a final."""
        if not final.ahead:
            self._metrics.final_latency.labels(final.reason).observe(final.latency)
