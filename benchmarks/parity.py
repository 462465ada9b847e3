"""How far each stage is from FunASR's numbers: the largest difference, for each way to run the reference models.

    ./run python -m benchmarks.parity

The tests hold the same numbers to their tolerances (tests/model/test_parity.py); this prints them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tests.reference import recipe
from tests.reference.driver import FOLDER, frontend, network, stream

import mlx.core as mx

STAGES = ("features", "encoded", "alpha", "embeddings", "logits")


def difference(found: ArrayLike, expected: ArrayLike) -> float:
    """Largest absolute difference."""
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).max())


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as directory:
        front = frontend(Path(directory))
    wave = recipe.waveform()
    table = np.load(FOLDER / "features.npz")
    print(f"{'model':8}{'variant':10}" + "".join(f"{stage:>12}" for stage in STAGES) + f"{'ids':>8}")
    for name in recipe.SIZES:
        model, expected = network(name, None), np.load(FOLDER / name / "offline.npz")
        rows = front(wave)
        lengths = np.array([len(rows)])
        encoded = model.encoder(mx.array(model.encoder.embed(rows))[None])
        fired = model.predictor(encoded, lengths)
        logits = np.array(model.decoder(fired.embeddings, fired.counts, encoded, lengths))
        found = (encoded, model.predictor.weigh(encoded), fired.embeddings, logits)
        errors = [difference(rows, table["rows"][table["whole_96000"]])]
        errors += [difference(np.array(a), expected[stage]) for a, stage in zip(found, STAGES[1:], strict=True)]
        show(name, "offline", errors, bool((logits.argmax(-1) == expected["logits"].argmax(-1)).all()))
        for variant, setting in recipe.VARIANTS.items():
            expected = np.load(FOLDER / name / f"stream_{variant}.npz")
            hop = setting.chunk[1] * front.row_samples
            trace = stream(network(name, setting), front, wave[: setting.samples], setting.call, hop)
            errors = [difference(np.concatenate(trace.features), table["rows"][table[f"stream_{variant}"]])]
            errors += [difference(np.concatenate(getattr(trace, stage)), expected[stage]) for stage in STAGES[1:]]
            show(name, variant, errors, [i for i in trace.ids if i > 2] == expected["ids"].tolist())


def show(name: str, variant: str, errors: list[float], equal: bool) -> None:
    """One line of the table."""
    print(f"{name:8}{variant:10}" + "".join(f"{e:12.1e}" for e in errors) + f"{'equal' if equal else 'DIFFER':>8}")


if __name__ == "__main__":
    main()
