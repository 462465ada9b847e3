"""Paraformer on MLX: features of speech in, tokens out. Knows no session, socket or clock."""

from . import allocator, blas

allocator.keep_freed_memory()
blas.preload()  # before anything imports mlx

from .punctuation import Punctuator  # noqa: E402
from .speech import SpeechModel, load, load_punctuation  # noqa: E402

__all__ = ["Punctuator", "SpeechModel", "load", "load_punctuation"]
