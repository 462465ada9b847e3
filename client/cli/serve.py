"""`parastream serve`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parastream.client.cli.composition import ModelChoice
from parastream.model.checkpoint import Precision
from parastream.server.config import load_config
from parastream.server.main import serve


def run(
    flags: Mapping[str, Any],
    file: Path | None,
    *,
    punctuation: str | None,
    dtype: Precision | None,
    offline: bool,
    verbose: bool,
) -> int:
    """Serve until a signal comes and return the exit status.

    Raises `ConfigError`.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    config = load_config(flags, file=file)
    choice = ModelChoice(config.model, config.final_model, punctuation, offline, dtype)
    return serve(config, choice.load)
