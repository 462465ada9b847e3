"""Where downloads and other reproducible files are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """Return `PARASTREAM_CACHE`, else the user's cache directory for parastream. It may not exist yet."""
    chosen = os.environ.get("PARASTREAM_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("parastream")
