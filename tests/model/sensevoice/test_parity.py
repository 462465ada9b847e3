"""SenseVoice's stages against FunASR's own numbers, on a small model with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.directory import ModelDirectory
from parastream.model.lanes import finish
from parastream.model.languages import SENSEVOICE
from parastream.model.sensevoice.network import Heard, prompt
from parastream.model.sensevoice.speech import SenseVoicePass
from parastream.model.sensevoice.words import runs

FOLDER = Path(__file__).parents[2] / "reference" / "sensevoice"
REFERENCE: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def ear() -> SenseVoicePass:
    return SenseVoicePass.from_directory(ModelDirectory(FOLDER / "model"), dtype="float32")


@pytest.fixture(scope="module")
def waves() -> dict[str, Float32]:
    return {name: wave.astype(np.float32) / 32768 for name, wave in np.load(FOLDER / "waves_int16.npz").items()}


def prompt_of(options: dict[str, Any]) -> list[int]:
    """FunASR's options in our words: a language that it does not know counts as none."""
    language = options["language"] if options["language"] in SENSEVOICE else None
    return prompt(language, marks=options.get("text_norm", "") == "withitn" or options.get("use_itn", False))


def heard(ear: SenseVoicePass, waves: list[Float32], prompts: list[list[int]]) -> list[Heard]:
    return finish(ear._network.transcribe([ear.frontend(wave) for wave in waves], prompts, ear._tags))


def test_every_stage(ear: SenseVoicePass, waves: dict[str, Float32]) -> None:
    expected = np.load(FOLDER / "stages.npz")
    network = ear._network
    rows = ear.frontend(waves["B"])
    np.testing.assert_allclose(rows, expected["feats"][0], atol=1e-3)
    prompted = np.concatenate([np.array(network.prompts)[prompt(None, marks=False)], rows])
    np.testing.assert_allclose(prompted, expected["prompted"][0], atol=1e-3)
    embedded = network.encoder.embed(prompted)
    np.testing.assert_allclose(embedded, expected["enc_in"][0], atol=5e-3)
    layers = [np.array(layer) for layer in network.encoder.layer_by_layer(mx.array(embedded[None]), None)]
    first = network.encoder.layers[0]
    attended, _ = first.self_attn(first.norm1(mx.array(embedded)), 1, None)
    found = [np.array(attended), *layers[:3], np.array(network.encoder.after_norm(mx.array(layers[2]))), *layers[3:]]
    stages = ("l00_attn", "enc_l00", "enc_l01", "enc_l02", "after_norm", "tp_l00", "tp_l01", "tp_norm")
    for stage, values in zip(stages, found, strict=True):
        np.testing.assert_allclose(values, expected[stage][0], atol=2e-4, err_msg=stage)
    np.testing.assert_allclose(np.array(network.ctc(mx.array(layers[-1]))), expected["logits"][0], atol=1e-3)


def test_logits_of_a_padded_batch(ear: SenseVoicePass, waves: dict[str, Float32]) -> None:
    expected = np.load(FOLDER / "batch.npz")
    table = np.array(ear._network.prompts)[prompt("ko", marks=True)]
    rows = [ear._network.encoder.embed(np.concatenate([table, ear.frontend(waves[name])])) for name in "AB"]
    batch = np.zeros((2, 75, 560), np.float32)
    for place, each in zip(batch, rows, strict=True):
        place[: len(each)] = each
    mask = np.arange(75) < expected["lens"][:, None]
    *_, encoded = ear._network.encoder.layer_by_layer(mx.array(batch), mask)
    logits = np.array(ear._network.ctc(encoded)).reshape(2, 75, -1)
    np.testing.assert_allclose(logits[mask], expected["logits"][mask], atol=1e-3)


@pytest.mark.parametrize("name", REFERENCE["cases"])
def test_tokens_tags_confidences_and_times(ear: SenseVoicePass, waves: dict[str, Float32], name: str) -> None:
    case = REFERENCE["cases"][name]
    utterances = [waves[utterance] for utterance in case["utterances"]]
    found = heard(ear, utterances, [prompt_of(case["options"])] * len(utterances))
    for hypothesis, expected in zip(found, case["items"], strict=True):
        assert hypothesis.ids.tolist() == expected["argmax"][4:]
        spoken = runs(hypothesis.ids, hypothesis.confidences)
        assert [run.token for run in spoken] == expected["ids"][4:]
        np.testing.assert_allclose([run.confidence for run in spoken], expected["confidences"][4:], atol=1e-4)
        tags = [ids[place] for ids, place in zip(ear._tags, hypothesis.tags, strict=True)]
        if "ban_emo_unk" not in case["options"]:
            assert tags == expected["ids"][:3]
            np.testing.assert_allclose(hypothesis.tag_confidences, expected["confidences"][:3], atol=1e-4)
        if expected["retok_equal"]:
            assert_times(spoken, len(hypothesis.ids), expected["timestamp"])


def assert_times(spoken: list[Any], rows: int, expected: list[list[int]]) -> None:
    """FunASR joins tokens to words and cuts times off to milliseconds, but each is one of a token's."""
    times = [run.seconds(rows) for run in spoken]
    for place in (0, 1):
        ours = np.array([time[place] for time in times]) * 1000
        for entry in expected:
            assert np.abs(ours - entry[place]).min() < 1.5


@pytest.mark.parametrize("name", REFERENCE["paths"])
def test_paths_made_by_hand(name: str) -> None:
    path = REFERENCE["paths"][name]
    rows = np.array(path["path"][4:], np.int32)
    found = runs(rows, np.ones(len(rows), np.float32))
    ids = path["ids"]
    # Where a tag is missing in front, or the first one spoken is the last tag again, FunASR counts wrongly.
    if name not in ("tags_all_blank", "missing_itn_tag", "tag_spills_to_frame4"):
        assert [run.token for run in found] == ids[4:]
    if path["target"] == ids[4:] and path["timestamp"] is not None:
        assert_times(found, len(rows), path["timestamp"])
