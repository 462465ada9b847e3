"""What fast computing asks of the process. It happens when the process's owner asks for it, never at an import."""

from __future__ import annotations

import os
import sys
import warnings

from parastream.model import allocator, blas

_prepared = False
_warned = False


def prepare_process(cpus: int | None = None) -> blas.BlasInfo:
    """Set this process up for computing with MLX on a CPU; call it once, before the first model is loaded.

    Programs call it at their start. It changes the whole process, which a library must not do by itself. Without it a
    model computes the same, but about 20 times slower on Linux. Later calls do nothing.

    On Linux it

    - puts a fast BLAS in front of MLX, whose own is a slow one, by loading it with global symbols (see `blas`);
    - keeps every BLAS of the process to one thread, NumPy's too, since MLX's work is spread over the CPUs already
      (see `lanes`) and threads that spin would only disturb it. `OPENBLAS_NUM_THREADS` and the like win over this;
    - has glibc's malloc keep up to 512 MB of freed memory instead of returning it to the kernel (see `allocator`).

    Everywhere it sets the environment variables `MLX_BFS_MAX_WIDTH` and `MLX_USE_CUDA_GRAPHS`, unless they are set.

    Args:
        cpus: How many CPUs to compute on, where other processes compute, too; None: on all.

    Returns:
        The BLAS that MLX uses now. A warning in the log says so if it is a slow one.
    """
    global _prepared
    if cpus is not None:
        blas.share_cpus(cpus)
    if not _prepared:
        allocator.keep_freed_memory()
        # MLX orders a graph by breadth, and so takes operations of all lanes in turn, only up to this many at a time.
        # It reads the variable when it computes for the first time.
        os.environ.setdefault("MLX_BFS_MAX_WIDTH", "400")
        # MLX keeps hundreds of graphs in the memory of a GPU, and batches are no faster for them (docs/benchmarks.md).
        os.environ.setdefault("MLX_USE_CUDA_GRAPHS", "0")
        _prepared = True
    return blas.preload()


def warn_if_slow() -> None:
    """Warn, once, if the owner of the process has forgotten `prepare_process` and MLX will be slow on this CPU."""
    global _warned
    if _prepared or _warned:
        return
    from parastream.model.device import on_cpu

    info = blas.info()
    if on_cpu() and not info.fast:
        _warned = True
        warnings.warn(
            f"computing will be about 20 times slower than it could be: MLX uses its {info.name}."
            " Call parastream.model.prepare_process() at the start of the program, before anything imports MLX",
            RuntimeWarning,
            stacklevel=3,
        )


def free_kept_memory() -> None:
    """Have MLX give back what it keeps for the next batches."""
    if "mlx.core" in sys.modules:
        import mlx.core as mx

        mx.clear_cache()


def leave_thread() -> None:
    """End MLX's streams of the calling thread, which must not use a model any more.

    Otherwise they end after the thread has, and if the process exits at that moment, MLX aborts it.
    """
    if "mlx.core" in sys.modules:
        import mlx.core as mx  # waits, where another thread is just importing it

        mx.clear_streams()
