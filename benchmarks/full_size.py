"""First figures at the size of the published models: 220 M parameters, random weights.

    ./run python benchmarks/full_size.py [--json FILE]

Prints the real-time factor of the full-context pass and the cost of a streaming window, with the fast BLAS and (on
Linux) with the one that MLX's wheel brings, side by side. Each form runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

SECONDS = 10.0
BATCHES = (1, 4, 16)


def measure(repeats: int, batches: list[int]) -> dict[str, Any]:
    """All figures of this process, in milliseconds unless their name says otherwise; medians."""
    import numpy as np
    from parastream.model import blas
    from parastream.model.config import DecoderConfig, EncoderConfig, FrontendConfig, ModelConfig, PredictorConfig
    from parastream.model.paraformer import Paraformer

    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    size: dict[str, Any] = {"size": 512, "attention_heads": 4, "linear_units": 2048}
    config = ModelConfig(
        "ParaformerStreaming",
        FrontendConfig(),
        EncoderConfig(num_blocks=50, **size),
        DecoderConfig(num_blocks=16, att_layer_num=16, kernel_size=11, shift=5, **size),
        PredictorConfig(size=512),
    )
    network = Paraformer(config)
    rng = np.random.default_rng(0)
    weights = {}
    parameters: list[tuple[str, mx.array]] = list(tree_flatten(network.parameters()))  # type: ignore[arg-type]
    for name, array in parameters:
        if "norm" in name:
            weights[name] = mx.full(array.shape, float(name.endswith("weight")))
        else:
            scale = 0.2 if "fsmn" in name else array.shape[-1] ** -0.5
            weights[name] = mx.array(scale * rng.standard_normal(array.shape, dtype=np.float32))
    # A neutral weight row makes every row of speech a quarter of a token: 4 tokens a second.
    weights["predictor.cif_output.weight"] = mx.zeros((1, 512))
    weights["predictor.cif_output.bias"] = mx.array([-1.1])
    network.update(tree_unflatten(list(weights.items())))
    mx.eval(network.parameters())

    rows = rng.standard_normal((round(SECONDS / 0.06), 560)).astype(np.float32)
    whole = median(lambda: network.transcribe([rows]), repeats)
    windows = {}
    for batch in batches:
        states = [network.new_state() for _ in range(batch)]
        fresh = [rows[:10]] * batch
        for _ in range(4):  # until the look-back is full
            network.step(fresh, states, [False] * batch)
        step = partial(network.step, fresh, states, [False] * batch)
        windows[str(batch)] = 1000 * median(step, repeats) / batch
    return {
        "blas": str(blas.info()),
        "parameters": sum(array.size for array in weights.values()),
        "offline_real_time_factor": whole / SECONDS,
        "ms_per_session_window": windows,
    }


def median(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of some runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def hardware() -> str:
    """The processor, as the operating system names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Full-size figures with random weights.")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--worker", choices=["fast", "slow"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        slow = options.worker == "slow"
        print(json.dumps(measure(1 if slow else 5, [1] if slow else list(BATCHES))))
        return
    results: dict[str, Any] = {"hardware": hardware()}
    forms: dict[str, dict[str, str]] = {
        "fast": {},
        **({"slow": {"PARASTREAM_BLAS": "none"}} if sys.platform == "linux" else {}),
    }
    for form, environment in forms.items():
        command = [sys.executable, __file__, "--worker", form]
        output = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
        results[form] = json.loads(output.stdout.splitlines()[-1])
    print(results["hardware"])
    for form in forms:
        figures = results[form]
        windows = ", ".join(f"{ms:.0f} ms at B = {b}" for b, ms in figures["ms_per_session_window"].items())
        print(f"{form}: {figures['blas']}")
        print(f"  full context, {SECONDS:.0f} s of audio: real-time factor {figures['offline_real_time_factor']:.3f}")
        print(f"  streaming window of 600 ms, for each session: {windows}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
