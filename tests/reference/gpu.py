"""MLX computing as it does on a GPU, on whatever device there is: other operations, the same results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from parastream.model import decoder, dense, encoder, lanes, layers, paraformer


@contextmanager
def as_on_gpu(*, compiles: bool = False) -> Iterator[None]:
    """For networks that are made within it: products without tiles, one lane, and sizes of few kinds.

    `compiles`: whether layers are compiled, too, for which MLX calls a C++ compiler on a CPU.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (dense, encoder, lanes, layers, paraformer):
            patch.setattr(module, "on_cpu", lambda: False)
        patch.setattr(layers, "on_cuda", lambda: True)
        patch.setattr(dense, "tiles_are_faster", lambda: False)
        if not compiles:
            patch.setattr(dense, "_fused_sum", dense.sum_up)
            for module in (encoder, decoder):
                patch.setattr(module, "compiled", lambda function: function)
        yield
