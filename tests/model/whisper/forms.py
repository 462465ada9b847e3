"""Small Whisper models with random weights, in the forms that they are published in."""

from __future__ import annotations

import functools
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.whisper import vocabulary

Arrays = dict[str, NDArray[Any]]

_OPENAI = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp1",
    "fc2": "mlp2",
}
_OPENAI_OUTSIDE = {
    "decoder.embed_tokens.weight": "decoder.token_embedding.weight",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
}


def config(**changes: Any) -> dict[str, Any]:
    """Hugging Face's config.json of a small multilingual model."""
    sizes = {
        "model_type": "whisper",
        "vocab_size": 51865,
        "num_mel_bins": 80,
        "d_model": 64,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 256,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 256,
        "max_source_positions": 1500,
        "max_target_positions": 448,
    }
    return sizes | changes


def dimensions(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The same as mlx-community's config.json."""
    return {
        "model_type": "whisper",
        "n_mels": sizes["num_mel_bins"],
        "n_audio_ctx": 1500,
        "n_audio_state": sizes["d_model"],
        "n_audio_head": sizes["encoder_attention_heads"],
        "n_audio_layer": sizes["encoder_layers"],
        "n_vocab": sizes["vocab_size"],
        "n_text_ctx": 448,
        "n_text_state": sizes["d_model"],
        "n_text_head": sizes["decoder_attention_heads"],
        "n_text_layer": sizes["decoder_layers"],
    }


def shapes(sizes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Hugging Face's name and shape of every weight."""
    size, hidden = sizes["d_model"], 4 * sizes["d_model"]
    found: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (size, sizes["num_mel_bins"], 3),
        "encoder.conv2.weight": (size, size, 3),
        "encoder.embed_positions.weight": (1500, size),
        "decoder.embed_tokens.weight": (sizes["vocab_size"], size),
        "decoder.embed_positions.weight": (448, size),
    }
    biases = {"encoder.conv1": size, "encoder.conv2": size}
    norms = ["encoder.layer_norm", "decoder.layer_norm"]
    for side in ("encoder", "decoder"):
        for i in range(sizes[f"{side}_layers"]):
            layer = f"{side}.layers.{i}"
            attentions = ["self_attn"] + ["encoder_attn"] * (side == "decoder")
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    found[f"{layer}.{attention}.{part}.weight"] = (size, size)
                    if part != "k_proj":
                        biases[f"{layer}.{attention}.{part}"] = size
            found[f"{layer}.fc1.weight"], biases[f"{layer}.fc1"] = (hidden, size), hidden
            found[f"{layer}.fc2.weight"], biases[f"{layer}.fc2"] = (size, hidden), size
            norms += [f"{layer}.{attention}_layer_norm" for attention in attentions] + [f"{layer}.final_layer_norm"]
    found |= {f"{name}.bias": (width,) for name, width in biases.items()}
    found |= {f"{norm}.{part}": (size,) for norm in norms for part in ("weight", "bias")}
    return {f"model.{name}": shape for name, shape in found.items()}


def weights(sizes: Mapping[str, Any]) -> Arrays:
    """Random weights in float16, each a function of its name and shape; the encoder's positions are Whisper's."""
    found = {}
    for name, shape in shapes(sizes).items():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
        if "norm" in name:
            values = float(name.endswith("weight")) + 0.1 * values
        elif len(shape) > 1:
            values = values / math.sqrt(math.prod(shape[1:]))
        else:
            values = 0.05 * values
        found[name] = values.astype(np.float16)
    size = sizes["d_model"]
    rates = 10000 ** (-np.arange(size // 2) / (size // 2 - 1))
    angles = np.arange(1500)[:, None] * rates
    found["model.encoder.embed_positions.weight"] = np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(
        np.float32
    )
    return found


def as_openai(arrays: Mapping[str, NDArray[Any]], *, positions: bool = False) -> Arrays:
    """The same under mlx_whisper's names and in its layouts."""
    found = {}
    for name, array in arrays.items():
        name = name.removeprefix("model.")
        for old, new in _OPENAI_OUTSIDE.items():
            name = name.replace(old, new) if name.startswith(old) else name
        if match := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
            name = f"{match[1]}.blocks.{match[2]}.{_OPENAI[match[3]]}.{match[4]}"
        if name == "encoder.positional_embedding" and not positions:
            continue
        found[name] = array.swapaxes(1, 2) if array.ndim == 3 else array
    return found


def quantized(arrays: Mapping[str, NDArray[Any]], bits: int) -> dict[str, mx.array]:
    """As mlx_whisper's conversion with `-q` does: linear layers and the table of tokens, in groups of 64."""
    found: dict[str, mx.array] = {}
    for name, array in arrays.items():
        value = mx.array(array)
        if value.ndim == 2 and name.endswith(".weight") and "positional" not in name:
            stem = name.removesuffix("weight")
            packed, scales, biases = mx.quantize(value, group_size=64, bits=bits)
            found |= {name: packed, f"{stem}scales": scales, f"{stem}biases": biases}
        else:
            found[name] = value
    return found


def write(
    directory: Path, description: Mapping[str, Any], arrays: Mapping[str, Any], file: str = "model.safetensors"
) -> Path:
    """Write a model directory, with a vocabulary unless it is the English one, which is known."""
    directory.mkdir(parents=True, exist_ok=True)
    size = description.get("vocab_size", description.get("n_vocab"))
    if size in (51865, 51866):
        (directory / "vocabulary.txt").write_bytes(_vocabulary(size))
    (directory / "config.json").write_text(json.dumps(description))
    if file.endswith(".npz"):
        np.savez(directory / file, **arrays)
    else:
        mx.save_safetensors(str(directory / file), {name: mx.array(value) for name, value in arrays.items()})
    return directory


@functools.cache
def _vocabulary(size: int) -> bytes:
    return vocabulary.written(tokens(size))


def tokens(size: int) -> list[bytes]:
    """The tokens of models with so many ids; for those of several languages, as many as they have."""
    english = vocabulary.read(Path("nowhere"), 51864)
    return english if size == 51864 else [*english, b""]


def noise(seconds: Sequence[float], seed: int = 0) -> list[NDArray[np.float32]]:
    """Utterances of hiss."""
    generator = np.random.default_rng(seed)
    return [0.1 * generator.standard_normal(int(16000 * length)).astype(np.float32) for length in seconds]
