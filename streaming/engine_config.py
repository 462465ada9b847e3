"""How the engine schedules."""

from __future__ import annotations

from dataclasses import dataclass

MOST_WINDOWS = 32
"""Streaming windows in one batch, at most, where each takes its time."""


@dataclass(frozen=True)
class EngineConfig:
    """How the engine schedules."""

    max_sessions: int = 1000
    """Sessions at a time, whatever the machine can do; more are refused."""
    target_utilisation: float = 0.85
    """Share of the machine's time that sessions may take if all of them speak all the time; one that would need more
    is refused, unless it is the only one."""
    slice_budget: float = 0.05
    """Seconds of less urgent work (full-context passes and marks) between two batches of windows."""
    max_windows: int | None = None
    """Streaming windows in one batch, at most; None: `MOST_WINDOWS`, or four times what is computed side by side."""
    max_vad_frames: int = 20
    """VAD frames (of 32 ms) of each session in a round, so that utterances are shown while they last."""
    always_better: bool = False
    """Whether every final waits for the better ear, if there is one, and every partial for the language model, however
    late they get."""
    refine: bool = False
    """Whether the better ear, if there is one, also hears utterances that are still open, where there is room."""
    max_final_rows: int = 1000
    """Rows (of 60 ms, padding included) in one batch of full-context passes."""
