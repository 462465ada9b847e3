"""Languages by their ISO 639 codes: those of families of models, and which models fit each."""

from __future__ import annotations

from dataclasses import dataclass

from parastream.model.errors import HubError

_WHISPER = """
en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk
te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo
ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue
"""
WHISPER = tuple(_WHISPER.split())
"""Whisper's, in the order of their tokens; `yue` came with large-v3."""
SENSEVOICE = ("zh", "en", "yue", "ja", "ko")
"""Those that SenseVoiceSmall was trained to transcribe. It has tags for further ones."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Models for a language, by their names; None for the embedded ones."""

    model: str | None
    final_model: str | None = None


_STREAMING = {"en": Fitting(None), "zh": Fitting("paraformer-zh-streaming")}


def fitting(language: str) -> Fitting:
    """Return the models that fit a language: with partials where there are models for that, else for finals only.

    Raises:
        HubError: None is known.
    """
    if language in _STREAMING:
        return _STREAMING[language]
    if language in SENSEVOICE:
        return Fitting("sensevoice-small")
    if language in WHISPER:
        return Fitting("whisper-small")
    allowed = ", ".join(sorted({*WHISPER, *SENSEVOICE}))
    raise HubError(f"no model for the language {language!r}: allowed are {allowed}; or name a model")
