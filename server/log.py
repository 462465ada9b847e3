"""What the processes of a server log."""

from __future__ import annotations

import logging

from parastream.server.config import LogLevel


def set_log_level(level: LogLevel) -> None:
    """Log our own messages from `level` on, and those of libraries from warnings on, to stderr."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.WARNING), format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("parastream").setLevel(number)
