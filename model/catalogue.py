"""Names of models: where each comes from, and the directory that holds it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout
from parastream.model import hugging_face, languages
from parastream.model.cache_directory import cache_directory
from parastream.model.directory import (
    CMVN,
    DESCRIPTION,
    PIECES_SUFFIX,
    PUNCTUATION_WEIGHTS,
    REQUIRED,
    SPEECH_WEIGHTS,
    TOKENS,
)
from parastream.model.errors import HubError, UnreachableHubError
from parastream.model.whisper import files as whisper

if TYPE_CHECKING:
    from parastream.model.hubs import RemoteFile

logger = logging.getLogger(__name__)

DEFAULT = "asr-small-en"
BETTER = "whisper-tiny-en"
"""Hears English whole utterances besides `DEFAULT`."""
DEFAULT_PUNCTUATION = "punc-small-realtime"
GENERAL_LANGUAGE_MODEL = "lm-small-en"
"""Of general English: what the embedded speech model uses, and what others are mixed with."""
_ASSETS = Path(__file__).parent / "assets"
_PUBLIC_ID = re.compile(r"(?:(hf|ms):)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")
_ON = ("1", "true", "yes", "on")

_FUNASR = "FunASR Model License 1.1"

Kind = Literal["speech", "final", "punctuation", "language"]
"""A `final` model transcribes whole utterances only; a `speech` model may stream."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model with a name of its own."""

    kind: Kind
    size_mb: int
    description: str
    ids: Mapping[str, str] = field(default_factory=dict)
    """Its id on each hub; an embedded model has none."""
    languages: tuple[str, ...] = ()
    """ISO 639 codes."""
    figures: str = ""
    """Share of wrong words on public recordings, as `benchmarks/ears.py` measured it; empty where it was not."""
    licence: str = "Apache-2.0"


_KNOWN: dict[str, KnownModel] = {
    DEFAULT: KnownModel(
        "speech",
        34,
        "English: letters, numbers, commands, read text; streaming and whole utterances",
        languages=("en",),
        figures="words wrong: spelled words and dates 1.0 %, digit strings 3.8 %, LibriSpeech test-other 41 %",
    ),
    BETTER: KnownModel(
        "final",
        41,
        "English free speech, whole utterances (OpenAI's Whisper tiny.en)",
        languages=("en",),
        figures="words wrong: LibriSpeech test-other 15 %, strong accents 30 %, spelled words and dates 3.4 %;"
        f" together with {DEFAULT} 15, 22 and 0.6 %",
        licence="MIT",
    ),
    "punc-small-offline": KnownModel("punctuation", 6, "Mandarin and English, for whole texts", languages=("zh", "en")),
    "punc-small-realtime": KnownModel(
        "punctuation", 6, "Mandarin and English, for running transcripts", languages=("zh", "en")
    ),
    GENERAL_LANGUAGE_MODEL: KnownModel(
        "language", 3, "General English, for the search of the best words (--lm)", languages=("en",)
    ),
    "paraformer-zh-streaming": KnownModel(
        "speech",
        881,
        "Mandarin with some English, streaming",
        {
            "hf": "funasr/paraformer-zh-streaming",
            "ms": "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-online",
        },
        languages=("zh", "en"),
        licence=_FUNASR,
    ),
    # FunASR's alias of this name means the SeACo model (with hotwords) on ModelScope, the plain one on Hugging Face.
    "paraformer-zh": KnownModel(
        "speech",
        881,
        "Mandarin with some English, whole utterances; the plain model on either hub",
        {
            "hf": "funasr/paraformer-zh",
            "ms": "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
        },
        languages=("zh", "en"),
        licence=_FUNASR,
    ),
    "paraformer-zh-seaco": KnownModel(
        "speech",
        990,
        "Mandarin with some English, whole utterances; listens for hotwords by itself (SeACo), and has a head of its"
        " own for times (BiCif)",
        {"ms": "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch"},
        languages=("zh", "en"),
        licence=_FUNASR,
    ),
    "sensevoice-small": KnownModel(
        "final",
        937,
        "Mandarin, Cantonese, English, Japanese and Korean, whole utterances (FunASR's SenseVoiceSmall)",
        {"hf": "FunAudioLLM/SenseVoiceSmall", "ms": "iic/SenseVoiceSmall"},
        languages=languages.SENSEVOICE,
        licence=_FUNASR,
    ),
    "whisper-small": KnownModel(
        "final",
        970,
        "99 languages, whole utterances (OpenAI's Whisper small)",
        {"hf": "openai/whisper-small"},
        languages=languages.WHISPER[:99],
        licence="Apache-2.0",
    ),
    "whisper-large-v3-turbo": KnownModel(
        "final",
        1620,
        "100 languages, whole utterances, for GPUs (OpenAI's Whisper large-v3-turbo)",
        {"hf": "openai/whisper-large-v3-turbo"},
        languages=languages.WHISPER,
        licence="MIT",
    ),
    # FunASR's ct-punc is a larger PyTorch model; only these have been published as ONNX, which we run.
    "ct-punc": KnownModel(
        "punctuation",
        75,
        "Mandarin with some English, for whole texts (FunASR's ct-punc-c as ONNX)",
        {"ms": "iic/punc_ct-transformer_zh-cn-common-vocab272727-onnx"},
        languages=("zh", "en"),
        licence=_FUNASR,
    ),
    "ct-punc-realtime": KnownModel(
        "punctuation",
        75,
        "Mandarin with some English, for running transcripts",
        {"ms": "iic/punc_ct-transformer_zh-cn-common-vad_realtime-vocab272727-onnx"},
        languages=("zh", "en"),
        licence=_FUNASR,
    ),
}

_BY_REPOSITORY = {model_id.rpartition("/")[2]: known for known in _KNOWN.values() for model_id in known.ids.values()}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `parastream models list` shows of a model."""

    name: str
    kind: Kind
    source: str
    """`embedded`, or the ids on the hubs, such as `hf:funasr/paraformer-zh`."""
    size_mb: int
    """Megabytes to download or on disk, about."""
    cached: bool
    """Whether it can be used without the network."""
    description: str
    languages: tuple[str, ...]
    figures: str
    licence: str


def card(name: str) -> KnownModel | None:
    """Return what is known of a model by its name, or by the name that its directory has after a download."""
    return _KNOWN.get(name) or _BY_REPOSITORY.get(name)


def list_models() -> list[ModelCard]:
    """List the models that have names; any directory or hub id can be used too."""
    return [
        ModelCard(
            name,
            known.kind,
            ", ".join(f"{hub}:{model_id}" for hub, model_id in known.ids.items()) or "embedded",
            known.size_mb,
            not known.ids or any(_find(hub, model_id) for hub, model_id in known.ids.items()),
            known.description,
            known.languages,
            known.figures,
            known.licence,
        )
        for name, known in _KNOWN.items()
    ]


def embedded_language_models() -> list[str]:
    """Return the names of those that there are."""
    return [name for name, known in _KNOWN.items() if known.kind == "language"]


def is_offline(asked: bool) -> bool:
    """Say whether the network must not be used: because the caller asked, or by `PARASTREAM_OFFLINE`."""
    return asked or os.environ.get("PARASTREAM_OFFLINE", "").lower() in _ON


def resolve(name: str | os.PathLike[str], *, offline: bool = False, progress: bool | None = None) -> Path:
    """Find the directory of a model, downloading it if need be.

    A download is kept in the user's cache directory (or `PARASTREAM_CACHE`), where later calls find it. A model that
    Hugging Face's own programs have downloaded is used where it is.
    `PARASTREAM_HUB` (`hf` or `ms`) says which hub to try first; the other one follows if that fails.

    Args:
        name: A name of `list_models`; a directory; a hub id such as `funasr/paraformer-zh`, for one hub only with `hf:`
            or `ms:` in front; `default` or nothing for the embedded speech model.
        offline: Never use the network; so does `PARASTREAM_OFFLINE=1`.
        progress: Whether to show a progress bar on stderr; by default, if that is a terminal.

    Raises:
        HubError: The name is unknown, the model is not in the cache and cannot be downloaded, or the environment names
            an unknown hub.
    """
    name = os.fspath(name)
    if name in ("", "default"):
        name = DEFAULT
    if name not in _KNOWN and Path(name).is_dir():
        return Path(name)
    ids = _ids(name)
    if not ids:
        return _ASSETS / name
    sources = _in_order(ids)
    for hub, model_id in sources:
        if found := _find(hub, model_id):
            return found
    if is_offline(offline):
        raise HubError(
            f"{name} is not in the cache {cache_directory()} and the network may not be used (offline): run"
            f" `parastream models download {name}` with the network first"
        )
    failures: list[HubError] = []
    for hub, model_id in sources:
        try:
            return _download(hub, model_id, progress)
        except HubError as error:
            logger.info("cannot download %s from %s: %s", name, hub, error)
            failures.append(error)
    network = all(isinstance(error, UnreachableHubError) for error in failures)
    why = "; ".join(map(str, failures))
    raise HubError(f"cannot download {name}{', which needs a network' * network}: {why}")


def download_size(name: str) -> int | None:
    """Return about how many megabytes `resolve` would have to download; None if that is nothing or not known.

    Raises:
        HubError: As `resolve`.
    """
    known = _KNOWN.get(name)
    if known is None or any(_find(hub, model_id) for hub, model_id in known.ids.items()):
        return None
    return known.size_mb if known.ids else None


def _ids(name: str) -> Mapping[str, str]:
    """Return a model's id on each hub that has it; none for an embedded model."""
    if name in _KNOWN:
        return _KNOWN[name].ids
    if match := _PUBLIC_ID.fullmatch(name):
        return dict.fromkeys([match[1]] if match[1] else ["hf", "ms"], match[2])
    raise HubError(
        f"no model {name!r}: allowed are {', '.join(_KNOWN)}, a directory that exists, or a hub id such as"
        " funasr/paraformer-zh"
    )


def _cached(hub: str, model_id: str) -> Path:
    return cache_directory() / "models" / hub / model_id


def _find(hub: str, model_id: str) -> Path | None:
    """Look for a model on this machine: in our cache, and complete in the one of Hugging Face's own programs."""
    if (cached := _cached(hub, model_id)).is_dir():
        return cached
    shared = hugging_face.snapshot(model_id) if hub == "hf" else None
    if shared is None:
        return None
    try:
        _needed([path.name for path in shared.iterdir() if path.is_file()])
    except HubError as error:
        logger.info("%s is not used: %s", shared, error)
        return None
    return shared


def _in_order(ids: Mapping[str, str]) -> list[tuple[str, str]]:
    """Sort hubs and ids, the preferred hub first."""
    first = os.environ.get("PARASTREAM_HUB", "hf")
    if first not in ("hf", "ms"):
        raise HubError(f"PARASTREAM_HUB is {first!r}; allowed are hf (Hugging Face) and ms (ModelScope)")
    return sorted(ids.items(), key=lambda item: item[0] != first)


def _download(hub: str, model_id: str, progress: bool | None) -> Path:
    # Slow to import, and needed only here.
    from parastream.model.hubs import HUBS, download

    final = _cached(hub, model_id)
    partial = cache_directory() / "partial" / f"{hub}--{model_id.replace('/', '--')}"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _only_one(partial.with_name(partial.name + ".lock"), model_id):
            if not final.is_dir():  # else another process has just made it
                with _progress_bar(model_id, progress) as report:
                    partial.mkdir(exist_ok=True)
                    download(HUBS[hub], model_id, _choose, partial, report)
                final.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(final)
    except OSError as error:
        raise HubError(f"{model_id} cannot be stored in {cache_directory()}: {error}") from None
    return final


def _choose(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    by_name = {file.name: file for file in files}
    return [by_name[name] for name in _needed(by_name)]


def _needed(names: Collection[str]) -> list[str]:
    """Pick the files that a model needs: its description, and one file of weights.

    Raises:
        HubError: Some are not there.
    """
    if whisper.CONFIG in names and not set(names) & set(REQUIRED):
        return _needed_by_whisper(names)
    pieces = sorted(name for name in names if name.endswith(PIECES_SUFFIX) and "/" not in name)[:1]
    missing = [name for name in REQUIRED if name not in names and not (name == TOKENS and pieces)]
    if missing:
        raise HubError(f"not a model that parastream can use: it has no {' and no '.join(missing)}")
    # Only speech models have statistics of features.
    allowed = SPEECH_WEIGHTS if CMVN in names else PUNCTUATION_WEIGHTS
    weights = next((name for name in allowed if name in names), None)
    if weights is None:
        raise HubError(f"not a model that parastream can use: it has neither {' nor '.join(allowed)}")
    return [name for name in (*DESCRIPTION, *pieces, weights) if name in names]


def _needed_by_whisper(names: Collection[str]) -> list[str]:
    """Pick the configuration of a Whisper model, its vocabulary if it has one, and one file of weights.

    Raises:
        HubError: There are no weights.
    """
    weights = next((name for name in whisper.WEIGHTS if name in names), None)
    if weights is None:
        raise HubError(f"not a model that parastream can use: it has neither {' nor '.join(whisper.WEIGHTS)}")
    vocabulary = [name for name in whisper.VOCABULARIES if name in names][:1]
    return [name for name in (whisper.CONFIG, whisper.GENERATION_CONFIG, *vocabulary, weights) if name in names]


@contextmanager
def _only_one(path: Path, model_id: str) -> Iterator[None]:
    """Let one process at a time download a model; the others wait and find it complete."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("waiting for another process that is downloading %s", model_id)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _progress_bar(model_id: str, show: bool | None) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes the bytes so far and the total."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not (console.is_terminal if show is None else show)) as bar:
        task = bar.add_task(model_id, total=None)
        yield lambda count, total: bar.update(task, completed=count, total=total)
