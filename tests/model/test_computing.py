"""What computes a network, and in what type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from parastream.model import device
from parastream.model.computing import Compute, ComputeType, Computing, choose, with_mlx
from parastream.model.errors import ModelConfigError


@pytest.fixture(params=["cpu", "gpu"])
def on_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(device, "on_cpu", lambda: request.param == "cpu")
    return bool(request.param == "cpu")


@pytest.mark.parametrize(
    ("compute", "dtype", "by_cpu", "by_gpu"),
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
    compute: Any, dtype: Any, by_cpu: str, by_gpu: str, on_cpu: bool, cpu: Callable[[str, str], None]
) -> None:
    cpu("x86_64", "avx2 avx512_vnni")
    try:
        found = str(choose(compute, dtype, on_gpu="bfloat16", measured_in_bytes=True))
    except ModelConfigError as error:
        found = str(error)
    assert (by_cpu if on_cpu else by_gpu) in found


@pytest.mark.parametrize(
    ("machine", "flags", "measured", "default"),
    [
        ("x86_64", "avx2 avx512_vnni", False, "float32"),
        ("x86_64", "avx2 avx512_vnni", True, "int8"),
        ("x86_64", "avx2 avx512f", True, "float32"),
        ("aarch64", "", True, "int8"),
    ],
)
def test_bytes_are_the_default_only_where_they_are_known_to_do(
    machine: str, flags: str, measured: bool, default: ComputeType, cpu: Callable[[str, str], None]
) -> None:
    cpu(machine, flags)
    compute: Compute = "graphs"
    assert choose(compute, None, on_gpu="bfloat16", measured_in_bytes=measured) == Computing(compute, default)
    asked: ComputeType = "int8"
    assert choose(compute, asked, on_gpu="bfloat16", measured_in_bytes=measured) == Computing(compute, asked)


def test_types_of_mlx_have_their_names() -> None:
    assert with_mlx(mx.bfloat16) == Computing("mlx", "bfloat16")
