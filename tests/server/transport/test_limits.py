"""Deadlines, pings and back-pressure as arithmetic."""

from __future__ import annotations

from parastream.server.transport.limits import Budget, Deadlines, Gate, Keepalive, Pulse


def test_the_earlier_deadline_counts_and_says_why() -> None:
    early = Deadlines(idle_timeout=60, max_session=100, heard=1000)
    assert early.next(opened=1000) == 1060
    assert early.refusal(opened=1000).code == "idle_timeout"
    late = Deadlines(idle_timeout=60, max_session=100, heard=1090)
    assert late.next(opened=1000) == 1100
    assert late.refusal(opened=1000).code == "session_too_long"


def test_an_idle_client_gets_a_moment_for_what_it_sent_while_nobody_could_read() -> None:
    deadlines = Deadlines(idle_timeout=60, max_session=1000, heard=1000)
    for late in (1060.01, 1075.0):  # a stall of any length may have hidden audio
        deadlines = Deadlines(idle_timeout=60, max_session=1000, heard=1000)
        assert not deadlines.passed(opened=1000, now=late)
        assert late < deadlines.next(opened=1000) < late + 1
        assert not deadlines.passed(opened=1000, now=late + 0.1)
        assert deadlines.passed(opened=1000, now=deadlines.next(1000))
    deadlines.heard = 1080
    assert deadlines.next(opened=1000) == 1140
    assert not deadlines.passed(opened=1000, now=1141), "the next pause gets its own moment"
    assert deadlines.passed(opened=1000, now=3000), "no session lasts for ever"


def test_a_budget_allows_a_burst_and_then_so_many_pieces_a_second() -> None:
    budget = Budget(rate=10, at=0)
    assert budget.wait(0) == 0
    budget.spend(30)  # a debt of two seconds
    assert 2 < budget.wait(0) < 2.2
    assert budget.wait(1) > 0
    assert budget.wait(2.1) == 0
    assert budget.wait(1000) == 0
    budget.spend(11)
    assert budget.wait(1000) > 0, "rest saves up no more than a second's worth"


def test_a_connection_is_pinged_at_intervals_and_any_byte_is_an_answer() -> None:
    keepalive = Keepalive(interval=20, timeout=5, next=1020)
    assert keepalive.tick(1019, heard=1000) is Pulse.REST
    assert keepalive.tick(1020, heard=1000) is Pulse.PING
    assert keepalive.tick(1024, heard=1000) is Pulse.REST
    assert keepalive.tick(1025, heard=1021) is Pulse.REST
    assert keepalive.next == 1040
    assert keepalive.tick(1040, heard=1021) is Pulse.PING
    assert keepalive.tick(1045, heard=1039) is Pulse.REST, "the answer may lie in the socket"
    assert 1045 < keepalive.next < 1046
    assert keepalive.tick(keepalive.next, heard=1039) is Pulse.BROKEN


def test_a_server_that_stood_still_looks_for_the_answer_to_its_ping_before_it_takes_the_client_for_gone() -> None:
    keepalive = Keepalive(interval=20, timeout=5, next=1020)
    assert keepalive.tick(1020, heard=1000) is Pulse.PING
    assert keepalive.tick(1090, heard=1000) is Pulse.REST
    assert keepalive.tick(keepalive.next, heard=1090.1) is Pulse.REST
    assert keepalive.tick(keepalive.next, heard=1090.1) is Pulse.PING
    assert keepalive.tick(keepalive.next, heard=1090.1) is Pulse.REST, "each answer gets its own moment"


def test_the_gate_closes_at_the_high_mark_and_opens_at_the_low_one() -> None:
    gate = Gate(high=10, low=5)
    backlogs = [0, 9, 10, 11, 9, 6, 5, 9, 10, 10.1, 0]
    assert [gate.update(backlog) for backlog in backlogs] == [
        False, False, False, True, True, True, False, False, False, True, False,
    ]  # fmt: skip
