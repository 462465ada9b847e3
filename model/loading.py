"""Loading a model by its name, hub id or directory. MLX is not imported before that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parastream.model import allocator, catalogue
from parastream.model.computing import Compute, ComputeType
from parastream.model.config import TRAINED_CHUNKS, ChunkSize
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.process import warn_if_slow
from parastream.model.punctuation import Punctuator
from parastream.model.search.loading import LanguageModelChoice, load_search
from parastream.model.sensevoice.config import is_sensevoice
from parastream.model.speech import SpeechModel
from parastream.model.whisper.files import is_whisper

if TYPE_CHECKING:
    from parastream.model.final_pass import FinalPass

_MOST_CACHED = 1 << 29
"""Bytes that MLX keeps on a GPU for the next batches. It would keep all that is free, and engines that share a GPU
would leave each other none. A batch takes no longer than with 3 GB."""


def load(
    name_or_directory: str | Path = catalogue.DEFAULT,
    *,
    chunk: ChunkSize = TRAINED_CHUNKS[0],
    compute: Compute | None = None,
    dtype: ComputeType | None = None,
    offline: bool = False,
) -> SpeechModel:
    """Load a speech model.

    A GPU computes a quantised model from its quantised weights; on a CPU it is unpacked first.

    Call `prepare_process` at the start of the program. A RuntimeWarning says so if that was forgotten and makes this
    machine slow.

    Example:
        >>> import parastream.model
        >>> blas = parastream.model.prepare_process()
        >>> model = parastream.model.load("asr-small-en")
        >>> model.config.streams
        True

    Args:
        name_or_directory: A name that `parastream models list` shows, a hub id, or a FunASR model directory.
        chunk: Shape of the streaming windows, [0, 10, 5] or [0, 8, 4].
        compute: `mlx`, or `graphs` for onnxruntime on the CPU. Default: graphs on a CPU, MLX on a GPU.
        dtype: Type in which the network computes, independent of the type of the stored weights. MLX takes bfloat16,
            the default, or another type of floats on a GPU, and float32 on a CPU. Graphs take float32 or int8; int8 is
            the default for models whose `configuration.json` says how little that changes, on CPUs that are fast at it.
        offline: Never use the network, only the cache.

    Raises:
        HubError: The name is unknown, or its files cannot be fetched.
        ModelConfigError: The directory's configuration cannot be used, or not computed as asked for.
        CheckpointError: The weights are damaged or do not fit the configuration.
    """
    if chunk not in TRAINED_CHUNKS:
        allowed = " or ".join(f"[{c.left}, {c.hop}, {c.look_ahead}]" for c in TRAINED_CHUNKS)
        raise ModelConfigError(
            f"chunk size [{chunk.left}, {chunk.hop}, {chunk.look_ahead}]: Paraformer was trained for {allowed}"
        )
    warn_if_slow()
    directory = ModelDirectory(catalogue.resolve(name_or_directory, offline=offline))
    speech = SpeechModel.from_directory(directory, chunk=chunk, compute=compute, dtype=dtype)
    _tidy_memory()
    return speech


def _tidy_memory() -> None:
    """Let go of copies of weights that only loading needed, and have the memory used well from here on.

    On a CPU the weights go into large pages, on a GPU MLX keeps little of what is freed.
    """
    # Imports MLX, which has to wait for prepare_process.
    import mlx.core as mx
    from parastream.model.device import on_cpu

    allocator.return_freed_memory()
    if on_cpu():
        allocator.join_pages()
    else:
        mx.set_cache_limit(_MOST_CACHED)


def load_final_pass(
    name_or_directory: str | Path,
    *,
    compute: Compute | None = None,
    dtype: ComputeType | None = None,
    offline: bool = False,
    lm: LanguageModelChoice = LanguageModelChoice(),
) -> FinalPass:
    """Load a model for whole utterances: Whisper, SenseVoice or Paraformer.

    Args:
        name_or_directory: A name that `parastream models list` shows, a hub id such as `openai/whisper-small`, or a
            directory of FunASR's, Hugging Face's or mlx-community's form.
        compute: As for `load`. SenseVoice is computed with MLX whatever is said here, as its `computing` says.
        dtype: Type in which the network computes. Default: as for `load` (Whisper's file is `config.json`); on a GPU
            float16 for Whisper. SenseVoice knows no int8 and takes its default instead.
        offline: Never use the network, only the cache.
        lm: The language model of a Paraformer; the others have none.

    Raises:
        HubError: The name is unknown, or its files cannot be fetched.
        ModelConfigError: The directory's configuration cannot be used, or not computed as asked for.
        CheckpointError: The weights are damaged or do not fit the configuration.
        LanguageModelError: The language model cannot be used.
    """
    warn_if_slow()
    path = catalogue.resolve(name_or_directory, offline=offline)
    final_pass = _final_pass(path, compute, dtype, lm)
    _tidy_memory()
    return final_pass


def _final_pass(path: Path, compute: Compute | None, dtype: ComputeType | None, lm: LanguageModelChoice) -> FinalPass:
    if is_whisper(path):
        from parastream.model.whisper.speech import WhisperPass

        return WhisperPass.from_directory(path, compute=compute, dtype=dtype)
    directory = ModelDirectory(path)
    if is_sensevoice(directory):
        from parastream.model.sensevoice.speech import SenseVoicePass

        return SenseVoicePass.from_directory(directory, dtype=None if dtype == "int8" else dtype)
    from parastream.model.paraformer_pass import ParaformerPass

    speech = SpeechModel.from_directory(directory, chunk=TRAINED_CHUNKS[0], compute=compute, dtype=dtype)
    return ParaformerPass(speech, load_search(speech, lm))


def is_final_only(name_or_directory: str | Path, *, offline: bool = False) -> bool:
    """Say whether a model transcribes whole utterances only, as Whisper and SenseVoice do: `load` refuses it.

    Raises:
        HubError: The name is unknown, or its files cannot be fetched.
        ModelConfigError: The directory's `config.yaml` is damaged.
    """
    path = catalogue.resolve(name_or_directory, offline=offline)
    return is_whisper(path) or is_sensevoice(ModelDirectory(path))


def load_punctuation(
    name_or_directory: str | Path = catalogue.DEFAULT_PUNCTUATION, *, offline: bool = False
) -> Punctuator:
    """Load a punctuation model.

    Args:
        name_or_directory: A name that `parastream models list` shows, a hub id, or a FunASR model directory.
        offline: Never use the network, only the cache.

    Raises:
        HubError: The name is unknown, or its files cannot be fetched.
        ModelConfigError: The directory's configuration cannot be used.
        CheckpointError: The network is damaged or does not fit the configuration.
    """
    return Punctuator.from_directory(ModelDirectory(catalogue.resolve(name_or_directory, offline=offline)))
