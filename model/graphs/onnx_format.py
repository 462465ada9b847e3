"""The messages of an ONNX file, written as protocol buffers.

Only what inference needs: nodes, weights, inputs and outputs. Field numbers are those of onnx.proto (ONNX 1.17).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike, NDArray

IR_VERSION = 10
"""Version of the file format, that of opset 21."""

Attribute = int | float | Sequence[int]
Dimension = int | str
"""A size, or a name for one that may differ from run to run."""

_TYPES = {np.dtype(kind): number for kind, number in (("f4", 1), ("u1", 2), ("i1", 3), ("i4", 6), ("i8", 7), ("?", 9))}
_FLOAT, _INT, _INTS = 1, 2, 7
"""Types of attributes."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operator between its inputs and outputs."""

    operator: str
    inputs: Sequence[str]
    """Names of values; empty for an optional one that is left out."""
    outputs: Sequence[str]
    domain: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or output of a graph."""

    name: str
    dtype: DTypeLike = np.float32
    shape: Sequence[Dimension] | None = None
    """None where onnxruntime is to find it out."""


def write_model(
    nodes: Iterable[Node],
    weights: Mapping[str, NDArray[np.generic]],
    inputs: Iterable[ValueInfo],
    outputs: Iterable[ValueInfo],
    opsets: Mapping[str, int],
) -> bytes:
    """Serialise a model.

    Args:
        nodes: In an order in which each comes behind those whose outputs it takes.
        weights: Constants by name.
        inputs: What a run is given.
        outputs: What a run returns.
        opsets: Version of the operators of each domain.

    Raises:
        KeyError: A weight, input or output has a type that the format does not know.
    """
    graph = [
        *(_message(1, _node(node)) for node in nodes),
        _text(2, "parastream"),
        *(part for name, array in weights.items() for part in _tensor(5, name, array)),
        *(_message(11, _value_info(value)) for value in inputs),
        *(_message(12, _value_info(value)) for value in outputs),
    ]
    versions = (_message(8, _text(1, domain) + _number(2, version)) for domain, version in opsets.items())
    return b"".join([_number(1, IR_VERSION), *versions, _key(7, 2), _varint(sum(map(len, graph))), *graph])


def _node(node: Node) -> bytes:
    return b"".join(
        [
            *(_text(1, name) for name in node.inputs),
            *(_text(2, name) for name in node.outputs),
            _text(4, node.operator),
            *(_message(5, _attribute(name, value)) for name, value in node.attributes.items()),
            _text(7, node.domain),
        ]
    )


def _attribute(name: str, value: Attribute) -> bytes:
    match value:
        case float():
            return _text(1, name) + _key(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT)
        case int():
            return _text(1, name) + _number(3, value) + _number(20, _INT)
    return b"".join([_text(1, name), *(_number(8, item) for item in value), _number(20, _INTS)])


def _tensor(number: int, name: str, array: NDArray[np.generic]) -> list[bytes]:
    """Return a tensor as a field, in pieces, so that large weights are copied only once."""
    shape = b"".join(_number(1, size) for size in array.shape)
    data = np.ascontiguousarray(array).tobytes()
    head = shape + _number(2, _TYPES[array.dtype]) + _text(8, name) + _key(9, 2) + _varint(len(data))
    return [_key(number, 2), _varint(len(head) + len(data)), head, data]


def _value_info(value: ValueInfo) -> bytes:
    kind = _number(1, _TYPES[np.dtype(value.dtype)])
    if value.shape is not None:
        sizes = (_text(2, size) if isinstance(size, str) else _number(1, size) for size in value.shape)
        kind += _message(2, b"".join(_message(1, size) for size in sizes))
    return _text(1, value.name) + _message(2, _message(1, kind))


def _message(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Write an integer, seven bits to a byte, lowest first; a negative one as 64 bits."""
    value &= (1 << 64) - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
