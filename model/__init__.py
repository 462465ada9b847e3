"""Paraformer on MLX: features of speech in, tokens out. Knows no session, socket or clock."""

from parastream.model import allocator, blas

allocator.keep_freed_memory()
blas.preload()  # before anything imports mlx

from parastream.model.punctuation import Punctuator  # noqa: E402
from parastream.model.speech import SpeechModel, load, load_punctuation  # noqa: E402

__all__ = ["Punctuator", "SpeechModel", "load", "load_punctuation"]
