"""Putting a network's graph together: operators, weights, and linear layers in float32 or in 8 bits.

In 8 bits a linear layer multiplies integers. Its weights are signed bytes with a scale for each output. Each row of
its input becomes unsigned bytes with a scale of its own, found anew in each run. Sums of integers are exact, so a row's
result does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from parastream.model.graphs.onnx_format import Attribute, Dimension, Node, ValueInfo, write_model

Arithmetic = Literal["float32", "int8"]
"""In what linear layers multiply."""

CONTRIB = "com.microsoft"
"""Domain of the operators that only onnxruntime has."""
_OPSETS = {"": 21, CONTRIB: 1}

_LARGEST = 127
"""Of a signed byte; -128 is not used, so that no sign has more room than the other."""
_ZERO = 128
"""The unsigned byte that stands for 0 where a row has values of both signs."""
_SMALLEST_SCALE = 1e-20
"""Of a row: for rows of zeros."""
_SHARED = 64
"""Constants with at most so many values are written once, however often they are used."""
_GELU_MINIMUM = 0.17
"""GELU's least value is -0.16997."""


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight (outputs, inputs) in signed bytes: about values.T * scales."""

    values: NDArray[np.int8]
    """(inputs, outputs), as onnxruntime multiplies with them."""
    scales: NDArray[np.float32]
    """(outputs,)."""

    @classmethod
    def of(cls, weight: NDArray[np.float32]) -> QuantizedWeight:
        """Quantise a weight (outputs, inputs), each output by its largest value."""
        scales = np.maximum(np.abs(weight).max(axis=1) / np.float32(_LARGEST), np.float32(_SMALLEST_SCALE))
        values = np.rint(weight / scales[:, None]).astype(np.int8)
        return cls(np.ascontiguousarray(values.T), scales)


class GraphBuilder:
    """A graph in the making. Values have names, which the methods return; an empty one leaves out an optional input."""

    def __init__(self, arithmetic: Arithmetic = "float32") -> None:
        """Make an empty graph; `arithmetic` is that of its linear layers."""
        self.arithmetic: Arithmetic = arithmetic
        self._nodes: list[Node] = []
        self._weights: dict[str, NDArray[Any]] = {}
        self._shared: dict[tuple[bytes, tuple[int, ...], str], str] = {}
        self._inputs: list[ValueInfo] = []
        self._outputs: list[ValueInfo] = []

    def input(self, name: str, shape: Sequence[Dimension], dtype: DTypeLike = np.float32) -> str:
        """Add an input. A dimension is a size, or a name where it may differ from run to run."""
        self._inputs.append(ValueInfo(name, dtype, shape))
        return name

    def output(self, value: str, dtype: DTypeLike = np.float32) -> None:
        """Have each run return a value, behind those that were named before."""
        self._outputs.append(ValueInfo(value, dtype))

    def constant(self, value: object, dtype: DTypeLike = np.float32) -> str:
        """Add a constant of any shape; it must not change before the graph is written."""
        array = np.asarray(value, dtype)
        key = (array.tobytes(), array.shape, array.dtype.str) if array.size <= _SHARED else None
        if key in self._shared:
            return self._shared[key]
        name = f"w{len(self._weights)}"
        self._weights[name] = array
        if key is not None:
            self._shared[key] = name
        return name

    def integers(self, *values: int) -> str:
        """Add a constant (n,) of 64-bit integers: a shape, places, or axes."""
        return self.constant(values, np.int64)

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Add an operator and return its output."""
        (output,) = self.node_with_outputs(1, operator, *inputs, domain=domain, **attributes)
        return output

    def node_with_outputs(
        self, count: int, operator: str, *inputs: str, domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """Add an operator and return its outputs, `count` in number."""
        outputs = [f"v{len(self._nodes)}_{number}" for number in range(count)]
        self._nodes.append(Node(operator, inputs, outputs, domain, attributes))
        return outputs

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Cut x into parts of these sizes along an axis."""
        return self.node_with_outputs(len(sizes), "Split", x, self.integers(*sizes), axis=axis)

    def slice(self, x: str, start: int, stop: int, axis: int, step: int = 1) -> str:
        """Take every `step`-th of the places from `start` to `stop` of an axis."""
        return self.node("Slice", x, *(self.integers(value) for value in (start, stop, axis, step)))

    def reshape(self, x: str, *shape: int) -> str:
        """Give x another shape: 0 keeps the size of an axis, -1 is what is left."""
        return self.node("Reshape", x, self.integers(*shape))

    def layer_norm(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], epsilon: float) -> str:
        """Give x (..., size) mean 0 and variance 1 over the last axis, then scale and shift it."""
        weights = self.constant(weight), self.constant(bias)
        return self.node("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)

    def linear(
        self,
        x: str,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32] | None = None,
        *,
        residual: str | None = None,
        after_relu: bool = False,
        after_gelu: bool = False,
        arithmetic: Arithmetic | None = None,
    ) -> str:
        """Map rows x (N, inputs) to x Wᵀ + b (N, outputs).

        Args:
            x: The rows.
            weight: W (outputs, inputs).
            bias: b (outputs,).
            residual: Rows (N, outputs) to add.
            after_relu: Whether x goes through ReLU first. Bytes without a sign do that by themselves, so in 8 bits it
                costs nothing, and x gets one bit more.
            after_gelu: Whether x comes from GELU; it then gets almost as much, but saturates at 43.
            arithmetic: In place of the graph's own.
        """
        if (arithmetic or self.arithmetic) == "float32":
            x = self.node("Relu", x) if after_relu else x
            given = [] if bias is None else [self.constant(bias)]
            y = self.node("Gemm", x, self.constant(weight), *given, transB=1)
        else:
            quantized = QuantizedWeight.of(weight)
            if after_gelu:
                x, scale = self._raised(x)
                lift = np.float32(-_GELU_MINIMUM) * quantized.values.sum(0, dtype=np.int64) * quantized.scales
                bias = lift.astype(np.float32) if bias is None else bias + lift.astype(np.float32)
                y = self._product_of_bytes(x, scale, quantized, 0)
            else:
                y = self._linear_in_bytes(x, quantized, after_relu=after_relu)
            if bias is not None:
                y = self.node("Add", y, self.constant(bias))
        return y if residual is None else self.node("Add", residual, y)

    def _linear_in_bytes(self, x: str, weight: QuantizedWeight, *, after_relu: bool) -> str:
        size, steps, zero = (x, 2 * _LARGEST + 1, 0) if after_relu else (self.node("Abs", x), _LARGEST, _ZERO)
        largest = self.node("ReduceMax", size, self.integers(-1), keepdims=1)
        scale = self.node("Mul", largest, self.constant(1 / steps))
        return self._product_of_bytes(x, self.node("Max", scale, self.constant(_SMALLEST_SCALE)), weight, zero)

    def _raised(self, x: str) -> tuple[str, str]:
        """Add GELU's minimum to what came from it, and return the scale of each row that turns this into bytes.

        The minimum is a whole number of steps: 0, which most values are close to, would not be a byte otherwise.
        """
        minimum = self.constant(_GELU_MINIMUM)
        x = self.node("Add", x, minimum)
        largest = self.node("ReduceMax", x, self.integers(-1), keepdims=1)
        steps = self.node("Div", minimum, self.node("Mul", largest, self.constant(1 / (2 * _LARGEST + 1))))
        return x, self.node("Div", minimum, self.node("Max", self.node("Floor", steps), self.constant(1.0)))

    def _product_of_bytes(self, x: str, scale: str, weight: QuantizedWeight, zero: int) -> str:
        one, offset = self.constant(1.0), self.constant(zero, np.uint8)
        if zero:
            as_bytes = self.node("QuantizeLinear", self.node("Div", x, scale), one, offset)
        else:  # a scale for each row; with a zero of its own for each that would cost more
            as_bytes = self.node("QuantizeLinear", x, self.reshape(scale, -1), axis=0)
        values, scales = self.constant(weight.values, np.int8), self.constant(weight.scales)
        y = self.node("MatMulIntegerToFloat", as_bytes, values, one, scales, offset, domain=CONTRIB)
        return self.node("Mul", y, scale)

    def attention(self, q: str, k: str, v: str, added: str | None, *, scale: float, width: int) -> str:
        """Compute attention of heads: softmax(scale * q kᵀ + added) v.

        Args:
            q: Queries (B, H, T, d).
            k: Keys (B, H, S, d).
            v: Values (B, H, S, d).
            added: What is added to the scores, of a shape that extends to (B, H, T, S): -inf for a key that takes no
                part; None where all do.
            scale: Factor of the scores.
            width: H d.

        Returns:
            Rows (B T, H d).
        """
        return self.attended(self.scores(q, k, scale=scale), v, added, width=width)

    def scores(self, q: str, k: str, *, scale: float) -> str:
        """Compute the scores of attention, scale * q kᵀ, for queries (B, H, T, d) and keys (B, H, S, d)."""
        return self.node("FusedMatMul", q, k, domain=CONTRIB, transB=1, alpha=scale)

    def attended(self, scores: str, v: str, added: str | None, *, width: int) -> str:
        """Do the rest of `attention`, from scores (B, H, T, S) on."""
        if added is not None:
            scores = self.node("Add", scores, added)
        attended = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        return self.reshape(self.node("Transpose", attended, perm=(0, 2, 1, 3)), -1, width)

    def written(self) -> bytes:
        """Return the graph as an ONNX model."""
        return write_model(self._nodes, self._weights, self._inputs, self._outputs, _OPSETS)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        return [value.name for value in self._inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [value.name for value in self._outputs]
