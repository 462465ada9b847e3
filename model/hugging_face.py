"""What Hugging Face's own programs keep on this machine: the user's token, and models that were downloaded before.

Source: the environment variables and the cache layout that `huggingface_hub` documents.
"""

from __future__ import annotations

import os
from pathlib import Path


def token() -> str:
    """Return the user's token: `HF_TOKEN`, else the one that `hf auth login` has kept; empty if there is none."""
    if chosen := os.environ.get("HF_TOKEN", "").strip():
        return chosen
    return _text(_path("HF_TOKEN_PATH") or _home() / "token")


def snapshot(model_id: str) -> Path | None:
    """Return the directory that holds what has been downloaded of a model's main branch; it may lack files."""
    cache = _path("HF_HUB_CACHE") or _home() / "hub"
    repository = cache / f"models--{model_id.replace('/', '--')}"
    commit = _text(repository / "refs" / "main")
    directory = repository / "snapshots" / commit
    return directory if commit.isalnum() and directory.is_dir() else None


def name_of(directory: Path) -> str:
    """Return a model's name: that of its directory, or of its repository where the directory is a snapshot."""
    repository = directory.parent.parent.name
    if directory.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return directory.name


def _home() -> Path:
    return _path("HF_HOME") or (_path("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "huggingface"


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
