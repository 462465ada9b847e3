"""Deadlines and back-pressure as arithmetic."""

from __future__ import annotations

from parastream.server.transport.limits import Deadlines, Gate


def test_the_earlier_deadline_counts_and_says_why() -> None:
    early = Deadlines(idle_timeout=60, max_session=100, opened=1000, heard=1000)
    assert early.next == 1060
    assert early.refusal.code == "idle_timeout"
    late = Deadlines(idle_timeout=60, max_session=100, opened=1000, heard=1090)
    assert late.next == 1100
    assert late.refusal.code == "session_too_long"


def test_the_gate_closes_at_the_high_mark_and_opens_at_the_low_one() -> None:
    gate = Gate(high=10, low=5)
    backlogs = [0, 9, 10, 11, 9, 6, 5, 9, 10, 10.1, 0]
    assert [gate.update(backlog) for backlog in backlogs] == [
        False, False, False, True, True, True, False, False, False, True, False,
    ]  # fmt: skip
