"""The random model of full size: names, shapes and token rate. Its values are made for the small weights only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from parastream.model import random_weights

PUBLISHED = Path(__file__).parents[1] / "data" / "checkpoint_shapes.txt"


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published model, without what only training uses."""
    found = {}
    for line in PUBLISHED.read_text(encoding="utf-8").split("[bicif")[0].splitlines():
        if line.startswith(("encoder.", "decoder.", "predictor.")):
            name, sizes = line.split()
            count = re.search(r"\{0\.\.(\d+)\}", name)
            for number in range(int(count[1]) + 1 if count else 1):
                found[re.sub(r"\{.*\}", str(number), name)] = tuple(int(size) for size in sizes.split("x"))
    del found["decoder.embed.0.weight"]
    return found


def test_it_has_the_weights_of_the_published_models() -> None:
    assert random_weights.shapes() == published()


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
