"""What a GPU is given: operations and waits of a streaming step and of a full-context pass, by the number of sessions.

It needs no GPU: operations are counted in the graphs that MLX would hand to one. The model has as many layers as the
published ones, but narrow ones, since that makes no difference here.

    ./run python -m benchmarks.operations --sessions 1,16,64,256
"""

from __future__ import annotations

import argparse
import copy
import io
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from parastream.model import prepare_process

prepare_process()

import mlx.core as mx  # noqa: E402
from parastream.model import SpeechModel, decoder, dense, device, encoder, load, paraformer, random_weights  # noqa: E402, F401

_evaluate = mx.eval

_ROWS = 83
"""Rows of an utterance of five seconds."""
_WINDOWS = 6
"""Windows before the one that counts: the look-back is full then."""


_VIEWS = {"AsStrided", "Broadcast", "ExpandDims", "Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose"} | {
    "Unflatten",
    "View",
}
"""They show what is there in another way, and cost a GPU nothing."""


@dataclass
class Count:
    """What was counted."""

    kinds: Counter[str] = field(default_factory=Counter)
    """How many operations, by name."""
    waits: int = 0
    """How often Python waited for a result."""

    @property
    def operations(self) -> int:
        """How many, without views."""
        return sum(count for kind, count in self.kinds.items() if kind not in _VIEWS)


def as_on_gpu() -> None:
    """Have what is imported compute as on a GPU, which has one operation for some that are several on a CPU."""
    for name in ("layer_norm", "scaled_dot_product_attention"):
        setattr(mx.fast, name, _as_one(name, getattr(mx.fast, name)))
    for name, module in list(sys.modules.items()):
        if name.startswith("parastream.model") and hasattr(module, "on_cpu") and module is not device:
            vars(module)["on_cpu"] = lambda: False
            vars(module)["on_cuda"] = lambda: True
    vars(dense)["tiles_are_faster"] = lambda: False
    vars(dense)["_fused_sum"] = _as_one("sum", dense.sum_up)
    for module in (decoder, encoder):
        vars(module)["compiled"] = lambda function: function


_counts: list[Count] = []
"""Where operations are counted now: the last."""


def _as_one(name: str, function: Callable[..., mx.array]) -> Callable[..., mx.array]:
    def one(*args: Any, **kwargs: Any) -> mx.array:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, mx.array)]
        if _counts:
            _counts[-1].kinds += _operations(given) + Counter([name])
        _evaluate(given)
        result = function(*args, **kwargs)
        _evaluate(result)
        return result

    return one


@contextmanager
def counted() -> Iterator[Count]:
    """Count what is evaluated until the context is left."""
    count, pending = Count(), False
    hand_over, to_array = mx.async_eval, np.array
    _counts.append(count)

    def note(arrays: Any) -> None:
        nonlocal pending
        found = _operations(arrays)
        count.kinds += found
        pending |= bool(found)

    def wait() -> None:
        nonlocal pending
        count.waits += pending
        pending = False

    def async_eval(*arrays: Any) -> None:
        note(arrays)
        hand_over(*arrays)

    def eval_(*arrays: Any) -> None:
        note(arrays)
        wait()
        _evaluate(*arrays)

    def array(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, mx.array):
            note([value])
            wait()
        return to_array(value, *args, **kwargs)

    patched: list[tuple[Any, str, Callable[..., Any]]] = [
        (mx, "async_eval", async_eval),
        (mx, "eval", eval_),
        (np, "array", array),
    ]
    for owner, name, function in patched:
        setattr(owner, name, function)
    try:
        yield count
    finally:
        for (owner, name, _), original in zip(patched, (hand_over, _evaluate, to_array), strict=True):
            setattr(owner, name, original)
        _counts.clear()


def _operations(tree: Any) -> Counter[str]:
    arrays = list(_arrays(tree))
    if not arrays:
        return Counter()
    described = io.StringIO()
    mx.export_to_dot(described, *arrays)
    return Counter(re.findall(r'label ="(\w+)", shape=rectangle', described.getvalue()))


def _arrays(tree: Any) -> Iterator[mx.array]:
    match tree:
        case mx.array():
            yield tree
        case dict():
            yield from _arrays(list(tree.values()))
        case list() | tuple():
            for each in tree:
                yield from _arrays(each)


def step(speech: SpeechModel, sessions: int) -> Count:
    """Count a window of so many sessions whose look-back is full."""
    network, hop = speech.network, speech.config.chunk.hop
    rows = np.random.default_rng(0).standard_normal((100 + hop * _WINDOWS, speech.frontend.config.row_size))
    states = [network.new_state() for _ in range(sessions)]
    for turn in range(_WINDOWS):
        features = [rows[place % 90 :][turn * hop :][:hop].astype(np.float32) for place in range(sessions)]
        with counted() as count:
            network.step(features, states, [False] * sessions)
    return count


def final(speech: SpeechModel, utterances: int) -> Count:
    """Count a pass over so many utterances of five seconds."""
    rows = np.random.default_rng(0).standard_normal((_ROWS, speech.frontend.config.row_size)).astype(np.float32)
    speech.network.transcribe([rows] * utterances)  # what is made once is made now
    with counted() as count:
        speech.network.transcribe([rows] * utterances)
    return count


def _narrow(sizes: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes of a model whose layers are an eighth as wide."""
    narrow = copy.deepcopy(sizes)
    for part, name in (("encoder", "output_size"), ("encoder", "linear_units"), ("decoder", "linear_units")):
        narrow[f"{part}_conf"][name] //= 8
    narrow["predictor_conf"]["idim"] //= 8
    return narrow


def main() -> None:
    """Count, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", default="1,16,64,256", help="numbers of sessions")
    arguments = parser.parse_args()
    as_on_gpu()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / random_weights.NAME
        random_weights.save(directory, sizes=_narrow(random_weights.SIZES))
        speech = load(str(directory), compute="mlx")
    print("| sessions | step: operations | waits | pass: operations | waits |\n|---|---|---|---|---|")
    for sessions in map(int, arguments.sessions.split(",")):
        streamed, whole = step(speech, sessions), final(speech, sessions)
        cells = [sessions, streamed.operations, streamed.waits, whole.operations, whole.waits]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
