"""Whisper directories of every published form, read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model.errors import CheckpointError, ModelConfigError
from parastream.model.lanes import finish
from parastream.model.quantization import Quantization
from parastream.model.whisper import checkpoint
from parastream.model.whisper.config import WhisperConfig
from parastream.model.whisper.files import is_whisper
from parastream.model.whisper.network import Whisper
from parastream.model.whisper.protocols import Encoded

from . import forms

PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "tiny": (
        {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 6},
        37_760_640,
    ),
    "base": (
        {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8},
        72_593_920,
    ),
    "small": (
        {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12},
        241_734_912,
    ),
    "medium": (
        {"d_model": 1024, "encoder_layers": 24, "decoder_layers": 24, "encoder_attention_heads": 16},
        763_857_920,
    ),
    "large-v3": (
        {
            "d_model": 1280,
            "encoder_layers": 32,
            "decoder_layers": 32,
            "encoder_attention_heads": 20,
            "num_mel_bins": 128,
            "vocab_size": 51866,
        },
        1_543_490_560,
    ),
    "large-v3-turbo": (
        {
            "d_model": 1280,
            "encoder_layers": 32,
            "decoder_layers": 4,
            "encoder_attention_heads": 20,
            "num_mel_bins": 128,
            "vocab_size": 51866,
        },
        808_878_080,
    ),
}
"""Sizes of published models, and how many weights each has."""


def sizes(name: str) -> dict[str, Any]:
    changes = PUBLISHED[name][0]
    heads, hidden = changes["encoder_attention_heads"], 4 * changes["d_model"]
    same = {"decoder_attention_heads": heads, "encoder_ffn_dim": hidden, "decoder_ffn_dim": hidden}
    return forms.config(**changes, **same)


def parameters(network: Whisper) -> dict[str, mx.array]:
    flat: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    return dict(flat)


def outputs(network: Whisper) -> NDArray[np.float32]:
    """Logits after two tokens, of a network that is packed."""
    mel = np.random.default_rng(1).standard_normal((100, network.config.mels)).astype(np.float32)
    *_, encoded = network.encoder.in_steps(mel)
    state = finish(network.decoder.begin([Encoded((encoded,), np.zeros(50, np.float32))]))
    hidden, _ = finish(network.decoder.step(np.array([[50258, 50259]], np.int32), state))
    return network.decoder.logits(hidden[0])


def loaded(directory: Path) -> Whisper:
    network = checkpoint.load_network(directory)
    network.pack()
    mx.eval(network.parameters())
    return network


@pytest.fixture(scope="module")
def arrays() -> forms.Arrays:
    return forms.weights(forms.config())


@pytest.fixture(scope="module")
def expected(arrays: forms.Arrays, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    """What the model says, in Hugging Face's form."""
    return outputs(loaded(forms.write(tmp_path_factory.mktemp("hf"), forms.config(), arrays)))


# --- forms ----------------------------------------------------------------------------------------


def npz(directory: Path, arrays: forms.Arrays) -> Path:
    return forms.write(directory, forms.dimensions(forms.config()), forms.as_openai(arrays), "weights.npz")


def safetensors(directory: Path, arrays: forms.Arrays) -> Path:
    described = forms.dimensions(forms.config())
    return forms.write(directory, described, forms.as_openai(arrays, positions=True), "weights.safetensors")


def with_a_copy_of_the_table(directory: Path, arrays: forms.Arrays) -> Path:
    copy = {"proj_out.weight": arrays["model.decoder.embed_tokens.weight"]}
    return forms.write(directory, forms.config(), arrays | copy)


def in_float32(directory: Path, arrays: forms.Arrays) -> Path:
    return forms.write(directory, forms.config(), {name: array.astype(np.float32) for name, array in arrays.items()})


@pytest.mark.parametrize("form", [npz, safetensors, with_a_copy_of_the_table, in_float32])
def test_every_form_of_a_model_says_the_same(
    form: Callable[[Path, forms.Arrays], Path], arrays: forms.Arrays, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    directory = form(tmp_path, arrays)
    assert is_whisper(directory)
    np.testing.assert_allclose(outputs(loaded(directory)), expected, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("extra", [{}, {"mode": "affine"}])
def test_a_quantised_model_of_mlx_community_is_computed_from_its_weights(
    bits: int, extra: dict[str, str], arrays: forms.Arrays, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    described = forms.dimensions(forms.config()) | {"quantization": {"group_size": 64, "bits": bits, **extra}}
    packed = forms.quantized(forms.as_openai(arrays), bits)
    found = outputs(loaded(forms.write(tmp_path, described, packed, "weights.safetensors")))
    spread = np.abs(found - expected).mean() / expected.std()
    assert 0 < spread < {4: 0.3, 6: 0.08, 8: 0.02}[bits]


def test_quantised_layers_stay_quantised_until_they_are_packed(arrays: forms.Arrays, tmp_path: Path) -> None:
    described = forms.dimensions(forms.config()) | {"quantization": {"group_size": 64, "bits": 6}}
    packed = forms.quantized(forms.as_openai(arrays), 6)
    network = checkpoint.load_network(forms.write(tmp_path, described, packed, "weights.safetensors"))
    weights = parameters(network)
    assert weights["decoder.embed_tokens.weight"].dtype == mx.uint32
    assert weights["encoder.layers.1.qkv.weight"].shape == (192, 12)
    assert weights["encoder.conv1.weight"].dtype == mx.float32


@pytest.mark.parametrize("bits", [6, 8])
def test_quantize_writes_what_loads_like_its_source(
    bits: int, arrays: forms.Arrays, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    for form in (npz, in_float32):
        source = form(tmp_path / form.__name__, arrays)
        checkpoint.quantize(source, tmp_path / f"small-{form.__name__}", Quantization(bits))
        found = outputs(loaded(tmp_path / f"small-{form.__name__}"))
        assert np.abs(found - expected).mean() / expected.std() < {6: 0.08, 8: 0.02}[bits]
    made = [(tmp_path / f"small-{form.__name__}" / "model.safetensors").read_bytes() for form in (npz, in_float32)]
    assert made[0] == made[1]
    assert (tmp_path / "small-npz" / "vocabulary.txt").is_file()
    silence = checkpoint.read_silence(tmp_path / "small-npz", WhisperConfig.from_dict(forms.config()))
    assert silence is not None
    encoded = loaded(tmp_path / "small-npz").encoder.encode_silence()
    np.testing.assert_allclose(silence, np.array(encoded), atol=2e-3)
    with pytest.raises(CheckpointError, match=f"is quantised already \\({bits} bits in groups of 64\\)"):
        checkpoint.quantize(tmp_path / "small-npz", tmp_path / "again", Quantization(bits))
    with pytest.raises(CheckpointError, match="exists already"):
        checkpoint.quantize(tmp_path / "npz", tmp_path / "npz", Quantization(bits))
    narrow = forms.config(d_model=48, encoder_ffn_dim=192, decoder_ffn_dim=192)
    source = forms.write(tmp_path / "narrow", narrow, forms.weights(narrow))
    with pytest.raises(CheckpointError, match="no layer has inputs in groups of 128"):
        checkpoint.quantize(source, tmp_path / "none", Quantization(bits, 128))


def test_alignment_heads_come_from_the_configuration_or_the_weights(arrays: forms.Arrays, tmp_path: Path) -> None:
    heads = {"alignment_heads": np.array([[0, 1], [1, 0]])}
    described = forms.dimensions(forms.config())
    network = loaded(forms.write(tmp_path / "mlx", described, forms.as_openai(arrays) | heads, "weights.npz"))
    assert network.config.aligned == ((0, 1), (1, 0))
    directory = forms.write(tmp_path / "hf", forms.config(), arrays)
    assert loaded(directory).config.aligned == ((1, 0), (1, 1))
    (directory / "generation_config.json").write_text(json.dumps({"alignment_heads": [[1, 1]]}))
    assert loaded(directory).config.aligned == ((1, 1),)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_exactly_its_weights(name: str) -> None:
    described, count = sizes(name), PUBLISHED[name][1]
    expected = forms.shapes(described)
    assert sum(int(np.prod(shape)) for shape in expected.values()) == count
    file = checkpoint._File(Path("model.safetensors"), dict.fromkeys(expected, mx.zeros(())))
    found = checkpoint._expected(file, WhisperConfig.from_dict(described), frozenset())
    assert {f"model.{name}": shape for name, shape in found.items()} == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_network_of_a_published_model_has_room_for_them(name: str) -> None:
    network = Whisper(WhisperConfig.from_dict(sizes(name)))
    layers = sum(
        PUBLISHED[name][0][f"{side}_layers"] * (2 if side == "decoder" else 1) for side in ("encoder", "decoder")
    )
    zero_biases = layers * PUBLISHED[name][0]["d_model"]  # of the keys, which files do not have
    assert sum(value.size for value in parameters(network).values()) == PUBLISHED[name][1] + zero_biases


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "base"])
def test_random_weights_of_full_size_load_and_run(name: str, tmp_path: Path) -> None:
    described = sizes(name)
    network = loaded(forms.write(tmp_path, described, forms.weights(described)))
    assert np.isfinite(outputs(network)).all()


# --- what is refused ------------------------------------------------------------------------------


def _lose(arrays: forms.Arrays) -> None:
    del arrays["model.decoder.layers.1.encoder_attn.v_proj.bias"]


def _add(arrays: forms.Arrays) -> None:
    arrays["model.decoder.layers.1.encoder_attn.k_proj.bias"] = np.zeros(64, np.float16)


def _reshape(arrays: forms.Arrays) -> None:
    arrays["model.encoder.conv2.weight"] = np.zeros((64, 3, 64), np.float16)


def _spoil(arrays: forms.Arrays) -> None:
    arrays["model.encoder.layers.0.fc1.weight"] = np.full((256, 64), np.nan, np.float16)


def _another_output(arrays: forms.Arrays) -> None:
    arrays["proj_out.weight"] = np.zeros((51865, 64), np.float16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lose, r"1 missing: model\.decoder\.layers\.1\.encoder_attn\.v_proj\.bias$"),
        (_add, r"1 unexpected: model\.decoder\.layers\.1\.encoder_attn\.k_proj\.bias$"),
        (_reshape, r"1 of another shape: model\.encoder\.conv2\.weight \(64, 3, 64\) instead of \(64, 64, 3\)$"),
        (_spoil, r"1 with NaN or infinity: model\.encoder\.layers\.0\.fc1\.weight$"),
        (_another_output, r"1 unexpected: proj_out\.weight$"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: Callable[[forms.Arrays], None], message: str, arrays: forms.Arrays, tmp_path: Path
) -> None:
    changed = dict(arrays)
    change(changed)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_network(forms.write(tmp_path, forms.config(), changed))


def test_errors_have_the_names_of_the_file(arrays: forms.Arrays, tmp_path: Path) -> None:
    changed = forms.as_openai(arrays)
    del changed["encoder.blocks.0.mlp_ln.weight"]
    changed["decoder.blocks.0.attn.key.bias"] = np.zeros(64, np.float16)
    with pytest.raises(CheckpointError, match=r"missing: encoder\.blocks\.0\.mlp_ln\.weight; 1 unexpected: decoder"):
        checkpoint.load_network(forms.write(tmp_path, forms.dimensions(forms.config()), changed, "weights.npz"))


def test_a_quantised_layer_must_have_all_its_parts(arrays: forms.Arrays, tmp_path: Path) -> None:
    described = forms.dimensions(forms.config())
    quantization = {"quantization": {"group_size": 64, "bits": 8}}
    packed = forms.quantized(forms.as_openai(arrays), 8)
    forms.write(tmp_path, described, packed, "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected: .*scales"):
        checkpoint.load_network(tmp_path)
    name = "decoder.blocks.0.cross_attn.value"
    floats = dict(packed) | {f"{name}.weight": packed[f"{name}.weight"].astype(mx.float32)}
    forms.write(tmp_path, described | quantization, floats, "weights.safetensors")
    with pytest.raises(CheckpointError, match=rf"1 not packed integers: {name}\.weight"):
        checkpoint.load_network(tmp_path)
    del packed[f"{name}.scales"]
    forms.write(tmp_path, described | quantization, packed, "weights.safetensors")
    with pytest.raises(CheckpointError, match=rf"1 missing: {name}\.scales"):
        checkpoint.load_network(tmp_path)


def test_the_silence_must_fit(tmp_path: Path) -> None:
    config = WhisperConfig.from_dict(forms.config())
    assert checkpoint.read_silence(tmp_path, config) is None
    (tmp_path / "silence.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"silence\.npy is damaged"):
        checkpoint.read_silence(tmp_path, config)
    for spoilt in (np.zeros((1500, 63)), np.full((1500, 64), np.nan)):
        np.save(tmp_path / "silence.npy", spoilt)
        with pytest.raises(CheckpointError, match=r"must hold finite numbers of shape \(1500, 64\)"):
            checkpoint.read_silence(tmp_path, config)


@pytest.mark.parametrize("file", ["model.safetensors", "weights.npz"])
def test_a_damaged_file_is_named(file: str, tmp_path: Path) -> None:
    forms.write(tmp_path, forms.config(), {})
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights: looked for weights"):
        checkpoint.load_network(tmp_path)
    (tmp_path / file).write_bytes(b"PK\x03\x04 nothing of the kind")
    with pytest.raises(CheckpointError, match=f"{file} is damaged"):
        checkpoint.load_network(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bart"}, "model_type is 'bart', not 'whisper'"),
        ({"d_model": "64"}, "d_model must be an integer, got '64'"),
        ({"d_model": 0}, "size must be positive, got 0"),
        ({"encoder_attention_heads": 3}, "size 64 is not a multiple of its 3 heads"),
        ({"encoder_ffn_dim": 100}, "encoder_ffn_dim is 100; only 256 is supported"),
        ({"max_source_positions": 3000}, "max_source_positions is 3000; only 1500 is supported"),
        ({"alignment_heads": [[5, 0]]}, "alignment_heads names head 0 of layer 5; there are 2 in each of 2 layers"),
        ({"alignment_heads": [1]}, r"alignment_heads must be a list of \[layer, head\], got \[1\]"),
    ],
)
def test_a_configuration_that_cannot_be_used(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    forms.write(tmp_path, forms.config(**changes), {})
    with pytest.raises(ModelConfigError, match=f"config.json: {message}"):
        WhisperConfig.from_directory(tmp_path)


def test_a_size_that_is_missing(tmp_path: Path) -> None:
    described = forms.config()
    del described["num_mel_bins"]
    forms.write(tmp_path, described, {})
    with pytest.raises(ModelConfigError, match="has neither num_mel_bins nor n_mels"):
        WhisperConfig.from_directory(tmp_path)


@pytest.mark.parametrize(("content", "message"), [("{", "not a JSON file"), ("[]", "must hold an object, not list")])
def test_a_damaged_configuration(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelConfigError, match=message):
        WhisperConfig.from_directory(tmp_path)
