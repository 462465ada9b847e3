"""Where MLX computes."""

from __future__ import annotations

import mlx.core as mx


def on_cpu() -> bool:
    """Whether that is a CPU, for which some things are computed in another way; else it is a GPU."""
    return bool(mx.default_device() == mx.Device(mx.cpu))
