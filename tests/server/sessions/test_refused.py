"""What the log says of clients that are turned away."""

from __future__ import annotations

import logging

import pytest
from parastream.server.sessions.refused import RefusalLog


class Clock:
    """Stands still unless it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Levels and messages since the last time."""
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_each_kind_is_told_once_in_a_while_for_each_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parastream.server")
    clock = Clock()
    log = RefusalLog(clock)
    log.tell("funasr 10.0.0.1:4000", "unsupported", "no mp4")
    assert told(caplog) == [("WARNING", "funasr 10.0.0.1:4000: refused: unsupported: no mp4")]
    log.tell("funasr 10.0.0.1:4001", "unsupported", "no mp4")
    assert [level for level, _ in told(caplog)] == ["INFO"]
    for who, code in (
        ("funasr 10.0.0.1:4001", "invalid_json"),
        ("funasr 10.0.0.2:4000", "unsupported"),
        ("vosk 10.0.0.1:4000", "unsupported"),
    ):
        log.tell(who, code, "why")  # type: ignore[arg-type]
        assert [level for level, _ in told(caplog)] == ["WARNING"]
    clock.now = 601.0
    log.tell("funasr 10.0.0.1:4002", "unsupported", "no mp4")
    assert [level for level, _ in told(caplog)] == ["WARNING"]


def test_what_is_told_stays_one_line_and_its_memory_bounded(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(Clock())
    log.tell("vosk 10.0.0.1:1", "invalid_message", "two\nlines")
    assert told(caplog) == [("WARNING", r"vosk 10.0.0.1:1: refused: invalid_message: two\nlines")]
    for number in range(3000):
        log.tell(f"vosk 10.1.{number}:1", "invalid_message", "why")
    assert len(log._told) <= 1002
