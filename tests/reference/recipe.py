"""The small models that parity is measured on: sizes, waveform, weights and streaming variants.

Everything follows from `SEED` by formula, so the repository stores no weights but the CIF head, whose values were
calibrated with FunASR. Used by the generator (beside FunASR and torch) and by the tests: NumPy only.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 1234
RATE = 16000
SECONDS = 6.0
SECOND = int(0.63 * SECONDS * RATE)
"""Samples of the second utterance in the padded batch."""
_HOP = 9600

ENGLISH = ["hel@@", "lo", "a", "b", "i'm", "wor@@", "ld", "c@@", "0@@", "7", "and", "x", "no"]


@dataclass(frozen=True)
class Size:
    """Sizes of a model."""

    width: int
    hidden: int
    heads: int
    encoder_blocks: int
    decoder_blocks: int
    attention_blocks: int
    """Decoder blocks with cross-attention; the others are FunASR's `decoders2`."""
    vocabulary: int


SIZES = {
    "tiny": Size(64, 128, 4, 2, 2, 2, 64),
    "tiny_d2": Size(64, 128, 4, 3, 4, 2, 64),
}


@dataclass(frozen=True)
class Variant:
    """One way to stream the waveform through a model."""

    samples: int = int(SECONDS * RATE)
    """Samples of the waveform that are fed."""
    call: int = _HOP
    """Samples in each call."""
    chunk: tuple[int, int, int] = (0, 10, 5)
    encoder_look_back: int = 4
    decoder_look_back: int = 1


SEACO_SIZE = "tiny"
"""The size in which there is a model with hotwords and a timestamp head."""
NO_BIAS = 40
"""Token by which the bias decoder says that it has heard no hotword."""
_NO_BIAS_LEAD = 15.0
"""Added to its bias, so that about half of the positions have none."""
UPSAMPLING = 3
HOTWORD_LISTS = {
    "few": [[20, 21], [33], [5, 9, 12]],
    # More than FunASR attends to at a time.
    "many": [[16 + (7 * i + 3 * k) % 47 for k in range(1 + i % 4)] for i in range(70)],
}
"""Ids of the hotwords of some lists, without the entry that ends each."""

VARIANTS = {
    # A whole number of hops: the last call makes a full window, then one of the overlap alone.
    "base": Variant(),
    # The frontend flushes the remainder into a last window.
    "tail5000": Variant(samples=6 * _HOP + 5000),
    # A remainder just long enough for FunASR to use it.
    "tail1000": Variant(samples=3 * _HOP + 1000),
    # A remainder that FunASR drops.
    "tail500": Variant(samples=3 * _HOP + 500),
    "lb0": Variant(encoder_look_back=0, decoder_look_back=0),
    "lbneg1": Variant(encoder_look_back=-1, decoder_look_back=-1),
    "c8": Variant(chunk=(0, 8, 4), call=8 * 960),
    "c5_10_5": Variant(chunk=(5, 10, 5), encoder_look_back=0, decoder_look_back=0),
    # As a file: all in one call.
    "onecall": Variant(samples=int(4.2 * _HOP), call=10**9),
    # Calls smaller than a hop are buffered.
    "call3200": Variant(samples=int(4.2 * _HOP), call=3200),
}


def config(size: Size, *, streaming: bool, model: str = "Paraformer") -> dict[str, Any]:
    """The model's config.yaml, parsed: a `ParaformerStreaming`, or a model for whole utterances of the same weights.

    `BiCifParaformer` has a timestamp head besides, `SeacoParaformer` has hotwords, too.
    """
    encoder: dict[str, Any] = {
        "output_size": size.width,
        "attention_heads": size.heads,
        "linear_units": size.hidden,
        "num_blocks": size.encoder_blocks,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "attention_dropout_rate": 0.1,
        "input_layer": "pe_online" if streaming else "pe",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "kernel_size": 11,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
    }
    if streaming:
        encoder |= {
            "chunk_size": [12, 15],
            "stride": [8, 10],
            "pad_left": [0, 0],
            "encoder_att_look_back_factor": [4, 4],
            "decoder_att_look_back_factor": [1, 1],
        }
    predictor: dict[str, Any] = {
        "idim": size.width,
        "threshold": 1.0,
        "l_order": 1,
        "r_order": 1,
        "tail_threshold": 0.45,
    }
    more: dict[str, Any] = {}
    if model != "Paraformer":
        predictor |= {
            "smooth_factor2": 0.25,
            "noise_threshold2": 0.01,
            "upsample_times": UPSAMPLING,
            "use_cif1_cnn": False,
            "upsample_type": "cnn_blstm",
        }
    if model == "SeacoParaformer":
        more = {
            "model_conf": {
                "predictor_bias": 1,
                "inner_dim": size.width,
                "bias_encoder_type": "lstm",
                "bias_encoder_bid": False,
                "NO_BIAS": NO_BIAS,
            },
            "seaco_decoder": "ParaformerSANMDecoder",
            "seaco_decoder_conf": {
                "attention_heads": size.heads,
                "linear_units": size.hidden // 2,
                "num_blocks": 4,
                "dropout_rate": 0.1,
                "positional_dropout_rate": 0.1,
                "self_attention_dropout_rate": 0.1,
                "src_attention_dropout_rate": 0.1,
                "kernel_size": 21,
                "sanm_shfit": 0,
                "use_output_layer": False,
                "wo_input_layer": True,
            },
        }
    return {
        "model": "ParaformerStreaming" if streaming else model,
        "encoder": "SANMEncoderChunkOpt" if streaming else "SANMEncoder",
        "encoder_conf": encoder,
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            "attention_heads": size.heads,
            "linear_units": size.hidden,
            "num_blocks": size.decoder_blocks,
            "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1,
            "self_attention_dropout_rate": 0.1,
            "src_attention_dropout_rate": 0.1,
            "att_layer_num": size.attention_blocks,
            "kernel_size": 11,
            "sanm_shfit": 5 if streaming else 0,
        },
        "predictor": "CifPredictorV2" if model == "Paraformer" else "CifPredictorV3",
        "predictor_conf": predictor,
        "frontend": "WavFrontendOnline" if streaming else "WavFrontend",
        "frontend_conf": {
            "fs": RATE,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": 7,
            "lfr_n": 6,
            # FunASR's default of 1.0 adds random noise.
            "dither": 0.0,
        },
        "input_size": 560,
        **more,
    }


def tokens(size: Size) -> list[str]:
    """The token list: special tokens, English pieces, Chinese characters."""
    head = ["<blank>", "<s>", "</s>", *ENGLISH]
    chinese = [chr(0x4E00 + i) for i in range(size.vocabulary - 1 - len(head))]
    return [*head, *chinese, "<unk>"]


def waveform(seconds: float = SECONDS) -> NDArray[np.float32]:
    """Voiced syllables with moving formants, bursts of hiss, pauses and a noise floor; 16 kHz."""
    noise = np.random.Generator(np.random.PCG64([SEED, 77]))
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    first = 500 + 250 * np.sin(2 * np.pi * 1.9 * time + 0.3)
    second = 1500 + 600 * np.sin(2 * np.pi * 1.3 * time)
    voice = np.zeros(len(time))
    for harmonic in range(1, 40):
        hertz = harmonic * pitch
        formants = np.exp(-(((hertz - first) / 180) ** 2)) + 0.6 * np.exp(-(((hertz - second) / 260) ** 2))
        voice += np.sin(harmonic * phase) / harmonic * (formants + 0.05)
    rhythm = np.sin(2 * np.pi * 2.1 * time)
    syllables = np.clip(rhythm + 0.25, 0, 1) * ((time % 2.9) < 2.3)
    hiss = 0.03 * noise.standard_normal(len(time)) * (rhythm < -0.6)
    wave = 0.35 * voice * syllables + hiss + 0.002 * noise.standard_normal(len(time))
    normalised: NDArray[np.float32] = (wave / np.abs(wave).max() * 0.6).astype(np.float32)
    return normalised


def write_cmvn(path: Path) -> None:
    """Writes plausible statistics as Kaldi nnet1 text (`am.mvn`)."""
    place = np.arange(560) % 80
    shift = -(9.0 + 4.5 * np.sin(np.pi * (place + 4) / 90.0))
    scale = 0.15 + 0.03 * np.cos(place / 13.0)
    path.write_text(
        "<Nnet> \n<Splice> 560 560\n[ 0 ]\n"
        f"<AddShift> 560 560 \n<LearnRateCoef> 0 [ {' '.join(f'{v:.6f}' for v in shift)} ]\n"
        f"<Rescale> 560 560\n<LearnRateCoef> 0 [ {' '.join(f'{v:.7f}' for v in scale)} ]\n"
        "</Nnet> \n",
        encoding="utf-8",
    )


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Random weights under FunASR's names, each a function of its name and shape alone."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())]))
    values = generator.standard_normal(shape).astype(np.float32)
    if "norm" in name.split(".")[-2]:
        values = 1.0 + 0.1 * values if name.endswith("weight") else 0.1 * values
    elif name.endswith("bias"):
        values = 0.05 * values
        if name.startswith("hotword_output_layer"):
            values[NO_BIAS] += _NO_BIAS_LEAD
    elif "fsmn_block" in name:
        values = 0.2 * values
    elif "cif_conv1d" in name:
        values = values / np.sqrt(shape[1] * shape[2])
    elif name.startswith("bias_encoder.weight"):
        values = 2.5 * values / np.sqrt(shape[-1])
    elif "embed" in name:
        pass
    elif "upsample_cnn" in name:
        values = values / np.sqrt(shape[0])
    elif "output_layer" in name:
        values = 3.0 * values / np.sqrt(shape[-1])
    else:
        values = values / np.sqrt(shape[-1])
    return values.astype(np.float32)
