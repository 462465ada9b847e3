"""`parastream serve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parastream.client.cli.composition import ModelChoice
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
    """
    config = load_config(flags, file=file)
    choice = ModelChoice(
        config.model or None, config.final_model or None, config.punctuation, offline, config.dtype or None
    )
    return serve(config, choice.load)
