"""How much of full-context passes is computed at a time, by what they cost on this machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from parastream.model.config import ROW_SECONDS
from parastream.streaming import schedule
from parastream.streaming.capacity import Capacity
from parastream.streaming.engine_config import EngineConfig
from parastream.streaming.pending import PassBatch
from parastream.streaming.runner import Runner
from parastream.streaming.work import FinalWork

_CROWD = 3
"""How many times more rows a batch may have where a large one takes about as long as a small one."""


def most_rows(runner: Runner, costs: Capacity, work: FinalWork, config: EngineConfig) -> int:
    """Return how many rows a batch of passes like this one may have."""
    most = schedule.most_rows(_seconds_of_row(runner, costs, work), config.slice_budget)
    if work.better:  # a batch that is soon over is of use to all in it, and no window waits for partials of others
        most = min(most, schedule.most_rows(costs.better.each, 2 * config.slice_budget))
    return min(config.max_final_rows * (_CROWD if runner.models.crowded else 1), most)


def begin(runner: Runner, costs: Capacity, batch: PassBatch, budget: float) -> PassBatch:
    """Begin a batch of passes in pieces that fit a slice with such a budget, in seconds."""
    row = _seconds_of_row(runner, costs, batch.batch[0].work)
    compute = runner.ears[batch.ear].computing.compute
    steps = schedule.steps_per_piece(batch.rows, row, budget, compute, crowded=runner.models.crowded)
    batch.pieces = _pieces(runner, [item.work for item in batch.batch], steps)
    return batch


def _pieces(runner: Runner, batch: Sequence[FinalWork], steps: int) -> Generator[None]:
    """Compute passes piece by piece. All errors come with a piece, and so belong to the batch."""
    yield from runner.run_finals(batch, steps=steps)


def _seconds_of_row(runner: Runner, costs: Capacity, work: FinalWork) -> float:
    """Return what a row costs in one step of a pass."""
    steps = runner.ears[work.ear].steps(work.rows * ROW_SECONDS)
    return costs.of(work.ear, refines=work.refines).each / steps
