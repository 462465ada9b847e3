"""The composition root: puts models, engine and server together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from parastream.model import catalogue, load, load_final_pass, load_punctuation, load_search, silero_weights
from parastream.model.computing import Compute, ComputeType
from parastream.model.errors import ModelError, ReplacementError
from parastream.model.final_pass import FinalPass
from parastream.model.hotwords import Hotwords
from parastream.model.languages import Fitting, fitting
from parastream.model.loading import is_final_only
from parastream.model.replacements import Replacements
from parastream.model.search.loading import LanguageModelChoice
from parastream.server.app import Server, new_engine
from parastream.server.config import Refine, ServerConfig
from parastream.server.metrics import Metrics
from parastream.server.wire import messages
from parastream.streaming import Models
from parastream.streaming.vad import Vad

AUTO = "auto"
"""Stands for two final passes: the streaming model's own, and a better one."""


@dataclass(frozen=True)
class ModelChoice:
    """Models by name or directory, as given on the command line; None for the embedded ones."""

    model: str | None = None
    final_model: str | None = None
    """What hears whole utterances: a name; `auto` for `model`, and Whisper where there is room; None for `auto` where
    `model` is not named either, else for `model` alone."""
    punctuation: str | None = None
    """`none` turns punctuation off."""
    offline: bool = False
    compute: Compute | None = None
    """What computes Paraformer models; None: what suits the device."""
    dtype: ComputeType | None = None
    """Type in which speech models are computed; None: what suits the device and the model."""
    language: str | None = None
    """What is spoken, as an ISO 639 code; it chooses the models where neither of the first two is named."""
    refine: Refine = "auto"
    """Whether a server of one's own refines partials where two ears listen."""
    lm: LanguageModelChoice = LanguageModelChoice()
    """The language model of Paraformers."""

    @property
    def _chosen(self) -> Fitting:
        """The models that were named, else those that fit the language."""
        if self.language is None or self.model is not None or self.final_model is not None:
            return Fitting(self.model, self.final_model)
        return fitting(self.language)

    @property
    def speech(self) -> str:
        """Name or directory of the streaming pass's model."""
        return self._chosen.model or catalogue.DEFAULT

    @property
    def pairs(self) -> bool:
        """Whether two ears hear each utterance."""
        return self._chosen == Fitting(None) or self._chosen.final_model == AUTO

    @property
    def final(self) -> str | None:
        """Name or directory of a model of its own for whole utterances."""
        final = self._chosen.final_model
        return None if final in (AUTO, self.speech) else final

    def downloads(self) -> list[str]:
        """Say what has to be downloaded, as far as it is known.

        Raises:
            HubError: There are no models for the language.
        """
        names = [self.speech, self.final, self.punctuation]
        sizes = {name: catalogue.download_size(name) for name in names if name is not None}
        return [f"{name}, about {size} MB" for name, size in sizes.items() if size is not None]

    def _load_ear(self, name: str) -> FinalPass:
        return load_final_pass(name, compute=self.compute, dtype=self.dtype, offline=self.offline, lm=self.lm)

    def load(self) -> Models:
        """Download what is missing and load everything. Call it on the thread that will run the models.

        Raises:
            ModelError: a model cannot be found, downloaded or read, or does not go with another one.
        """
        offline = self.offline
        final = self.final
        alone = is_final_only(self.speech, offline=offline)
        if alone and final is not None:
            raise ModelError(
                f"{self.speech} transcribes whole utterances only, and so does {final}: name one of them, or {final}"
                " beside a model that streams"
            )
        if alone:
            final = self.speech
        front = None if alone else load(self.speech, compute=self.compute, dtype=self.dtype, offline=offline)
        models = Models(
            front=front,
            final=None if final is None else self._load_ear(final),
            better=self._load_ear(catalogue.BETTER) if self.pairs and not alone else None,
            punctuation=(
                None
                if self.punctuation == "none"
                else load_punctuation(self.punctuation or catalogue.DEFAULT_PUNCTUATION, offline=offline)
            ),
            vad=Vad(silero_weights.load(offline=offline)),
            search=None if front is None else load_search(front, self.lm),
        )
        known = models.first.capabilities.languages
        if self.language not in (None, *known):
            raise ModelError(
                f"{models.first.name} does not know the language {self.language!r}; it knows {', '.join(known)}"
            )
        return models


def model_choice(config: ServerConfig, *, offline: bool) -> ModelChoice:
    """Return the models that a server's settings name."""
    return ModelChoice(
        config.model or None,
        config.final_model or None,
        config.punctuation or None,
        offline,
        config.compute or None,
        config.dtype or None,
        config.language or None,
        lm=LanguageModelChoice(config.lm, config.lm_share, config.lm_weight),
    )


def language_model(name: str | None, share: float | None, weight: float | None) -> LanguageModelChoice:
    """Return the choice of a language model, with the usual values for what was not given."""
    given = {"name": name, "share": share, "weight": weight}
    return LanguageModelChoice(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def read_rules(file: Path | None) -> Replacements:
    """Read the rules for replacing words in a file; none if there is no file.

    Raises:
        ReplacementError: it is not UTF-8, or a line is no rule.
        OSError: it cannot be read.
    """
    if file is None:
        return Replacements()
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ReplacementError(f"{file} is not UTF-8: {error}") from error
    return Replacements.read(lines, where=f"{file}, ")


def sendable(hotwords: Hotwords) -> list[messages.Hotword]:
    """Return hotwords as a client sends them."""
    return [messages.Hotword(each.term, each.weight, each.sounds_like) for each in hotwords]


@contextlib.asynccontextmanager
async def local_server(choice: ModelChoice) -> AsyncIterator[Server]:
    """Run a warm server in this process, on a free port.

    Raises:
        ParastreamError: the server cannot start.
    """
    config, metrics = (
        ServerConfig(
            port=0, model=choice.model or "", language=choice.language or "", ears="fixed", refine=choice.refine
        ),
        Metrics(),
    )
    engine = new_engine(choice.load, config, metrics)
    server = Server(engine, config, metrics)
    engine.start()
    try:
        await asyncio.to_thread(engine.wait_ready)
        await server.start()
        try:
            yield server
        finally:
            await server.close()
    finally:
        await asyncio.to_thread(engine.close)
