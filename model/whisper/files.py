"""Names of the files of Whisper directories: Hugging Face's, mlx-community's, and our own."""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
"""It may name the alignment heads."""
VOCABULARY = "vocabulary.txt"
"""Our own form: a token a line in the order of ids, in GPT-2's alphabet of bytes."""
VOCABULARIES = (VOCABULARY, "vocab.json", "tokenizer.json")
"""Files that may hold the vocabulary, the preferred one first; mlx-community has none of them."""
SILENCE = "silence.npy"
"""What the encoder makes of 30 s of silence. Only our own form has it; else it is computed, which takes a while."""
WEIGHTS = ("weights.safetensors", "model.safetensors", "weights.npz")
"""Files that may hold the weights, the preferred one first."""


def is_whisper(directory: Path) -> bool:
    """Say whether a model directory is of Whisper's kind rather than FunASR's."""
    return (directory / CONFIG).is_file() and any((directory / name).is_file() for name in WEIGHTS)
