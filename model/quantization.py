"""Quantised weights: linear layers in 8, 6 or 4 bits, in MLX's affine form.

A weight (outputs, inputs) becomes three arrays: `weight`, the small integers packed into 32-bit ones, (outputs,
inputs * bits / 32); `scales` and `biases`, (outputs, inputs / group size), one of each for every group of inputs in a
row. The weight is approximately scale * integer + bias.

A model directory notes this in its `configuration.json`, as mlx-lm's do: `"quantization": {"group_size": 64,
"bits": 8}`. In such a model every linear layer is quantised that has whole groups of inputs. Other linear layers,
convolutions, norms and the predictor are stored as in any other model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import mlx.core as mx
from parastream.model.errors import CheckpointError

KEY = "quantization"
"""Key of the entry in `configuration.json`."""
BITS = (4, 6, 8)
GROUP_SIZES = (32, 64, 128)
_WORD = 32


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the linear layers of a model are quantised.

    Raises:
        CheckpointError: A value is not among those allowed.
    """

    bits: int = 8
    group_size: int = 64

    def __post_init__(self) -> None:
        for name, allowed in (("bits", BITS), ("group_size", GROUP_SIZES)):
            value = getattr(self, name)
            if type(value) is not int or value not in allowed:
                raise CheckpointError(f"quantization: {name} is {value!r}; allowed are {', '.join(map(str, allowed))}")

    def __str__(self) -> str:
        return f"{self.bits} bits in groups of {self.group_size}"

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> Self | None:
        """Take the entry of a parsed `configuration.json`; None where the weights are not quantised.

        Raises:
            CheckpointError: The entry cannot be used.
        """
        if KEY not in configuration:
            return None
        section = configuration[KEY]
        # Newer files of mlx-lm name the mode, too; ours is the only one that older ones know.
        if (
            not isinstance(section, Mapping)
            or not {"bits", "group_size"} <= set(section) <= {"bits", "group_size", "mode"}
            or section.get("mode", "affine") != "affine"
        ):
            raise CheckpointError(f"{KEY} must be an object with bits and group_size, not {section!r}")
        return cls(section["bits"], section["group_size"])

    def described(self) -> dict[str, int]:
        """Return the entry for `configuration.json`."""
        return asdict(self)

    def fits(self, inputs: int) -> bool:
        """Say whether a layer with this number of inputs can be quantised."""
        return inputs % self.group_size == 0

    def shapes(self, outputs: int, inputs: int) -> dict[str, tuple[int, int]]:
        """Return the shapes of the three arrays."""
        groups = (outputs, inputs // self.group_size)
        return {"weight": (outputs, inputs * self.bits // _WORD), "scales": groups, "biases": groups}

    def quantize(self, weight: mx.array) -> dict[str, mx.array]:
        """Quantise a weight into its three arrays; scales and biases have its type."""
        packed, scales, biases = mx.quantize(weight, group_size=self.group_size, bits=self.bits)
        return {"weight": packed, "scales": scales, "biases": biases}

    def dequantize(self, packed: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        """Restore the weight (outputs, inputs), in float32."""
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return mx.dequantize(packed, scales, biases, group_size=self.group_size, bits=self.bits)

    def multiply(self, x: mx.array, packed: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        """Multiply x (…, inputs) by the transposed weight: (…, outputs)."""
        return mx.quantized_matmul(
            x, packed, scales, biases, transpose=True, group_size=self.group_size, bits=self.bits
        )
