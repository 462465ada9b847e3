"""Which models a command line chooses, before any is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from parastream.client.cli.composition import ModelChoice, model_choice
from parastream.model.errors import HubError, ModelError
from parastream.server.config import ServerConfig

SENSEVOICE = str(Path(__file__).parents[2] / "reference" / "sensevoice" / "model")


@pytest.mark.parametrize(
    ("choice", "speech", "final", "pairs"),
    [
        (ModelChoice(), "asr-small-en", None, True),
        (ModelChoice(model="x"), "x", None, False),
        (ModelChoice(model="x", final_model="auto"), "x", None, True),
        (ModelChoice(final_model="y"), "asr-small-en", "y", False),
        (ModelChoice(model="x", final_model="x"), "x", None, False),
        (ModelChoice(language="en"), "asr-small-en", None, True),
        (ModelChoice(language="zh"), "paraformer-zh-streaming", None, False),
        (ModelChoice(language="ja"), "sensevoice-small", None, False),
        (ModelChoice(language="yue"), "sensevoice-small", None, False),
        (ModelChoice(language="de"), "whisper-small", None, False),
        (ModelChoice(model="x", language="de"), "x", None, False),
        (ModelChoice(final_model="y", language="de"), "asr-small-en", "y", False),
    ],
)
def test_a_choice(choice: ModelChoice, speech: str, final: str | None, pairs: bool) -> None:
    assert (choice.speech, choice.final, choice.pairs) == (speech, final, pairs)


def test_a_language_that_no_model_knows() -> None:
    with pytest.raises(HubError, match=r"no model for the language .tlh.: allowed are af, am, ar, .*; or name a model"):
        ModelChoice(language="tlh").downloads()


def test_what_has_to_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    choice = model_choice(ServerConfig(language="zh", punctuation="ct-punc"), offline=True)
    assert choice.downloads() == ["paraformer-zh-streaming, about 881 MB", "ct-punc, about 75 MB"]
    assert ModelChoice().downloads() == []
    assert ModelChoice(model=SENSEVOICE).downloads() == []
    with pytest.raises(HubError, match=r"paraformer-zh-streaming is not in the cache .* \(offline\)"):
        choice.load()


def test_the_models_must_know_the_language() -> None:
    with pytest.raises(ModelError, match="model does not know the language 'de'; it knows zh, en, yue, ja, ko"):
        ModelChoice(model=SENSEVOICE, language="de", punctuation="none").load()
    models = ModelChoice(model=SENSEVOICE, language="ja", punctuation="none").load()
    assert (models.front, models.better, models.name) == (None, None, "model")
