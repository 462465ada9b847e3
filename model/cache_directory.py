"""Where downloads and other things that can be made again are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """The user's cache directory for parastream, or what PARASTREAM_CACHE says. It need not exist yet."""
    chosen = os.environ.get("PARASTREAM_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("parastream")
