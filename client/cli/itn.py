"""`parastream itn`: lines of spoken text, with their numbers as people write them."""

from __future__ import annotations

import signal
import sys

from parastream.model.itn import normalise_line


def run(language: str) -> int:
    """Normalise the standard input line by line, and return the exit status.

    Raises:
        OSError: nobody reads the output any more.
    """
    try:
        for number, line in enumerate(sys.stdin.buffer, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                print(f"error: line {number} is not UTF-8: {error}", file=sys.stderr)
                return 1
            print(normalise_line(text.rstrip("\r\n"), language), flush=True)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
