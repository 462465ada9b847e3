"""Quantised model directories, and networks that compute in half precision or from quantised weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import parastream.model
import pytest
import soundfile
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model import SpeechModel, catalogue, checkpoint
from parastream.model.dense import Dense
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError, ModelConfigError
from parastream.model.network import Network
from parastream.model.paraformer import Paraformer
from parastream.model.quantization import Quantization
from parastream.model.tokens import Tokens

from ..reference import recipe
from ..reference.driver import network

EMBEDDED = catalogue.resolve("asr-small-en")
SAMPLE = Path(str(files("parastream.client"))) / "assets" / "sample.flac"
Float32 = NDArray[np.float32]
on_cpu = pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="on GPUs other types are computed in")


@pytest.fixture(scope="module", params=[8, 4])
def quantized(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, unquantised: Path
) -> tuple[int, Path]:
    """Bits, and the embedded model quantised to them."""
    directory = tmp_path_factory.mktemp("quantized") / "model"
    checkpoint.quantize(unquantised, directory, Quantization(request.param))
    return request.param, directory


@pytest.fixture(scope="module")
def features(speech: SpeechModel) -> list[Float32]:
    """Of three utterances of real speech."""
    samples, _ = soundfile.read(SAMPLE, dtype="float32")
    return [speech.frontend(part) for part in np.array_split(samples, 3)]


def stream(model: Network, features: Float32, hop: int = 10) -> Tokens:
    state, heard = model.new_state(), Tokens.none()
    for start in range(0, len(features), hop):
        heard += model.step([features[start : start + hop]], [state], [start + hop >= len(features)])[0]
    return heard


def parameters(model: nn.Module) -> dict[str, mx.array]:
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(model.parameters())))


def same(one: Tokens, other: Tokens) -> float:
    """Share of the tokens of two equally long sequences that are equal."""
    assert len(one) == len(other) > 0
    return float((one.ids == other.ids).mean())


# --- the directory --------------------------------------------------------------------------------


def test_what_is_stored(quantized: tuple[int, Path], unquantised: Path) -> None:
    bits, directory = quantized
    configuration = json.loads((directory / "configuration.json").read_text())
    assert configuration.pop("quantization") == {"bits": bits, "group_size": 64}
    known = json.loads((unquantised / "configuration.json").read_text())
    assert known.pop("int8"), "which was measured with other weights"
    assert configuration == known
    stored = cast(dict[str, mx.array], mx.load(str(directory / "model.safetensors")))
    layer = "encoder.layers.3.feed_forward.w_1"
    assert stored[f"{layer}.weight"].dtype == mx.uint32
    assert stored[f"{layer}.weight"].shape == (1536, 384 * bits // 32)
    assert stored[f"{layer}.scales"].shape == stored[f"{layer}.biases"].shape == (1536, 6)
    assert stored[f"{layer}.bias"].shape == (1536,)
    # 560 inputs are no whole number of groups.
    assert stored["encoder.layers.0.self_attn.linear_q_k_v.weight"].shape == (1152, 560)
    assert {array.dtype for name, array in stored.items() if array.dtype != mx.uint32} == {mx.float16}
    whole = (unquantised / "model.safetensors").stat().st_size
    assert (directory / "model.safetensors").stat().st_size < whole * {8: 0.57, 4: 0.33}[bits]


def test_it_loads_like_any_other_and_hears_the_same(
    quantized: tuple[int, Path], speech: SpeechModel, features: list[Float32]
) -> None:
    bits, directory = quantized
    model = parastream.model.load(directory, dtype="float32")
    assert model.quantization == Quantization(bits, 64)
    assert model.parameters == speech.parameters
    for rows, found, expected in zip(
        features, model.network.transcribe(features), speech.network.transcribe(features), strict=True
    ):
        assert speech.tokenizer.decode(found.ids.tolist()) == speech.tokenizer.decode(expected.ids.tolist())
        np.testing.assert_allclose(found.confidences, expected.confidences, atol={8: 0.02, 4: 0.4}[bits])
        assert same(stream(model.network, rows), stream(speech.network, rows)) >= {8: 1, 4: 0.8}[bits]


@on_cpu
def test_products_from_quantised_weights_are_those_of_the_dequantised(
    quantized: tuple[int, Path], speech: SpeechModel, features: list[Float32]
) -> None:
    _, directory = quantized
    packed, dequantised = Paraformer(speech.config), Paraformer(speech.config)
    for model in (packed, dequantised):
        checkpoint.load_weights(model, ModelDirectory(directory))
    dequantised.pack()
    layer = packed.encoder.layers[1].feed_forward.w_1
    assert layer.weight.dtype == mx.uint32
    assert {array.dtype for array in parameters(dequantised).values()} == {mx.float32}
    rows = features[1][: len(features[1]) // 2]  # products from quantised weights are slow on a CPU
    for found, expected in (
        (packed.transcribe([rows])[0], dequantised.transcribe([rows])[0]),
        (stream(packed, rows), stream(dequantised, rows)),
    ):
        assert found.ids.tolist() == expected.ids.tolist()
        np.testing.assert_allclose(found.confidences, expected.confidences, atol=1e-3)


def test_the_error_of_a_weight_is_a_part_of_a_step() -> None:
    mx.random.seed(1)
    weight = mx.random.normal((96, 128))
    for bits in (4, 6, 8):
        quantization = Quantization(bits, 32)
        parts = quantization.quantize(weight)
        steps = np.repeat(np.abs(np.array(parts["scales"])), 32, axis=1)
        found = quantization.dequantize(parts["weight"], parts["scales"], parts["biases"])
        errors = np.abs(np.array(found - weight)) / steps
        assert errors.max() <= 1.01  # where a group's ends are cut off so that 0 is a step; else a half
        assert errors.mean() == pytest.approx(0.25, abs=0.02)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 3}, "bits is 3; allowed are 4, 6, 8"),
        ({"bits": "8"}, "bits is '8'; allowed are 4, 6, 8"),
        ({"group_size": 48}, "group_size is 48; allowed are 32, 64, 128"),
    ],
)
def test_settings_that_are_not_allowed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Quantization(**settings)


@pytest.mark.parametrize("section", [None, [], {"bits": 8}, {"bits": 8, "group_size": 64, "mode": "mxfp4"}])
def test_a_section_that_cannot_be_used(section: object) -> None:
    with pytest.raises(CheckpointError, match="must be an object with bits and group_size"):
        Quantization.of({"quantization": section})


def test_only_once(quantized: tuple[int, Path], tmp_path: Path) -> None:
    bits, directory = quantized
    with pytest.raises(CheckpointError, match=f"is quantised already \\({bits} bits in groups of 64\\)"):
        checkpoint.quantize(directory, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_converted_model_is_not_quantised_any_more(
    quantized: tuple[int, Path], unquantised: Path, tmp_path: Path
) -> None:
    bits, directory = quantized
    checkpoint.convert(directory, tmp_path / "whole", "float32")
    whole, before = (
        cast(dict[str, mx.array], mx.load(str(path / "model.safetensors")))
        for path in (tmp_path / "whole", unquantised)
    )
    assert {name: array.shape for name, array in whole.items()} == {name: a.shape for name, a in before.items()}
    assert {array.dtype for array in whole.values()} == {mx.float32}
    name = "encoder.layers.3.feed_forward.w_1.weight"
    largest = float(mx.abs(before[name]).max())
    np.testing.assert_allclose(np.array(whole[name]), np.array(before[name]), atol=2 * largest / 2**bits)
    assert parastream.model.load(tmp_path / "whole").quantization is None


def test_a_model_without_a_layer_in_whole_groups(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.yaml").write_text(
        "model: ParaformerStreaming\n"
        "encoder_conf: {output_size: 80, attention_heads: 4, linear_units: 80, num_blocks: 1}\n"
        "decoder_conf: {linear_units: 80, num_blocks: 1, att_layer_num: 1}\n"
        "predictor_conf: {idim: 80}\n"
    )
    (source / "tokens.json").write_text(json.dumps(["<blank>", "<s>", "</s>", "a"]))
    (source / "model.safetensors").write_bytes(bytes(1 << 20))  # nobody looks into it
    with pytest.raises(CheckpointError, match="no layer has inputs in groups of 64"):
        checkpoint.quantize(source, tmp_path / "new")


def test_a_destination_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(CheckpointError, match="exists already"):
        checkpoint.quantize(EMBEDDED, tmp_path)


def _drop_scales(weights: dict[str, mx.array], configuration: dict[str, Any]) -> None:
    del weights["decoder.output_layer.scales"]


def _unpack(weights: dict[str, mx.array], configuration: dict[str, Any]) -> None:
    name = "decoder.output_layer.weight"
    weights[name] = mx.zeros(weights[name].shape)


def _other_bits(weights: dict[str, mx.array], configuration: dict[str, Any]) -> None:
    configuration["quantization"]["bits"] = 4


def _say_nothing(weights: dict[str, mx.array], configuration: dict[str, Any]) -> None:
    del configuration["quantization"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_scales, "1 missing: decoder.output_layer.scales"),
        (_unpack, "1 not packed integers: decoder.output_layer.weight"),
        (_other_bits, r"of another shape: .*\(.*\) instead of \(.*\)"),
        (_say_nothing, "unexpected: .*scales"),
    ],
)
def test_only_a_full_fit_is_loaded(
    tmp_path: Path, spoil: Callable[[dict[str, mx.array], dict[str, Any]], None], message: str
) -> None:
    directory = Path(shutil.copytree(EMBEDDED, tmp_path / "model"))
    weights = dict(cast(dict[str, mx.array], mx.load(str(directory / "model.safetensors"))))
    mx.eval(weights)
    configuration = json.loads((directory / "configuration.json").read_text())
    spoil(weights, configuration)
    checkpoint.save(weights, directory)
    (directory / "configuration.json").write_text(json.dumps(configuration))
    with pytest.raises(CheckpointError, match=message):
        parastream.model.load(directory)


# --- precision ------------------------------------------------------------------------------------


@on_cpu
def test_a_cpu_computes_in_float32_only() -> None:
    with pytest.raises(ModelConfigError, match="float16 is for GPUs"):
        parastream.model.load(dtype="float16")
    with pytest.raises(ModelConfigError, match="float16 is for GPUs"):
        parastream.model.load(compute="mlx", dtype="float16")


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_hears_the_same(speech: SpeechModel, features: list[Float32], dtype: mx.Dtype) -> None:
    model = Paraformer(speech.config)
    checkpoint.load_weights(model, ModelDirectory(EMBEDDED), dtype)
    model.pack()
    for found, expected in zip(model.transcribe(features), speech.network.transcribe(features), strict=True):
        assert same(found, expected) > 0.9
        assert found.confidences.dtype == np.float32
        np.testing.assert_allclose(found.confidences, expected.confidences, atol=0.1)
    assert same(stream(model, features[0]), stream(speech.network, features[0])) > 0.9


@pytest.mark.parametrize("variant", ["base", "lbneg1", "lb0"])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_stays_half(dtype: mx.Dtype, variant: str) -> None:
    """No float32 window, mask or state turns what is behind it into float32."""
    exact = network("tiny_d2", recipe.VARIANTS[variant])
    model = Paraformer(exact._config)
    shapes = {name: array.shape for name, array in parameters(model).items()}
    mx.random.seed(2)
    model.load_weights(
        [
            (name, (0.1 * mx.random.normal(shape)).astype(mx.float32 if "predictor" in name else dtype))
            for name, shape in shapes.items()
        ]
    )
    model.pack()
    seen, wide = set[mx.Dtype](), set[int]()
    original = Dense._plain

    def watched(self: Dense, x: mx.array, added: mx.array | None = None) -> mx.array:
        y = original(self, x, added)
        seen.add(y.dtype)
        if x.dtype != dtype:
            wide.add(x.shape[-1])
        return y

    rng = np.random.default_rng(3)
    rows = [rng.standard_normal((count, 560)).astype(np.float32) for count in (30, 17)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dense, "_plain", watched)
        assert len(model.transcribe(rows)[0]) > 0
        states = [model.new_state() for _ in rows]
        for start in (0, 10, 20):
            pieces = [part[start : start + 10] for part in rows]
            model.step(pieces, states, [len(piece) < 10 for piece in pieces])
    assert seen == {dtype}
    assert wide == {model._config.encoder.input_size}  # features, as they come
    for state in states:
        assert state.slot.nbytes == model._pool.slot_bytes
        assert state.predictor.hidden.dtype == np.float32
