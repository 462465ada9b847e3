"""The files of a FunASR model directory: their names, and what is in them, each read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.bpe import Merges, read_merges
from parastream.model.errors import CheckpointError, ModelConfigError
from parastream.model.text import is_unspaced
from parastream.model.untrusted import UnusableError, read_file, read_json, read_yaml, refuse_pointer, shown

CONFIG = "config.yaml"
"""FunASR's description of the model."""
CONFIGURATION = "configuration.json"
"""ModelScope's description of the directory, which may be missing. Here mlx-lm, and so do we, note a quantization."""
CMVN = "am.mvn"
"""Mean and variance of the features, in Kaldi's nnet1 text; only speech models have it."""
TOKENS = "tokens.json"
"""The vocabulary."""
BPE_CODES = "bpe.codes"
"""The merges behind the pieces of the vocabulary, which most models do without."""
PIECES_SUFFIX = "bpe.model"
"""Ends the name of a sentencepiece model, which SenseVoice has in the place of `TOKENS`."""
SEG_DICT = "seg_dict"
"""How words are cut into pieces, for models that take hotwords in."""
JIEBA_DICT = "jieba_usr_dict"
"""It marks punctuation models whose tokens are words."""
SAFETENSORS = "model.safetensors"
SPEECH_WEIGHTS = (SAFETENSORS, "model.pt")
"""Weights of speech models, the preferred file first."""
PUNCTUATION_WEIGHTS = ("model_quant.onnx", "model.onnx")
"""Networks of punctuation models, the preferred one first: it has a quarter of the size, and is faster."""

DESCRIPTION = (CONFIG, CONFIGURATION, CMVN, TOKENS, BPE_CODES, SEG_DICT)
"""All that is not weights, as far as there is any."""
REQUIRED = (CONFIG, TOKENS)
"""What every model has."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class ModelDirectory:
    """A model directory, whose description is read file by file when it is first asked for, and never again.

    Weights are large and used up by loading, so this only says where they are.
    """

    path: Path
    _contents: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def content(self, name: str) -> bytes:
        """Return what is in a file of the description.

        Raises:
            ModelConfigError: The file is missing or cannot be read.
        """
        if name not in self._contents:
            try:
                self._contents[name] = read_file(self.path / name)
            except OSError as error:
                raise ModelConfigError(f"{self.path / name}: a model needs this file: {error.strerror}") from None
            except UnusableError as error:
                raise ModelConfigError(f"{self.path / name}: {error}") from None
        return self._contents[name]

    def has(self, name: str) -> bool:
        """Say whether there is such a file."""
        return (self.path / name).is_file()

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The parsed `config.yaml`.

        Raises:
            ModelConfigError: It is missing, damaged, or no mapping.
        """
        path = self.path / CONFIG
        try:
            config = read_yaml(self.content(CONFIG))
        except UnusableError as error:
            raise ModelConfigError(f"{path}: {error}") from None
        if not isinstance(config, dict):
            raise ModelConfigError(f"{path}: must hold a mapping, not {type(config).__name__}")
        return config

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """The parsed `configuration.json`; empty where there is none.

        Raises:
            CheckpointError: It is damaged, or not an object in which `file_path_metas`, if it is there, is another.
        """
        if not self.has(CONFIGURATION):
            return {}
        path = self.path / CONFIGURATION
        try:
            configuration = read_json(self.content(CONFIGURATION))
        except UnusableError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if not isinstance(configuration, dict) or not isinstance(configuration.get("file_path_metas", {}), dict):
            raise CheckpointError(f"{path}: must hold an object, and in it the object file_path_metas")
        return configuration

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The vocabulary, of different strings; an id is an index into it.

        Raises:
            ModelConfigError: `tokens.json` is missing, damaged, or not such a list.
        """
        path = self.path / TOKENS
        try:
            tokens = read_json(self.content(TOKENS))
        except UnusableError as error:
            raise ModelConfigError(f"{path}: {error}") from None
        if not isinstance(tokens, list) or not tokens:
            raise ModelConfigError(f"{path}: must be a list of tokens, got {type(tokens).__name__} without any")
        for index, token in enumerate(tokens):
            if not isinstance(token, str) or not token:
                raise ModelConfigError(f"{path}: token {index} must be a string with text in it, got {shown(token)}")
        seen: set[str] = set()
        for token in tokens:
            if token in seen:
                raise ModelConfigError(f"{path}: token {shown(token)} is listed twice")
            seen.add(token)
        return tuple(tokens)

    @cached_property
    def sentencepiece_name(self) -> str:
        """The file of the sentencepiece model: the one that `configuration.json` names, else the one that is there.

        Raises:
            ModelConfigError: There is none, or more than one.
            CheckpointError: `configuration.json` cannot be used.
        """
        tokenizer = self.configuration.get("file_path_metas", {}).get("tokenizer_conf")
        named = tokenizer.get("bpemodel") if isinstance(tokenizer, Mapping) else None
        if named is not None:
            if not isinstance(named, str) or Path(named).name != named:
                raise ModelConfigError(
                    f"{self.path / CONFIGURATION}: bpemodel is {shown(named)}, not the name of a file beside it"
                )
            return named
        found = sorted(path.name for path in self.path.glob(f"*{PIECES_SUFFIX}"))
        if len(found) != 1:
            raise ModelConfigError(
                f"{self.path}: a model needs one file *{PIECES_SUFFIX}; there are {', '.join(found) or 'none'}"
            )
        return found[0]

    @cached_property
    def merges(self) -> Merges:
        """The merges of `bpe.codes`; none where there is no such file.

        Raises:
            ModelConfigError: It is damaged.
        """
        if not self.has(BPE_CODES):
            return {}
        try:
            return read_merges(self.content(BPE_CODES).decode("utf-8").splitlines())
        except (UnicodeDecodeError, ModelConfigError) as error:
            raise ModelConfigError(f"{self.path / BPE_CODES}: {error}") from None

    @cached_property
    def cuts(self) -> Mapping[str, tuple[str, ...]]:
        """The pieces of words as `seg_dict` has them; none where there is no such file.

        Words in scripts without spaces are left out: their pieces are always their characters.

        Raises:
            ModelConfigError: It is damaged.
        """
        if not self.has(SEG_DICT):
            return {}
        try:
            lines = self.content(SEG_DICT).decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ModelConfigError(f"{self.path / SEG_DICT}: not a text file in UTF-8: {error}") from None
        parted = (line.split() for line in lines if line and not is_unspaced(line[0]))
        return {word: tuple(pieces) for word, *pieces in filter(None, parted)}

    @cached_property
    def cmvn(self) -> tuple[Float32, Float32]:
        """Shift and scale of the features, (row_size,) each, from `am.mvn`.

        Raises:
            ModelConfigError: The file is missing, damaged, or holds values that are not finite.
        """
        path = self.path / CMVN
        try:
            lines = self.content(CMVN).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ModelConfigError(f"{path}: not a text file in UTF-8: {error}") from None
        found = []
        for tag in ("<AddShift>", "<Rescale>"):
            after = next((i + 1 for i, line in enumerate(lines) if line.startswith(tag)), len(lines))
            try:
                # "<LearnRateCoef> 0 [ v v … ]"
                values = np.array(lines[after].split()[3:-1], dtype=np.float32)
            except (IndexError, ValueError) as error:
                raise ModelConfigError(f"{path}: no line of numbers after {tag}: {error}") from None
            if not values.size or not np.isfinite(values).all():
                raise ModelConfigError(f"{path}: the values after {tag} must be finite numbers")
            found.append(values)
        return found[0], found[1]

    @cached_property
    def weights_file(self) -> Path:
        """The weights of a speech model: the file that `configuration.json` names, else one of `SPEECH_WEIGHTS`.

        Raises:
            CheckpointError: There is none, or `configuration.json` cannot be used.
        """
        named = self.configuration.get("file_path_metas", {}).get("init_param")
        if named is not None and (not isinstance(named, str) or Path(named).name != named):
            raise CheckpointError(
                f"{self.path / CONFIGURATION}: init_param is {shown(named)}, not the name of a file beside it"
            )
        if named and not self.has(named):
            raise CheckpointError(
                f"{self.path / CONFIGURATION}: init_param is {shown(named)}, but there is no such file"
            )
        for name in [named] if named else SPEECH_WEIGHTS:
            if self.has(name):
                self._check_weights(self.path / name)
                return self.path / name
        raise CheckpointError(f"{self.path} has no weights: looked for {', '.join(SPEECH_WEIGHTS)}")

    def _check_weights(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                refuse_pointer(file.read(100))
        except UnusableError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None

    @property
    def punctuation_file(self) -> Path | None:
        """The network of a punctuation model; None where there is none, as in a speech model."""
        return next((self.path / name for name in PUNCTUATION_WEIGHTS if self.has(name)), None)
