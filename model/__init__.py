"""Paraformer and Whisper on MLX: speech in, tokens and words out. Knows no session, socket or clock.

Importing this package changes nothing in the process, and is quick. MLX is imported when the first model is loaded; the
owner of the process calls `prepare_process` before that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parastream.model.final_pass import FinalPass
    from parastream.model.loading import load, load_final_pass, load_punctuation
    from parastream.model.process import prepare_process
    from parastream.model.punctuation import Punctuator
    from parastream.model.search.loading import load_search
    from parastream.model.speech import SpeechModel

__all__ = [
    "FinalPass",
    "Punctuator",
    "SpeechModel",
    "load",
    "load_final_pass",
    "load_punctuation",
    "load_search",
    "prepare_process",
]

_MODULES = {
    "FinalPass": "final_pass",
    "Punctuator": "punctuation",
    "SpeechModel": "speech",
    "load": "loading",
    "load_final_pass": "loading",
    "load_punctuation": "loading",
    "load_search": "search.loading",
    "prepare_process": "process",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name when the name is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
