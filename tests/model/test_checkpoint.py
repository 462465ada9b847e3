"""Weights of a model directory: FunASR's names and layouts become ours; only a full fit is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model import checkpoint, random_weights
from parastream.model.config import ModelConfig
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError, ModelConfigError
from parastream.model.paraformer import Paraformer

EMBEDDED = Path(str(files("parastream.model"))) / "assets" / "asr-small-en"
SHAPES = Path(__file__).parents[1] / "data" / "checkpoint_shapes.txt"


class Predictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cif_conv1d = nn.Conv1d(4, 2, 3)
        self.cif_output = nn.Linear(2, 1)


class Network(nn.Module):
    """The predictor's part of a Paraformer, small."""

    def __init__(self) -> None:
        super().__init__()
        self.predictor = Predictor()


def weights(**changes: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """FunASR's weights for `Network`, with some replaced, added or (None) taken away."""
    rng = np.random.default_rng(1)
    shapes = {
        "cif_conv1d.weight": (2, 4, 3),
        "cif_conv1d.bias": (2,),
        "cif_output.weight": (1, 2),
        "cif_output.bias": (1,),
    }
    arrays: dict[str, NDArray[Any] | None] = {
        name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()
    }
    arrays |= {name.replace("__", "."): value for name, value in changes.items()}
    return {f"predictor.{name}": value for name, value in arrays.items() if value is not None}


def write(directory: Path, weights: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> Path:
    """Writes a model directory; without metadata the names in its weights are FunASR's."""
    directory.mkdir(exist_ok=True)
    arrays = {name: mx.array(array) for name, array in weights.items()}
    mx.save_safetensors(str(directory / "model.safetensors"), arrays, metadata)
    for name in ("config.yaml", "am.mvn", "tokens.json"):
        (directory / name).write_text(f"content: of {name}")
    return directory


def parameters(network: nn.Module) -> dict[str, mx.array]:
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(network.parameters())))


def published(*sections: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of published checkpoints, from the compact list."""
    section = ""
    for line in SHAPES.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line[1:].partition(":")[0]
        elif not line.startswith("#") and section in sections:
            name, _, sizes = line.partition(" ")
            shape = tuple(int(size) for size in sizes.split("x"))
            if match := re.search(r"\{0\.\.(\d+)\}", name):
                for number in range(int(match[1]) + 1):
                    yield name.replace(match[0], str(number)), shape
            else:
                yield name, shape


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("encoder.encoders0.0.norm1.bias", "encoder.layers.0.norm1.bias"),
        ("encoder.encoders.0.feed_forward.w_1.bias", "encoder.layers.1.feed_forward.w_1.bias"),
        ("encoder.encoders.48.norm2.weight", "encoder.layers.49.norm2.weight"),
        ("encoder.after_norm.weight", "encoder.after_norm.weight"),
        ("decoder.decoders.15.norm3.bias", "decoder.layers.15.norm3.bias"),
        ("decoder.decoders2.3.norm1.bias", "decoder.fsmn_layers.3.norm1.bias"),
        ("decoder.decoders3.0.norm1.bias", "decoder.last.norm1.bias"),
        ("decoder.output_layer.bias", "decoder.output_layer.bias"),
        ("bias_encoder.weight_hh_l1", "seaco.encoder.weight_hh_l1"),
        ("seaco_decoder.decoders.5.norm3.bias", "seaco.decoder.layers.5.norm3.bias"),
        ("seaco_decoder.decoders3.0.norm1.bias", "seaco.decoder.last.norm1.bias"),
        ("seaco_decoder.after_norm.bias", "seaco.decoder.after_norm.bias"),
        ("hotword_output_layer.bias", "seaco.output_layer.bias"),
        ("something.else", "something.else"),
    ],
)
def test_names(theirs: str, ours: str) -> None:
    value = np.arange(3.0)
    assert checkpoint.sanitize({theirs: value}) == {ours: value}


@pytest.mark.parametrize("name", ["encoder.encoders.0.self_attn.fsmn_block.weight", "predictor.cif_conv1d.weight"])
def test_layout_of_convolutions(name: str) -> None:
    value = np.arange(24).reshape(2, 3, 4)
    (converted,) = checkpoint.sanitize({name: value}).values()
    assert converted.shape == (2, 4, 3)
    assert converted[1, 2, 0] == value[1, 0, 2]


def test_layout_of_transposed_convolutions() -> None:
    value = np.arange(24).reshape(2, 3, 4)
    (converted,) = checkpoint.sanitize({"predictor.upsample_cnn.weight": value}).values()
    assert converted.shape == (3, 4, 2)
    assert converted[2, 3, 1] == value[1, 2, 3]


def test_the_embedding_is_used_to_read_hotwords() -> None:
    value = np.arange(6).reshape(2, 3)
    assert checkpoint.sanitize({"decoder.embed.0.weight": value}, ["embedding"]) == {"seaco.embed": value}


@pytest.mark.parametrize(
    "name", ["decoder.embed.0.weight", "ctc.ctc_lo.weight", "criterion_att.w", "x.bn.num_batches_tracked"]
)
def test_training_weights_are_dropped(name: str) -> None:
    assert checkpoint.sanitize({name: np.zeros(1)}) == {}


def test_two_weights_for_one_place() -> None:
    both = {"encoder.layers.0.norm1.bias": np.zeros(1), "encoder.encoders0.0.norm1.bias": np.zeros(1)}
    with pytest.raises(CheckpointError, match="there twice"):
        checkpoint.sanitize(both)


@pytest.mark.parametrize(
    ("model", "sections", "total"),
    [
        ("Paraformer", ["paraformer"], 956),
        ("BiCifParaformer", ["paraformer", "bicif"], 968),
        ("SeacoParaformer", ["paraformer", "bicif", "seaco"], 1095),
    ],
)
def test_published_checkpoints_fit(model: str, sections: list[str], total: int) -> None:
    """Every name and shape of the published models finds its place in the network of that size."""
    shapes = dict(published(*sections))
    assert len(shapes) == total
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    ours = checkpoint.sanitize(arrays, ["embedding"] if model == "SeacoParaformer" else [])
    config = random_weights.SEACO_SIZES | {"model": model}
    if model == "Paraformer":
        config["predictor"] = "CifPredictorV2"
    network = Paraformer(ModelConfig.from_dict(config, vocab_size=8404))
    assert {name: array.shape for name, array in ours.items()} == {
        name: array.shape for name, array in parameters(network).items()
    }


def test_loads_what_funasr_calls_so(tmp_path: Path) -> None:
    network = Network()
    theirs = weights()
    checkpoint.load_weights(network, ModelDirectory(write(tmp_path, theirs)))
    x = np.random.default_rng(2).normal(size=(1, 3, 4)).astype("f4")
    expected = np.einsum("ki,oik->o", x[0], theirs["predictor.cif_conv1d.weight"])
    expected += theirs["predictor.cif_conv1d.bias"]
    np.testing.assert_allclose(np.array(network.predictor.cif_conv1d(mx.array(x)))[0, 0], expected, rtol=1e-5)
    assert all(array.dtype == mx.float32 for array in parameters(network).values())


def test_the_embedded_model_loads() -> None:
    network = Paraformer(ModelConfig.from_directory(ModelDirectory(EMBEDDED)))
    checkpoint.load_weights(network, ModelDirectory(EMBEDDED), mx.bfloat16)
    loaded = parameters(network)
    kinds = {name: array.dtype for name, array in loaded.items()}
    assert {kinds[name] for name in kinds if name.startswith("predictor.")} == {mx.float32}
    assert {kinds[name] for name in kinds if not name.startswith("predictor.")} == {mx.bfloat16, mx.uint32}
    assert sum(kind == mx.uint32 for kind in kinds.values()) > 50, "linear layers stay in 8 bits until they are packed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cif_output__bias": None}, "1 missing: predictor.cif_output.bias"),
        ({"extra": np.zeros(1, "f4")}, "1 unexpected: predictor.extra"),
        (
            {"cif_conv1d__weight": np.zeros((2, 4, 5), "f4")},
            "1 of another shape: predictor.cif_conv1d.weight (2, 5, 4) instead of (2, 3, 4)",
        ),
        ({"cif_conv1d__weight": np.zeros(2, "f4")}, "predictor.cif_conv1d.weight (2,) instead of (2, 3, 4)"),
        (
            {"cif_output__bias": np.array([np.nan], "f4")},
            "1 with NaN or infinity: predictor.cif_output.bias",
        ),
        (
            {"cif_output__bias": None, "cif_conv1d__bias": None, "a": np.zeros(1, "f4")},
            "2 missing: predictor.cif_conv1d.bias, predictor.cif_output.bias; 1 unexpected: predictor.a",
        ),
        (
            {f"x{i:02}": np.zeros(1, "f4") for i in range(12)},
            "12 unexpected: " + ", ".join(f"predictor.x{i:02}" for i in range(10)) + " and 2 more",
        ),
    ],
)
def test_only_a_full_fit_is_loaded(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    network = Network()
    before = {name: np.array(array) for name, array in parameters(network).items()}
    directory = write(tmp_path, weights(**changes))
    with pytest.raises(CheckpointError, match=r"does not fit the network of its config\.yaml") as caught:
        checkpoint.load_weights(network, ModelDirectory(directory))
    assert message in str(caught.value)
    for name, array in parameters(network).items():
        np.testing.assert_array_equal(np.array(array), before[name])


def test_the_file_that_the_configuration_names(tmp_path: Path) -> None:
    directory = write(tmp_path, weights())
    configuration = directory / "configuration.json"

    def name(init_param: object) -> None:
        configuration.write_text(json.dumps({"file_path_metas": {"init_param": init_param}}))

    (directory / "model.safetensors").rename(directory / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"has no weights: looked for model\.safetensors, model\.pt"):
        checkpoint.read_weights(ModelDirectory(directory))
    name("best.safetensors")
    assert len(checkpoint.read_weights(ModelDirectory(directory))) == 4
    name("lost.pt")
    with pytest.raises(CheckpointError, match=r"init_param is 'lost\.pt', but there is no such file"):
        checkpoint.read_weights(ModelDirectory(directory))
    for bad in ("../secret.pt", "/etc/passwd", 3):
        name(bad)
        with pytest.raises(CheckpointError, match="not the name of a file beside it"):
            checkpoint.read_weights(ModelDirectory(directory))
    for text in ("{", "[]", '{"file_path_metas": 3}', "\xff"):
        configuration.write_bytes(text.encode("latin-1"))
        with pytest.raises(CheckpointError, match=r"configuration\.json"):
            checkpoint.read_weights(ModelDirectory(directory))


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, weights()) / "model.safetensors"
    whole = path.read_bytes()
    for length in range(0, len(whole), 9):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged"):
            checkpoint.read_weights(ModelDirectory(tmp_path))
    rng = np.random.default_rng(3)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(400)] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            checkpoint.load_weights(Network(), ModelDirectory(tmp_path))
        except CheckpointError:
            continue


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_a_converted_model_loads_like_its_source(
    tmp_path: Path, dtype: Literal["float16", "float32", "bfloat16"]
) -> None:
    source = write(tmp_path / "source", weights())
    (source / "seg_dict").write_text("words")
    (source / "configuration.json").write_text(
        '{"task": "asr", "file_path_metas": {"init_param": "model.safetensors", "config": "config.yaml"}}'
    )
    converted = tmp_path / "deep" / "converted"
    checkpoint.convert(source, converted, dtype)
    assert sorted(path.name for path in converted.iterdir()) == [
        "am.mvn",
        "config.yaml",
        "configuration.json",
        "model.safetensors",
        "seg_dict",
        "tokens.json",
    ]
    assert [path.name for path in converted.parent.iterdir()] == ["converted"]
    assert json.loads((converted / "configuration.json").read_text()) == {
        "task": "asr",
        "file_path_metas": {"init_param": "model.safetensors", "config": "config.yaml"},
    }
    for name in ("config.yaml", "am.mvn", "tokens.json", "seg_dict"):
        assert (converted / name).read_bytes() == (source / name).read_bytes()
    stored = cast(dict[str, mx.array], mx.load(str(converted / "model.safetensors")))
    assert {array.dtype for array in stored.values()} == {getattr(mx, dtype)}
    loaded, expected = Network(), Network()
    checkpoint.load_weights(loaded, ModelDirectory(converted))
    checkpoint.load_weights(expected, ModelDirectory(source))
    for name, array in parameters(expected).items():
        rounded = array.astype(getattr(mx, dtype)).astype(mx.float32)
        np.testing.assert_array_equal(np.array(parameters(loaded)[name]), np.array(rounded))


def test_convert_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    source = write(tmp_path / "source", weights())
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").touch()
    for destination in (taken, taken / "thesis.tex"):
        with pytest.raises(CheckpointError, match="exists already"):
            checkpoint.convert(source, destination)
    with pytest.raises(CheckpointError, match=r"below cannot be written: .*File exists"):
        checkpoint.convert(source, taken / "thesis.tex" / "below")
    with pytest.raises(CheckpointError, match="has no weights"):
        checkpoint.convert(tmp_path / "nowhere", tmp_path / "new")
    large = write(tmp_path / "large", weights(cif_output__bias=np.array([1e5], "f4")))
    with pytest.raises(CheckpointError, match=r"to float16: 1 with values out of range: predictor\.cif_output\.bias"):
        checkpoint.convert(large, tmp_path / "new")
    (source / "am.mvn").unlink()
    with pytest.raises(ModelConfigError, match=r"am\.mvn: a model needs this file: No such file"):
        checkpoint.convert(source, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "source", "taken"]


def test_convert_into_an_empty_directory(tmp_path: Path) -> None:
    destination = tmp_path / "empty"
    destination.mkdir()
    checkpoint.convert(write(tmp_path / "source", weights()), destination)
    assert json.loads((destination / "configuration.json").read_text()) == {
        "file_path_metas": {"init_param": "model.safetensors"}
    }
    assert len(checkpoint.read_weights(ModelDirectory(destination))) == 4
