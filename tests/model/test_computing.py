"""What computes a network, and in what type."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from parastream.model import computing, device
from parastream.model.computing import Compute, ComputeType, Computing, choose, with_mlx
from parastream.model.errors import ModelConfigError


@pytest.fixture(params=["cpu", "gpu"])
def on_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(device, "on_cpu", lambda: request.param == "cpu")
    return bool(request.param == "cpu")


@pytest.mark.parametrize(
    ("compute", "dtype", "cpu", "gpu"),
    [
        (None, None, "graphs in int8", "MLX in bfloat16"),
        (None, "float32", "graphs in float32", "MLX in float32"),
        (None, "int8", "graphs in int8", "int8 is for graphs on a CPU"),
        (None, "float16", "float16 is for GPUs", "MLX in float16"),
        ("mlx", None, "MLX in float32", "MLX in bfloat16"),
        ("mlx", "bfloat16", "bfloat16 is for GPUs", "MLX in bfloat16"),
        ("mlx", "int8", "int8 is for graphs on a CPU", "int8 is for graphs on a CPU"),
        ("graphs", None, "graphs in int8", "graphs in int8"),
        ("graphs", "bfloat16", "bfloat16 is for GPUs: graphs are computed on a CPU, in float32 or int8", "bfloat16"),
        ("metal", None, "compute is 'metal'; allowed are mlx, graphs", "metal"),
        (None, "int4", "dtype is 'int4'; allowed are float16, float32, bfloat16, int8", "int4"),
    ],
)
def test_what_is_chosen(
    compute: Any, dtype: Any, cpu: str, gpu: str, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "sums_bytes_exactly", lambda: True)
    try:
        found = str(choose(compute, dtype, on_gpu="bfloat16", measured_in_bytes=True))
    except ModelConfigError as error:
        found = str(error)
    assert (cpu if on_cpu else gpu) in found


@pytest.mark.parametrize(("measured", "exact"), [(False, True), (True, False)])
def test_bytes_are_the_default_only_where_they_are_known_to_do(
    measured: bool, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "sums_bytes_exactly", lambda: exact)
    compute: Compute = "graphs"
    assert choose(compute, None, on_gpu="bfloat16", measured_in_bytes=measured) == Computing(compute, "float32")
    asked: ComputeType = "int8"
    assert choose(compute, asked, on_gpu="bfloat16", measured_in_bytes=measured) == Computing(compute, asked)


def test_types_of_mlx_have_their_names() -> None:
    assert with_mlx(mx.bfloat16) == Computing("mlx", "bfloat16")
