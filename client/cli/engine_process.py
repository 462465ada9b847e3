"""The process of one engine of `parastream serve --engines`: `python -m` this, and the descriptor of its socket."""

from __future__ import annotations

import sys

from parastream.client.cli.composition import model_choice
from parastream.server.engines.channel import Setup
from parastream.server.engines.process import run
from parastream.streaming import Models


def load(setup: Setup) -> Models:
    """Load the models that the server's settings name."""
    return model_choice(setup.config, offline=setup.offline).load()


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), load))
