"""Where MLX computes."""

from __future__ import annotations

import mlx.core as mx


def on_cpu() -> bool:
    """Say whether MLX computes on a CPU, where some things are computed in another way; else it is a GPU."""
    return bool(mx.default_device() == mx.Device(mx.cpu))


def on_cuda() -> bool:
    """Say whether that is an NVIDIA GPU."""
    return not on_cpu() and not mx.metal.is_available()
