"""Model directories with random weights in the published models' sizes, 220 M parameters and more, for measuring speed.

The weights have FunASR's names and layouts, so that other programs can be measured on the same ones. They recognise
nothing, but cause all the work: every row of features is a quarter of a token, about four tokens a second of speech.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import yaml
from numpy.typing import NDArray
from parastream.model.config import SEACO
from parastream.model.directory import CMVN, CONFIG, SAFETENSORS, TOKENS

NAME = "random-full"
"""Name of the streaming model in benchmarks."""

SIZES: dict[str, Any] = {
    "model": "ParaformerStreaming",
    "model_conf": {
        "ctc_weight": 0.0,
        "lsm_weight": 0.1,
        "length_normalized_loss": True,
        "predictor_weight": 1.0,
        "predictor_bias": 1,
        "sampling_ratio": 0.75,
    },
    "encoder": "SANMEncoderChunkOpt",
    "encoder_conf": {
        "output_size": 512,
        "attention_heads": 4,
        "linear_units": 2048,
        "num_blocks": 50,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "attention_dropout_rate": 0.1,
        "input_layer": "pe_online",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "kernel_size": 11,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
        "chunk_size": [12, 15],
        "stride": [8, 10],
        "pad_left": [0, 0],
        "encoder_att_look_back_factor": [4, 4],
        "decoder_att_look_back_factor": [1, 1],
    },
    "decoder": "ParaformerSANMDecoder",
    "decoder_conf": {
        "attention_heads": 4,
        "linear_units": 2048,
        "num_blocks": 16,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "self_attention_dropout_rate": 0.1,
        "src_attention_dropout_rate": 0.1,
        "att_layer_num": 16,
        "kernel_size": 11,
        "sanm_shfit": 5,
    },
    "predictor": "CifPredictorV2",
    "predictor_conf": {"idim": 512, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
    "frontend": "WavFrontendOnline",
    "frontend_conf": {
        "fs": 16000,
        "window": "hamming",
        "n_mels": 80,
        "frame_length": 25,
        "frame_shift": 10,
        "lfr_m": 7,
        "lfr_n": 6,
        "dither": 0.0,  # FunASR's default adds random noise
    },
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    "input_size": 560,
}
"""config.yaml of `paraformer-zh-streaming`, as far as inference needs it."""

_WHOLE = (
    *("output_size", "attention_heads", "linear_units", "num_blocks", "kernel_size", "sanm_shfit"),
    *("pos_enc_class", "normalize_before", "selfattention_layer_type"),
)
"""Settings that an encoder for whole utterances has, too."""

SEACO_SIZES: dict[str, Any] = {
    **SIZES,
    "model": SEACO,
    "model_conf": {
        **SIZES["model_conf"],
        "inner_dim": 512,
        "bias_encoder_type": "lstm",
        "bias_encoder_bid": False,
        "NO_BIAS": 8377,
    },
    "encoder": "SANMEncoder",
    "encoder_conf": {key: SIZES["encoder_conf"][key] for key in _WHOLE} | {"input_layer": "pe"},
    "decoder_conf": {**SIZES["decoder_conf"], "sanm_shfit": 0},
    "seaco_decoder": "ParaformerSANMDecoder",
    "seaco_decoder_conf": {
        "attention_heads": 4,
        "linear_units": 1024,
        "num_blocks": 4,  # of which nobody takes notice: there are six
        "kernel_size": 21,
        "sanm_shfit": 0,
        "use_output_layer": False,
        "wo_input_layer": True,
    },
    "predictor": "CifPredictorV3",
    "predictor_conf": {
        **SIZES["predictor_conf"],
        "smooth_factor2": 0.25,
        "noise_threshold2": 0.01,
        "upsample_times": 3,
        "use_cif1_cnn": False,
        "upsample_type": "cnn_blstm",
    },
    "frontend": "WavFrontend",
}
"""The same of the model with hotwords and timestamps."""

NAMED = {NAME: SIZES, "random-full-seaco": SEACO_SIZES}
"""What benchmarks call them."""

VOCABULARY = 8404
_ROW = 560  # features in a row


def shapes(sizes: Mapping[str, Any] = SIZES) -> dict[str, tuple[int, ...]]:
    """FunASR's name and shape of each weight that inference uses."""
    encoder, decoder = sizes["encoder_conf"], sizes["decoder_conf"]
    size, hidden, kernel = encoder["output_size"], encoder["linear_units"], encoder["kernel_size"]
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        found[f"{name}.weight"] = (outputs, inputs)
        if bias:
            found[f"{name}.bias"] = (outputs,)

    def norm(name: str, width: int = size) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    for block in range(encoder["num_blocks"]):
        layer, inputs = (f"encoder.encoders.{block - 1}", size) if block else ("encoder.encoders0.0", _ROW)
        linear(f"{layer}.self_attn.linear_q_k_v", inputs, 3 * size)
        linear(f"{layer}.self_attn.linear_out", size, size)
        found[f"{layer}.self_attn.fsmn_block.weight"] = (size, 1, kernel)
        linear(f"{layer}.feed_forward.w_1", size, hidden)
        linear(f"{layer}.feed_forward.w_2", hidden, size)
        norm(f"{layer}.norm1", inputs)
        norm(f"{layer}.norm2")
    norm("encoder.after_norm")

    def decode(name: str, layers: int, conf: Mapping[str, Any]) -> None:
        blocks = [f"{name}.decoders.{block}" for block in range(layers)]
        for layer in [*blocks, f"{name}.decoders3.0"]:
            linear(f"{layer}.feed_forward.w_1", size, conf["linear_units"])
            linear(f"{layer}.feed_forward.w_2", conf["linear_units"], size, bias=False)
            norm(f"{layer}.feed_forward.norm", conf["linear_units"])
            norm(f"{layer}.norm1")
        for layer in blocks:
            found[f"{layer}.self_attn.fsmn_block.weight"] = (size, 1, conf["kernel_size"])
            linear(f"{layer}.src_attn.linear_q", size, size)
            linear(f"{layer}.src_attn.linear_k_v", size, 2 * size)
            linear(f"{layer}.src_attn.linear_out", size, size)
            norm(f"{layer}.norm2")
            norm(f"{layer}.norm3")
        norm(f"{name}.after_norm")

    def lstm(name: str, *endings: str) -> None:
        for ending in endings:
            for part in ("ih", "hh"):
                found[f"{name}.weight_{part}_{ending}"] = (4 * size, size)
                found[f"{name}.bias_{part}_{ending}"] = (4 * size,)

    decode("decoder", decoder["num_blocks"], decoder)
    linear("decoder.output_layer", size, VOCABULARY)
    found["predictor.cif_conv1d.weight"] = (size, size, 3)
    found["predictor.cif_conv1d.bias"] = (size,)
    linear("predictor.cif_output", size, 1)
    if sizes["model"] == SEACO:
        found["predictor.upsample_cnn.weight"] = (size, size, sizes["predictor_conf"]["upsample_times"])
        found["predictor.upsample_cnn.bias"] = (size,)
        lstm("predictor.blstm", "l0", "l0_reverse")
        linear("predictor.cif_output2", 2 * size, 1)
        found["decoder.embed.0.weight"] = (VOCABULARY, size)
        lstm("bias_encoder", "l0", "l1")
        decode("seaco_decoder", 6, sizes["seaco_decoder_conf"])
        linear("hotword_output_layer", size, VOCABULARY)
    return found


def weights(seed: int = 0, sizes: Mapping[str, Any] = SIZES) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield names and values of the weights; each depends on the seed, its name and its shape alone."""
    for name, shape in shapes(sizes).items():
        yield name, _weight(name, shape, seed)


def _weight(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    if name == "predictor.cif_output.weight":
        return np.zeros(shape, np.float32)
    if name == "predictor.cif_output.bias":
        return np.full(shape, math.log(0.25 / 0.75), np.float32)
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, np.float32)
    if "norm" in name.split(".")[-2]:
        return np.float32(name.endswith("weight")) + np.float32(0.1) * values
    if name.endswith("bias"):
        return np.float32(0.05) * values
    if "fsmn_block" in name:
        return np.float32(0.2) * values
    return values / np.float32(math.sqrt(math.prod(shape[1:])))


def tokens() -> list[str]:
    """Make a token list of the published models' length: Chinese characters between the special tokens."""
    head = ["<blank>", "<s>", "</s>"]
    return [*head, *(chr(0x4E00 + place) for place in range(VOCABULARY - len(head) - 1)), "<unk>"]


def save(directory: Path, seed: int = 0, sizes: Mapping[str, Any] = SIZES) -> None:
    """Write `config.yaml`, `am.mvn`, `tokens.json` and `model.safetensors`, 880 MB or 990, for `load` and for FunASR.

    Raises:
        OSError: The directory, which is made if need be, cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(yaml.safe_dump(dict(sizes), sort_keys=False), encoding="utf-8")
    (directory / TOKENS).write_text(json.dumps(tokens(), ensure_ascii=False), encoding="utf-8")
    # About the mean and spread of log mel energies of speech.
    (directory / CMVN).write_text(
        f"<Nnet> \n<Splice> {_ROW} {_ROW}\n[ 0 ]\n"
        f"<AddShift> {_ROW} {_ROW} \n<LearnRateCoef> 0 [ {' '.join(['-12.0'] * _ROW)} ]\n"
        f"<Rescale> {_ROW} {_ROW} \n<LearnRateCoef> 0 [ {' '.join(['0.2'] * _ROW)} ]\n"
        "</Nnet> \n",
        encoding="utf-8",
    )
    arrays = {name: mx.array(value) for name, value in weights(seed, sizes)}
    mx.save_safetensors(str(directory / SAFETENSORS), arrays, {"format": "pt"})
