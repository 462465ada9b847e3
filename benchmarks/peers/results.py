"""Evaluate the measurements: medians, ratios, agreement of tokens, and a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

OURS = "parastream"
WINDOW = 600
"""Milliseconds of audio in a window."""
Costs = dict[str, dict[int, float]]
"""Milliseconds for a session and window, by system and number of sessions."""


def summary(rounds: Sequence[Costs]) -> dict[str, Any]:
    """Summarise the rounds.

    Returns:
        The rounds; the medians over them; the medians' ratios to parastream's (above 1, parastream is faster); and how
        many sessions the machine could serve at the cost measured with the largest number of them.
    """
    medians = {
        name: {sessions: statistics.median(costs[name][sessions] for costs in rounds) for sessions in by_sessions}
        for name, by_sessions in rounds[0].items()
    }
    return {
        "rounds": rounds,
        "ms_per_session_window": medians,
        "ratio_to_parastream": {
            name: {sessions: cost / medians[OURS][sessions] for sessions, cost in by_sessions.items()}
            for name, by_sessions in medians.items()
        },
        "sessions_in_real_time": {
            name: int(WINDOW / by_sessions[max(by_sessions)]) for name, by_sessions in medians.items()
        },
    }


def agreement(found: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> float:
    """Return 1 minus the edit distance of some streams' tokens over their number."""
    wrong = sum(Levenshtein.distance(ids, others) for ids, others in zip(found, expected, strict=True))
    return 1 - wrong / sum(map(len, expected))


def table(result: Mapping[str, Any]) -> str:
    """Format the result for people: a line for each system."""
    costs, ratios = result["ms_per_session_window"], result["ratio_to_parastream"]
    real_time = result["sessions_in_real_time"]
    width = max(map(len, costs))
    head = "".join(f"{f'{n} sessions' if n > 1 else '1 session':>15}{'ratio':>7}" for n in costs[OURS])
    lines = [
        f"{result['hardware']}; BLAS of parastream: {result['blas']}",
        f"other programs took {result['others_cpu_cores']:.2f} CPUs meanwhile",
        "ms for each session and window of 600 ms, and how many times what parastream takes",
        f"{'':{width}}{head}{'real time':>11}{'tokens':>9}{'agreement':>11}",
    ]
    for name, by_sessions in costs.items():
        figures = "".join(f"{cost:15.1f}{ratios[name][n]:7.2f}" for n, cost in by_sessions.items())
        tokens, same = result["tokens"][name], result["token_agreement"][name]
        lines.append(f"{name:{width}}{figures}{real_time[name]:11}{tokens:9}{same:11.3f}")
    return "\n".join(lines)
