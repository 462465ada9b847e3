"""Print how far each stage is from FunASR's numbers: the largest difference, for each way to run the reference models.

    ./run python -m benchmarks.parity [DIR]

The tests hold the same numbers to their tolerances (tests/model/test_parity.py); this script prints them. Given a
directory with the 130 recordings of AN4's test set (`DIR/*.flac`), it also counts those in which the embedded model
gives exactly the tokens that FunASR gives with the same weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import parastream.model
import soundfile
from numpy.typing import NDArray

from tests.reference import recipe
from tests.reference.driver import (
    FOLDER,
    Stages,
    frontend,
    network,
    padded_batch,
    recognise,
    reference_features,
    stream,
    whole,
)

STAGES = ("features", "encoded", "alpha", "embeddings", "logits")
GOLDEN = FOLDER.parent / "data" / "golden_an4.json"


def main() -> None:
    """Print the table, and the counts if a directory is given."""
    parser = argparse.ArgumentParser(description="Largest differences from FunASR, stage by stage.")
    parser.add_argument("recordings", type=Path, nargs="?", help="directory of AN4's test recordings")
    options = parser.parse_args()
    print_table()
    if options.recordings:
        count_recordings(options.recordings)


def print_table() -> None:
    """Print one line for each way to run each model."""
    with tempfile.TemporaryDirectory() as directory:
        front = frontend(Path(directory))
    wave = recipe.waveform()
    print(f"{'model':8}{'variant':10}" + "".join(f"{stage:>12}" for stage in STAGES) + f"{'ids':>8}")
    for name in recipe.SIZES:
        model, rows, second = network(name, None), front(wave), front(wave[: recipe.SECOND])
        found, expected = whole(model, [rows]), reference(name, "offline")
        found["features"], expected["features"] = rows, reference_features(f"whole_{len(wave)}")
        show(name, "offline", found, expected, same_best(found["logits"], expected["logits"]))
        found, expected = padded_batch(model, [rows, second], reference(name, "batch"))
        found["features"] = np.concatenate([rows, second])
        expected["features"] = np.concatenate([reference_features(f"whole_{n}") for n in (len(wave), recipe.SECOND)])
        show(name, "batch", found, expected, same_best(found["logits"], expected["logits"]))
        for variant, setting in recipe.VARIANTS.items():
            found, expected = stream(network(name, setting), setting, front, wave), reference(name, f"stream_{variant}")
            expected["features"] = reference_features(f"stream_{variant}")
            show(name, variant, found, expected, found["ids"].tolist() == expected["ids"].tolist())


def reference(name: str, file: str) -> Stages:
    """Load what FunASR's stages gave."""
    return dict(np.load(FOLDER / name / f"{file}.npz"))


def same_best(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Tell whether the best tokens are the same."""
    return bool((logits.argmax(-1) == expected.argmax(-1)).all())


def show(name: str, variant: str, found: Stages, expected: Stages, equal: bool) -> None:
    """Print one line of the table."""
    errors = [float(np.abs(found[stage].astype(np.float64) - expected[stage]).max()) for stage in STAGES]
    print(f"{name:8}{variant:10}" + "".join(f"{e:12.1e}" for e in errors) + f"{'equal' if equal else 'DIFFER':>8}")


def count_recordings(directory: Path) -> None:
    """Count the recordings whose tokens are all equal, in both forms, and print the counts."""
    speech = parastream.model.load()
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    full_context = streaming = 0
    for entry in golden:
        samples, _ = soundfile.read(directory / Path(entry["file"]).name, dtype="float32")
        ids, calls = recognise(speech, samples)
        full_context += ids == entry["full_context"]["ids"]
        streaming += calls == entry["streaming"]["ids_per_call"]
    print(f"recordings with equal tokens: full context {full_context}, streaming {streaming}, of {len(golden)}")


if __name__ == "__main__":
    main()
