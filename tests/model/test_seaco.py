"""Hotwords that a network listens for by itself, against FunASR's own numbers, in both forms of computing."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import SpeechModel, checkpoint, hotword_terms, load_final_pass
from parastream.model.computing import Compute
from parastream.model.config import ChunkSize, ModelConfig
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError, ModelConfigError
from parastream.model.final_pass import FinalInput, FinalPass, Hypothesis
from parastream.model.frontend import Frontend
from parastream.model.hotword_terms import EncodedTerms, Terms, in_groups
from parastream.model.hotwords import Hotword, Hotwords
from parastream.model.lanes import finish
from parastream.model.lattice import Wanted
from parastream.model.network import Network
from parastream.model.quantization import Quantization
from parastream.model.search.search import WordSearch
from parastream.model.timestamps import upsampled_token_times
from parastream.model.tokenizer import Tokenizer
from parastream.model.tokens import Tokens
from rapidfuzz.distance import Levenshtein

from ..reference import recipe
from ..reference.driver import FOLDER, frontend, funasr_weights, graphs, network, write_directory

Float32 = NDArray[np.float32]
EXPECTED = dict(np.load(FOLDER / recipe.SEACO_SIZE / "seaco.npz"))
SIZE, SEACO = recipe.SEACO_SIZE, "SeacoParaformer"
LISTS = {name: tuple(map(tuple, terms)) for name, terms in recipe.HOTWORD_LISTS.items()}
EVERY: Wanted = np.arange(64, dtype=np.int32)
COMPUTES: list[Compute] = ["mlx", "graphs"]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Frontend:
    return frontend(tmp_path_factory.mktemp("cmvn"))


@pytest.fixture(scope="module")
def rows(front: Frontend) -> Float32:
    return front(recipe.waveform())


@pytest.fixture(scope="module", params=COMPUTES)
def model(request: pytest.FixtureRequest) -> Network:
    make = network if request.param == "mlx" else graphs
    return make(SIZE, None, model=SEACO)


def heard(model: Network, features: Sequence[Float32], terms: Sequence[Terms | None]) -> list[Tokens]:
    """Tokens with a lattice of the whole vocabulary."""
    work = model.transcribe_in_slices(features, layers=1, wanted=[EVERY] * len(features), terms=terms)
    return finish(work)


def log_probabilities(tokens: Tokens) -> Float32:
    assert tokens.lattice is not None
    return tokens.lattice.wanted_log_probabilities


@pytest.mark.parametrize("name", [*LISTS, None])
def test_hotwords(model: Network, rows: Float32, name: str | None) -> None:
    (tokens,) = heard(model, [rows], [None if name is None else LISTS[name]])
    expected = EXPECTED["plain" if name is None else f"merged_{name}"][0]
    np.testing.assert_allclose(log_probabilities(tokens), expected, atol=5e-3)
    assert tokens.ids.tolist() == expected.argmax(-1).tolist()
    np.testing.assert_allclose(tokens.confidences, np.exp(expected.max(-1)), atol=1e-3)


@pytest.mark.parametrize("name", LISTS)
def test_what_the_bias_encoder_makes_of_hotwords(model: Network, name: str) -> None:
    (found,) = finish(model._encoded_terms.of([LISTS[name]], steps=1))  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.array(found), EXPECTED[f"vectors_{name}"], atol=1e-5)


def test_a_timestamp_head_says_when_tokens_begin(model: Network, rows: Float32) -> None:
    (tokens,) = heard(model, [rows], [None])
    assert tokens.upsampled is not None
    assert tokens.upsampled.total == EXPECTED["us_alphas"].shape[1]
    starts, ends = upsampled_token_times(tokens.rows, tokens.upsampled)
    found = np.stack([starts, ends], axis=1)
    np.testing.assert_allclose(found, EXPECTED["times"] / 1000, atol=1.01e-3)  # FunASR cuts to milliseconds


@pytest.mark.parametrize("compute", COMPUTES)
def test_a_model_may_have_timestamps_without_hotwords(rows: Float32, compute: str) -> None:
    model = (network if compute == "mlx" else graphs)(SIZE, None, model="BiCifParaformer")
    (tokens,) = model.transcribe([rows])
    assert tokens.ids.tolist() == EXPECTED["plain"][0].argmax(-1).tolist()
    assert tokens.upsampled is not None
    starts, _ = upsampled_token_times(tokens.rows, tokens.upsampled)
    np.testing.assert_allclose(starts, EXPECTED["times"][:, 0] / 1000, atol=1.01e-3)


def test_each_utterance_of_a_batch_has_its_own_hotwords(model: Network, front: Frontend, rows: Float32) -> None:
    second = front(recipe.waveform()[: recipe.SECOND])
    features = [second, rows, second, rows, rows[:0], rows]
    terms = [LISTS["many"], LISTS["many"], None, LISTS["few"], LISTS["few"], None]
    together = heard(model, features, terms)
    for found, own, hotwords in zip(together, features, terms, strict=True):
        (alone,) = heard(model, [own], [hotwords])
        assert found.ids.tolist() == alone.ids.tolist()
        assert found.rows.tolist() == alone.rows.tolist()
        np.testing.assert_allclose(found.confidences, alone.confidences, atol=1e-4)
    assert together[1].ids.tolist() != together[3].ids.tolist() != together[5].ids.tolist()


def test_in_8_bits_an_utterance_has_the_same_bits_alone_and_in_a_batch(rows: Float32) -> None:
    model = graphs(SIZE, None, "int8", model=SEACO)
    features, terms = [rows, rows[:40], rows], [LISTS["many"], LISTS["few"], None]
    for found, own, hotwords in zip(heard(model, features, terms), features, terms, strict=True):
        (alone,) = heard(model, [own], [hotwords])
        np.testing.assert_array_equal(log_probabilities(found), log_probabilities(alone))
    (exact,) = heard(graphs(SIZE, None, model=SEACO), [rows], [LISTS["many"]])
    (found,) = heard(model, [rows], [LISTS["many"]])
    assert (found.ids == exact.ids).mean() > 0.8


# --- lists of hotwords ----------------------------------------------------------------------------


E = TypeVar("E")


class Lanes:
    """Does one work after the other."""

    def __len__(self) -> int:
        return 2

    def in_slices(self, works: Sequence[Generator[object, None, E]], *, steps: int) -> Generator[None, None, list[E]]:
        yield
        return [finish(work) for work in works]


def test_the_bias_encoder_runs_once_for_each_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hotword_terms, "_MOST_KEPT", 5)
    seen: list[Terms] = []

    def encode(terms: Terms) -> Generator[None, None, int]:
        yield
        seen.append(terms)
        return len(terms)

    kept = EncodedTerms(encode, Lanes())

    def encoded(*lists: Terms | None) -> list[Terms]:
        """Those for which the encoder runs."""
        seen.clear()
        assert finish(kept.of(lists, steps=1)) == [None if own is None else len(own) for own in lists]
        return list(seen)

    one, two, three, many = ((5,),), ((6,), (7,)), ((8,),) * 3, ((9,),) * 6
    assert encoded(one, None, one, two) == [one, two]
    assert encoded(two, one) == []
    assert encoded(three) == [three]
    assert encoded(three, one) == [], "the list that was used last stays longest"
    assert encoded(two) == [two]
    assert encoded(many) == [many]
    assert encoded(many) == [], "the newest list stays whatever its size"
    assert encoded(one, two, three) == [one, two, three]


def test_terms_are_encoded_with_others_of_their_length() -> None:
    terms = tuple((3,) * (1 + place % 5) for place in range(100))
    groups = list(in_groups(terms))
    assert sorted(place for group, _, _ in groups for place in group) == list(range(101))
    for group, ids, lengths in groups:
        own = [(*terms, (1,))[place] for place in group]
        assert [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)] == own
        assert lengths.max() - lengths.min() <= 3
        assert not any(row[length:].any() for row, length in zip(ids, lengths, strict=True))


# --- a model's directory --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seaco")
    write_directory(path, SIZE, SEACO, funasr_weights(SIZE, SEACO))
    (path / "seg_dict").write_text("hello hel@@ lo\nworld wor@@ ld\n")
    return path


def transcribed(ear: FinalPass, *hotwords: Hotword) -> Hypothesis:
    (found,) = finish(ear.transcribe_in_slices([FinalInput(recipe.waveform(), hotwords=hotwords)], steps=1000))
    return found


def characters(*ids: int) -> str:
    return "".join(recipe.tokens(recipe.SIZES[SIZE])[i] for i in ids)


@pytest.mark.parametrize("compute", COMPUTES)
def test_the_network_has_the_hotwords_that_it_can_take_in(
    directory: Path, rows: Float32, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = load_final_pass(directory, compute=compute, dtype="float32")
    speech = SpeechModel.from_directory(ModelDirectory(directory), chunk=ChunkSize(), compute=compute, dtype="float32")
    network, tokenizer = speech.network, Tokenizer(recipe.tokens(recipe.SIZES[SIZE]))
    hotwords = [Hotword(characters(20, 21)), Hotword("Hello", weight=3.0), Hotword("B")]
    (expected,) = heard(network, [rows], [((20, 21), (3, 4), (6,))])
    (plain,) = heard(network, [rows], [None])
    searched: list[Hotwords] = []

    def whole(_: WordSearch, tokens: Tokens, others: Hotwords) -> Tokens:
        searched.append(others)
        return tokens

    monkeypatch.setattr(WordSearch, "whole", whole)
    found, without = transcribed(ear, *hotwords), transcribed(ear)
    assert found.text.lower() == tokenizer.decode(expected.ids.tolist()).lower()
    assert without.text == tokenizer.decode(plain.ids.tolist()) != found.text
    # The pieces of "hello" are known, but none of "wor".
    transcribed(ear, *hotwords, Hotword("wor"))
    assert searched == [(), (), (Hotword("wor"),)]


def test_quantised_and_converted_models_have_their_hotwords(directory: Path, tmp_path: Path) -> None:
    hotword = Hotword(characters(20, 21))
    expected = transcribed(load_final_pass(directory, dtype="float32"), hotword)
    checkpoint.convert(directory, tmp_path / "converted", "float32")
    assert transcribed(load_final_pass(tmp_path / "converted", dtype="float32"), hotword) == replace(
        expected, ear="converted"
    )
    checkpoint.quantize(directory, tmp_path / "quantised", Quantization(8, 32))
    for compute in COMPUTES:
        found = transcribed(load_final_pass(tmp_path / "quantised", compute=compute, dtype="float32"), hotword)
        assert Levenshtein.normalized_similarity(found.text, expected.text) > 0.7


def _lose(arrays: dict[str, Any]) -> None:
    del arrays["bias_encoder.weight_hh_l1"]


def _lose_embedding(arrays: dict[str, Any]) -> None:
    del arrays["decoder.embed.0.weight"]


def _add(arrays: dict[str, Any]) -> None:
    arrays["seaco_decoder.output_layer.bias"] = np.zeros(64, np.float32)


def _reshape(arrays: dict[str, Any]) -> None:
    arrays["hotword_output_layer.weight"] = np.zeros((64, 32), np.float32)


def _lose_timestamps(arrays: dict[str, Any]) -> None:
    for name in [name for name in arrays if name.startswith(("predictor.blstm", "predictor.cif_output2"))]:
        del arrays[name]


@pytest.mark.parametrize("compute", COMPUTES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lose, "1 missing: seaco.encoder.weight_hh_l1"),
        (_lose_embedding, "1 missing: seaco.embed"),
        (_add, "1 unexpected: seaco.decoder.output_layer.bias"),
        (_reshape, "1 of another shape: seaco.output_layer.weight (64, 32) instead of (64, 64)"),
        (_lose_timestamps, "10 missing: "),
    ],
)
def test_only_a_full_fit_is_loaded(
    tmp_path: Path, compute: Compute, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    arrays = funasr_weights(SIZE, SEACO)
    change(arrays)
    write_directory(tmp_path, SIZE, SEACO, arrays)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_final_pass(tmp_path, compute=compute)


def test_a_plain_model_has_no_place_for_hotwords(tmp_path: Path) -> None:
    write_directory(tmp_path, SIZE, "BiCifParaformer", funasr_weights(SIZE, SEACO))
    with pytest.raises(CheckpointError, match=r"127 unexpected: seaco\.encoder\.bias_hh_l0, "):
        load_final_pass(tmp_path)


def changed(section: str, **values: object) -> dict[str, object]:
    """The reference model's configuration, with some values in a section replaced."""
    config = recipe.config(recipe.SIZES[SIZE], streaming=False, model=SEACO)
    return config | {section: config[section] | values}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("model_conf", NO_BIAS=64), "NO_BIAS is 64, which is none of 64 tokens"),
        (changed("model_conf", bias_encoder_type="mean"), "bias_encoder_type 'mean'"),
        (changed("model_conf", bias_encoder_bid=True), "bias_encoder_bid True"),
        (changed("model_conf", inner_dim=32), "inner_dim 32 differs from encoder size 64"),
        (changed("seaco_decoder_conf", att_layer_num=5), "5 attention layers in 5 blocks"),
        (changed("seaco_decoder_conf", num_blocks=7), "6 attention layers in 7 blocks"),
        (changed("seaco_decoder_conf", sanm_shfit=5), "sanm_shfit 5"),
        (changed("seaco_decoder_conf", num_blocks="six"), "num_blocks must be int, got 'six'"),
        (changed("model_conf") | {"seaco_decoder": None}, "seaco_decoder is None; supported is ParaformerSANMDecoder"),
        (changed("predictor_conf", upsample_type="cnn"), "upsample_type 'cnn'"),
        (changed("predictor_conf", use_cif1_cnn=True), "use_cif1_cnn True"),
        (changed("predictor_conf", upsample_times=0), "upsample_times must be positive"),
    ],
)
def test_configurations_that_cannot_be_used(config: dict[str, object], message: str) -> None:
    with pytest.raises(ModelConfigError, match=re.escape(message)):
        ModelConfig.from_dict(config, vocab_size=64)
