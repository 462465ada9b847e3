"""Sizes of a SenseVoice model, as FunASR's config.yaml states them."""

from __future__ import annotations

from dataclasses import dataclass

from parastream.model.config import EncoderConfig, FrontendConfig, section
from parastream.model.directory import CONFIG, ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.untrusted import shown

MODEL = "SenseVoiceSmall"
"""FunASR's class name."""
PROMPTS = 16
"""Rows of the table that prompts are taken from."""
_MOST_BLOCKS = 1000


@dataclass(frozen=True, slots=True)
class SenseVoiceConfig:
    """A whole model."""

    frontend: FrontendConfig
    encoder: EncoderConfig
    """Of the layers before `after_norm`."""
    tp_blocks: int
    """Layers behind it, of the same sizes."""
    vocabulary: int

    @property
    def least_weights(self) -> int:
        """How many numbers the weights are at least: those of the linear layers and embeddings."""
        size = self.encoder.size
        layer = 4 * size**2 + 2 * size * self.encoder.linear_units
        return (self.encoder.num_blocks + self.tp_blocks) * layer - size**2 + self.vocabulary * size

    @classmethod
    def from_directory(cls, directory: ModelDirectory, vocabulary: int) -> SenseVoiceConfig:
        """Take the sizes from `config.yaml`; the number of tokens is not in it.

        Raises:
            ModelConfigError: It is missing or cannot be used.
        """
        try:
            if directory.config.get("model") != MODEL:
                raise ModelConfigError(f"model is {shown(directory.config.get('model'))}, not {MODEL}")
            frontend = FrontendConfig.from_dict(section(directory.config, "frontend_conf"))
            sizes = dict(section(directory.config, "encoder_conf"))
            tp_blocks = sizes.pop("tp_blocks", 0)
            if type(tp_blocks) is not int or not 0 <= tp_blocks <= _MOST_BLOCKS:
                raise ModelConfigError(f"tp_blocks must be from 0 to {_MOST_BLOCKS}, got {shown(tp_blocks)}")
            encoder = EncoderConfig.from_dict(sizes, input_size=frontend.row_size)
        except ModelConfigError as error:
            raise ModelConfigError(f"{directory.path / CONFIG}: {error}") from None
        return cls(frontend, encoder, tp_blocks, vocabulary)


def is_sensevoice(directory: ModelDirectory) -> bool:
    """Say whether a FunASR directory holds a SenseVoice model.

    Raises:
        ModelConfigError: Its `config.yaml` is damaged.
    """
    return directory.has(CONFIG) and directory.config.get("model") == MODEL
