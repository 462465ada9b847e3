"""`parastream serve`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parastream.client.cli import engine_process
from parastream.client.cli.composition import model_choice
from parastream.server.config import load_config
from parastream.server.main import serve


def run(flags: Mapping[str, Any], file: Path | None, *, offline: bool) -> int:
    """Serve until a signal comes and return the exit status.

    Args:
        flags: Settings from the command line; None stands for one that was not given.
        file: TOML file with further settings.
        offline: Never ask the network for a model.

    Raises:
        ConfigError: A setting is unknown or its value is not allowed.
        HubError: There are no models for the language.
    """
    config = load_config(flags, file=file)
    choice = model_choice(config, offline=offline)
    for missing in choice.downloads():
        print(f"to download: {missing}", file=sys.stderr)
    command = [sys.executable, "-m", engine_process.__name__]
    return serve(config, choice.load, command, offline=offline)
