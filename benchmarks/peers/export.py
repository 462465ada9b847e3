"""Convert a directory of random weights into the forms that the peers load. Runs in their environment.

    python export.py DIR [onnx]

`model.pt` replaces `model.safetensors`. With `onnx`, the script also adds FunASR's own ONNX export of it, float32 and
int8, with what sherpa-onnx expects: metadata in the encoder, and `tokens.txt`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

os.environ["MODELSCOPE_OFFLINE"] = "1"

import torch
from safetensors.torch import load_file


def for_torch(directory: Path) -> None:
    """Write what FunASR loads."""
    weights = directory / "model.safetensors"
    torch.save(load_file(weights), directory / "model.pt")
    weights.unlink()


def for_onnx(directory: Path) -> None:
    """Write what sherpa-onnx loads, from what FunASR loads."""
    import onnx
    from funasr import AutoModel

    model = AutoModel(model=str(directory), device="cpu", ncpu=os.cpu_count(), disable_update=True)
    # The exporter that FunASR's export was written for, and that the published ONNX files come from.
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    model.export(type="onnx", quantize=True)
    shift, scale = model.kwargs["frontend"].cmvn.tolist()
    encoder, decoder, frontend = (model.kwargs[f"{part}_conf"] for part in ("encoder", "decoder", "frontend"))
    vocabulary = json.loads((directory / "tokens.json").read_text(encoding="utf-8"))
    metadata = {
        "model_type": "paraformer",
        "vocab_size": len(vocabulary),
        "lfr_window_size": frontend["lfr_m"],
        "lfr_window_shift": frontend["lfr_n"],
        "encoder_output_size": encoder["output_size"],
        "decoder_num_blocks": decoder["num_blocks"],
        "decoder_kernel_size": decoder["kernel_size"],
        "neg_mean": ",".join(map(str, shift)),
        "inv_stddev": ",".join(map(str, scale)),
    }
    for suffix in ("", "_quant"):
        graph = onnx.load(directory / f"model{suffix}.onnx")
        onnx.helper.set_model_props(graph, {name: str(value) for name, value in metadata.items()})
        onnx.save(graph, directory / f"encoder{suffix}.onnx")
        (directory / f"model{suffix}.onnx").unlink()
    lines = [f"{token} {number}" for number, token in enumerate(vocabulary)]
    (directory / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for_torch(Path(sys.argv[1]))
    if "onnx" in sys.argv[2:]:
        for_onnx(Path(sys.argv[1]))
