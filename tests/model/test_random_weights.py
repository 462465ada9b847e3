"""The random models of full size: names, shapes and token rate. Fast tests make the values of small weights only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from parastream.model import load_final_pass, random_weights
from parastream.model.computing import Compute
from parastream.model.final_pass import FinalInput
from parastream.model.hotwords import Hotword
from parastream.model.lanes import finish

PUBLISHED = Path(__file__).parents[1] / "data" / "checkpoint_shapes.txt"


def published(*, seaco: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published model, without what only training uses."""
    found = {}
    text = PUBLISHED.read_text(encoding="utf-8")
    for line in (text if seaco else text.split("[bicif")[0]).splitlines():
        if line and not line.startswith(("#", "[")):
            name, sizes = line.split()
            count = re.search(r"\{0\.\.(\d+)\}", name)
            for number in range(int(count[1]) + 1 if count else 1):
                found[re.sub(r"\{.*\}", str(number), name)] = tuple(int(size) for size in sizes.split("x"))
    if not seaco:
        del found["decoder.embed.0.weight"]
    return found


def test_it_has_the_weights_of_the_published_models() -> None:
    assert random_weights.shapes() == published()
    assert random_weights.shapes(random_weights.SEACO_SIZES) == published(seaco=True)


@pytest.mark.slow
@pytest.mark.parametrize("compute", ["mlx", "graphs"])
def test_the_full_size_with_hotwords_loads_and_runs(tmp_path: Path, compute: Compute) -> None:
    random_weights.save(tmp_path, sizes=random_weights.SEACO_SIZES)
    ear = load_final_pass(tmp_path, compute=compute)
    samples = np.random.default_rng(1).normal(0, 0.1, 48000).astype(np.float32)
    hotwords = tuple(Hotword(chr(0x4E00 + place) * (1 + place % 4)) for place in range(120))
    utterances = [FinalInput(samples, hotwords=hotwords), FinalInput(samples[:32000])]
    for found, utterance in zip(finish(ear.transcribe_in_slices(utterances, steps=8)), utterances, strict=True):
        assert len(found.words) >= 3 * utterance.seconds, "about four tokens a second"
        assert found.words[-1].end <= utterance.seconds


def test_a_weight_depends_on_its_name_and_the_seed_only() -> None:
    made = random_weights.weights()
    first = [next(made) for _ in range(2)]
    again = random_weights.weights()
    for (name, values), (other_name, other) in zip(first, (next(again) for _ in range(2)), strict=True):
        assert name == other_name
        assert values.shape == random_weights.shapes()[name]
        np.testing.assert_array_equal(values, other)
    assert not np.array_equal(first[0][1], next(random_weights.weights(seed=1))[1])


def test_a_token_list_of_the_published_length() -> None:
    tokens = random_weights.tokens()
    assert len(set(tokens)) == len(tokens) == 8404
    assert tokens[:3] == ["<blank>", "<s>", "</s>"]
    assert tokens[-1] == "<unk>"
