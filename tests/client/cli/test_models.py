"""`parastream models`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from parastream.client.cli.models import compare_types, print_models
from parastream.model import SpeechModel, catalogue
from parastream.streaming import Transcriber
from parastream.streaming.transcript import Transcript

from tests.client.cli.command import EMBEDDED, SAID, SAMPLE, Run, words

SENSEVOICE = Path(__file__).parents[2] / "reference" / "sensevoice" / "model"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_names_of_models_are_whole_in_any_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    print_models()
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert {card.name for card in catalogue.list_models()} <= set(shown.split())


def test_models_list(run: Run) -> None:
    result = run("models", "list")
    assert result.status == 0
    for name in ("asr-small-en", "paraformer-zh-streaming", "paraformer-zh", "ct-punc"):
        assert re.search(rf"^ *{name} ", result.out, re.M)


def test_models_list_says_what_they_are_for(run: Run) -> None:
    out = " ".join(run("models", "list").out.split())
    assert "zh, en, yue, ja, ko" in out
    assert "99 languages" in out
    assert "words wrong: LibriSpeech test-other 15 %" in out
    for licence in ("Apache-2.0", "MIT", "FunASR Model License 1.1"):
        assert licence in out


def test_models_check_of_a_model_for_whole_utterances(run: Run) -> None:
    checked = run("models", "check", SENSEVOICE)
    assert checked.status == 0
    assert "languages   5: zh, en, yue, ja, ko" in checked.out
    refused = run("models", "check", SENSEVOICE, "--recordings", SAMPLE.parent)
    assert "transcribes whole utterances only: recordings cannot be compared" in refused.err
    refused = run("models", "check", SENSEVOICE, SAMPLE)
    assert "is not computed in 8 bits: there is nothing to compare recordings with" in refused.err


def test_models_download_of_what_is_here(run: Run) -> None:
    result = run("models", "download", "asr-small-en")
    assert (result.status, result.out) == (0, f"{EMBEDDED / 'asr-small-en'}\n")


def test_models_convert_and_check(run: Run, tmp_path: Path) -> None:
    converted = tmp_path / "converted"
    assert run("models", "convert", "asr-small-en", converted, "--dtype", "float32").status == 0
    checked = run("models", "check", converted)
    assert checked.status == 0
    assert "30.87 million" in checked.out
    again = run("models", "convert", "asr-small-en", converted)
    assert again.status == 1
    assert str(converted) in again.err


def test_models_quantize_and_transcribe(run: Run, tmp_path: Path, unquantised: Path) -> None:
    small = tmp_path / "small"
    made = run("models", "quantize", unquantised, small, "--bits", "4", "--group-size", "32")
    assert made.status == 0
    assert re.fullmatch(rf"{small}: 2\d\.\d MB instead of 61\.8\n", made.out)
    checked = run("models", "check", small)
    assert checked.status == 0
    assert "30.87 million" in checked.out
    assert re.search(r"^stored +4 bits in groups of 32$", checked.out, re.M)
    assert re.search(r"^computed +by (graphs in float32|MLX in bfloat16)$", checked.out, re.M)
    transcribed = run("transcribe", SAMPLE, "--model", small, "--dtype", "float32")
    assert transcribed.status == 0
    assert words(transcribed.out) == " ".join(SAID)
    again = run("models", "quantize", small, tmp_path / "smaller")
    assert again.status == 1
    assert "is quantised already (4 bits in groups of 32)" in again.err


def test_models_quantize_and_check_take_whisper_too(run: Run, tmp_path: Path) -> None:
    checked = run("models", "check", "whisper-tiny-en")
    assert checked.status == 0
    assert re.search(r"^languages +1: en$", checked.out, re.M)
    assert re.search(r"^warm-up +\d", checked.out, re.M)
    again = run("models", "quantize", "whisper-tiny-en", tmp_path / "smaller", "--bits", "6")
    assert again.status == 1
    assert "is quantised already (8 bits in groups of 64)" in again.err
    compared = run("models", "check", "whisper-tiny-en", "--recordings", tmp_path)
    assert compared.status == 1
    assert "transcribes whole utterances only: recordings cannot be compared" in compared.err


@pytest.mark.parametrize(
    ("command", "model", "why"),
    [
        (
            "convert",
            "whisper-tiny-en",
            "is a Whisper, which loads as it is: `models convert` is for FunASR's checkpoints",
        ),
        ("convert", "punc-small-offline", "is a punctuation model; a speech model is needed"),
        ("quantize", "punc-small-realtime", "is a punctuation model; a speech model is needed"),
        ("convert", "lm-small-en", "is a language model, for `--lm`; a speech model is needed"),
        ("quantize", "lm-small-en", "is a language model, for `--lm`; a speech model is needed"),
        ("check", "lm-small-en", "is a language model, for `--lm`; a speech model is needed"),
    ],
)
def test_models_of_other_kinds_are_refused_by_their_names(
    run: Run, tmp_path: Path, command: str, model: str, why: str
) -> None:
    destination = () if command == "check" else (tmp_path / "new",)
    refused = run("models", command, model, *destination)
    assert (refused.status, refused.err.splitlines()) == (1, [f"error: {model} {why}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "allowed"), [("--bits", "3", "'8', '6', '4'"), ("--group-size", "48", "'32', '64', '128'")]
)
def test_models_quantize_says_what_is_allowed(run: Run, tmp_path: Path, option: str, value: str, allowed: str) -> None:
    refused = run("models", "quantize", "asr-small-en", tmp_path / "new", option, value)
    assert refused.status == 2
    assert f"'{value}' is not one of {allowed}" in refused.err


def test_models_check_compares_with_known_texts(run: Run, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    golden = {"source": "AN4", "asr-small-en": {SAMPLE.name: " ".join(SAID)}}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    right = run("models", "check", "asr-small-en", "--recordings", tmp_path)
    assert right.status == 0
    assert "passed" in right.out
    golden["asr-small-en"] = {SAMPLE.name: "something else altogether"}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    wrong = run("models", "check", "asr-small-en", "--recordings", tmp_path)
    assert wrong.status == 1
    assert "failed" in wrong.out


def test_models_check_compares_8_bits_with_float32(run: Run) -> None:
    compared = run("models", "check", "asr-small-en", SAMPLE)
    assert compared.status == 0
    for form in ("whole", "streaming"):
        assert f"compared    {form}: int8 hears what float32 hears in 1 of 1 recordings; 0 of" in compared.out
    refused = run("models", "check", "punc-small-realtime", SAMPLE)
    assert (refused.status, "recordings cannot be compared" in refused.err) == (1, True)


def test_models_check_compares_8_bits_with_float32_for_whole_utterances(run: Run) -> None:
    compared = run("models", "check", "whisper-tiny-en", SAMPLE)
    assert compared.status == 0
    assert re.search(r"^compared    whole: int8 hears what float32 hears in [01] of 1 recordings", compared.out, re.M)
    assert "streaming" not in compared.out


def test_what_8_bits_change_is_shown(
    speech: SpeechModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = iter(["one two", "one too", "two", "two"])
    monkeypatch.setattr(Transcriber, "transcribe", lambda *_: Transcript(next(heard), (), 1.0))
    transcriber = Transcriber(speech, punctuation=None)
    compare_types({form: [transcriber, transcriber] for form in ("whole", "streaming")}, [SAMPLE])
    shown = capsys.readouterr().out
    assert f"int8        {SAMPLE.name}, whole: one too (1 of 7 characters differ)" in shown
    assert "whole: int8 hears what float32 hears in 0 of 1 recordings; 1 of 7 characters differ (14.29%)" in shown
    assert "streaming: int8 hears what float32 hears in 1 of 1 recordings" in shown


@pytest.mark.parametrize("content", [None, "[]", '{"source": "x"}', "{"])
def test_models_check_without_known_texts(run: Run, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "golden.json").write_text(content)
    result = run("models", "check", "asr-small-en", "--recordings", tmp_path)
    assert result.status == 1
    assert f"{tmp_path}/golden.json: " in result.err


def test_models_check_of_a_damaged_model(run: Run, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED / "asr-small-en", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    result = run("models", "check", tmp_path / "model")
    assert result.status == 1
    assert re.fullmatch(r"error: .*model\.safetensors.*\n", result.err)


def test_models_check_of_a_punctuation_model(run: Run) -> None:
    result = run("models", "check", "punc-small-realtime")
    assert result.status == 0
    assert re.search(r"example +How are you\?", result.out)
