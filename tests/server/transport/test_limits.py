"""Deadlines, pings and back-pressure as arithmetic."""

from __future__ import annotations

from parastream.server.transport.limits import Deadlines, Gate, Keepalive, Pulse


def test_the_earlier_deadline_counts_and_says_why() -> None:
    early = Deadlines(idle_timeout=60, max_session=100, heard=1000)
    assert early.next(opened=1000) == 1060
    assert early.refusal(opened=1000).code == "idle_timeout"
    late = Deadlines(idle_timeout=60, max_session=100, heard=1090)
    assert late.next(opened=1000) == 1100
    assert late.refusal(opened=1000).code == "session_too_long"


def test_a_deadline_that_passed_while_the_server_stood_still_is_put_off_until_it_has_read() -> None:
    deadlines = Deadlines(idle_timeout=60, max_session=1000, heard=1000)
    assert not deadlines.stalled(opened=1000, now=1060.01)
    assert deadlines.stalled(opened=1000, now=1075)
    assert 1075 < deadlines.next(opened=1000) < 1076
    assert not deadlines.stalled(opened=1000, now=deadlines.next(1000))
    assert not deadlines.stalled(opened=1000, now=3000), "no session lasts for ever"


def test_a_connection_is_pinged_at_intervals_and_any_byte_is_an_answer() -> None:
    keepalive = Keepalive(interval=20, timeout=5, next=1020)
    assert keepalive.tick(1019, heard=1000) is Pulse.REST
    assert keepalive.tick(1020, heard=1000) is Pulse.PING
    assert keepalive.tick(1024, heard=1000) is Pulse.REST
    assert keepalive.tick(1025, heard=1021) is Pulse.REST
    assert keepalive.next == 1040
    assert keepalive.tick(1040, heard=1021) is Pulse.PING
    assert keepalive.tick(1045, heard=1039) is Pulse.BROKEN


def test_the_gate_closes_at_the_high_mark_and_opens_at_the_low_one() -> None:
    gate = Gate(high=10, low=5)
    backlogs = [0, 9, 10, 11, 9, 6, 5, 9, 10, 10.1, 0]
    assert [gate.update(backlog) for backlog in backlogs] == [
        False, False, False, True, True, True, False, False, False, True, False,
    ]  # fmt: skip
