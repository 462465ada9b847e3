"""How a network is computed: with MLX or as graphs, and in what type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from parastream.model.config import Precision
from parastream.model.errors import ModelConfigError
from parastream.model.processor import sums_bytes_exactly

Compute = Literal["mlx", "graphs"]
"""What computes: MLX, on a GPU or a CPU, or onnxruntime on CPUs (see `parastream.model.graphs`)."""
ComputeType = Literal["float16", "float32", "bfloat16", "int8"]
"""Types to compute in; int8 is that of the linear layers' products."""

_BY_GRAPHS = ("float32", "int8")
INT8_KEY = "int8"
"""Key of `configuration.json` under which a model's card says how much its results differ in 8 bits."""


@dataclass(frozen=True, slots=True)
class Computing:
    """How a network is computed."""

    compute: Compute
    dtype: ComputeType

    def __str__(self) -> str:
        return f"{'MLX' if self.compute == 'mlx' else 'graphs'} in {self.dtype}"


def with_mlx(dtype: object) -> Computing:
    """Describe a network that MLX computes in one of its types."""
    return Computing("mlx", cast(ComputeType, str(dtype).rpartition(".")[2]))


def choose(
    compute: Compute | None, dtype: ComputeType | None, *, on_gpu: Precision, measured_in_bytes: bool = False
) -> Computing:
    """Decide how to compute a network of which both forms exist.

    Args:
        compute: What was asked for; None: graphs on a CPU, MLX on a GPU.
        dtype: What was asked for. None: `on_gpu` on a GPU; for graphs int8 where that is known to be as good as float32
            and fast, else float32.
        on_gpu: Type in which a GPU computes it by default.
        measured_in_bytes: Whether the model's card says how much its results differ in 8 bits.

    Raises:
        ModelConfigError: There is no such way, or not for this device.
    """
    from parastream.model.device import on_cpu

    if compute is None:
        compute = "graphs" if on_cpu() else "mlx"
    if compute not in get_args(Compute):
        raise ModelConfigError(f"compute is {compute!r}; allowed are {', '.join(get_args(Compute))}")
    if compute == "mlx":
        return Computing(compute, in_mlx(dtype, on_gpu=on_gpu))
    if dtype is None:
        return Computing(compute, "int8" if measured_in_bytes and sums_bytes_exactly() else "float32")
    _check(dtype)
    if dtype not in _BY_GRAPHS:
        raise ModelConfigError(
            f"{dtype} is for GPUs: graphs are computed on a CPU, in {' or '.join(_BY_GRAPHS)}, which is several times"
            " faster there, also with weights stored in another type"
        )
    return Computing(compute, dtype)


def in_mlx(dtype: ComputeType | None, *, on_gpu: Precision) -> Precision:
    """Return the type in which MLX computes: the one asked for, else float32 on a CPU and `on_gpu` on a GPU.

    Raises:
        ModelConfigError: There is no such type, or it is not for this device.
    """
    from parastream.model.device import on_cpu

    if dtype is None:
        return "float32" if on_cpu() else on_gpu
    _check(dtype)
    if dtype == "int8":
        raise ModelConfigError(f"{dtype} is for graphs on a CPU; MLX computes in {', '.join(get_args(Precision))}")
    if on_cpu() and dtype != "float32":
        raise ModelConfigError(
            f"{dtype} is for GPUs: a CPU computes in float32, which is several times faster there, also with weights"
            " stored in another type"
        )
    return dtype


def _check(dtype: str) -> None:
    if dtype not in get_args(ComputeType):
        raise ModelConfigError(f"dtype is {dtype!r}; allowed are {', '.join(get_args(ComputeType))}")
