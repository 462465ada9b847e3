"""A graph in onnxruntime, ready to run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import ModelConfigError
from parastream.model.graphs.builder import GraphBuilder
from parastream.model.onnx import import_onnxruntime
from parastream.model.processor import sums_bytes_exactly

Value = Any
"""onnxruntime's `OrtValue`: a tensor that goes from one run to the next without being copied."""


class Program:
    """Runs a graph, on the calling thread and on that alone. Any number of threads may run it at the same time."""

    def __init__(self, graph: GraphBuilder) -> None:
        """Have onnxruntime take over the graph's weights, which it copies.

        Raises:
            ModelConfigError: This onnxruntime cannot compute the graph.
        """
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # work is spread by `workers`
        options.log_severity_level = 3
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_mem_pattern = False
        if not sums_bytes_exactly():
            # Bytes are then multiplied with other instructions: slower, but without saturation.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(graph.written(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ModelConfigError(
                f"onnxruntime {onnxruntime.__version__} cannot compute the network: {error}"
            ) from error
        # Its own class would keep them for another attempt with other providers: the weights a second time.
        self._session._model_bytes = None
        self._outputs = graph.output_names

    def __call__(self, inputs: Mapping[str, NDArray[Any] | Value]) -> list[Value]:
        """Run the graph.

        Args:
            inputs: Arrays, contiguous and of the right types, or values of earlier runs. They are not copied.

        Returns:
            The outputs, in order; `array_of` shows one as an array.
        """
        given = {name: value_of(value) if isinstance(value, np.ndarray) else value for name, value in inputs.items()}
        outputs: list[Value] = self._session.run_with_ort_values(self._outputs, given)
        return outputs


@cache
def _share_arena() -> None:
    """Have all programs of the process take memory from one arena.

    Each would keep one as large as its largest run otherwise. Without any, buffers come from malloc, which has to get
    them from the kernel again wherever small blocks of others lie between: products then wait for page faults.
    """
    onnxruntime = import_onnxruntime()
    kinds = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    with contextlib.suppress(RuntimeError):  # there is one already, by another thread or program
        onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", *kinds), None)


def value_of(array: NDArray[Any]) -> Value:
    """Show an array to onnxruntime without copying it; it must live and stay where it is as long as the value."""
    return import_onnxruntime().OrtValue.ortvalue_from_numpy(array)


def array_of(value: Value) -> NDArray[Any]:
    """Show a value as an array, without copying it."""
    array: NDArray[Any] = value.numpy()
    return array
