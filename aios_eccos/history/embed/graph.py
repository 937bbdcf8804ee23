"""ONNX models, written message by message: a few protobuf fields, so that no package is needed.

Field numbers: github.com/onnx/onnx, onnx.proto. com.microsoft has fused and integer operators
(onnxruntime, docs/ContribOperators.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

#: ONNX's operator set with LayerNormalization, and the file format that came with it.
OPSET, IR_VERSION = 17, 8
FUSED = "com.microsoft"
#: TensorProto.DataType, by numpy's name.
KINDS = {"float32": 1, "uint8": 2, "int8": 3}


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """One protobuf field: varint, 32-bit float, or length-delimited."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _message(*fields: tuple[int, Any]) -> bytes:
    return b"".join(_field(*field) for field in fields)


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    dims = [(1, size) for size in array.shape]
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return _message(*dims, (2, KINDS[array.dtype.name]), (8, name), (9, raw))


def _value(name: str, dims: Sequence[str | int]) -> bytes:
    """ValueInfoProto: float32 numbers with named or fixed dimensions."""
    shape = [(1, _message((1 if isinstance(dim, int) else 2, dim))) for dim in dims]
    tensor = _message((1, KINDS["float32"]), (2, _message(*shape)))
    return _message((1, name), (2, _message((1, tensor))))


def _attribute(name: str, value: int | float) -> bytes:
    number, kind = (3, 2) if isinstance(value, int) else (2, 1)
    return _message((1, name), (number, value), (20, kind))


class Graph:
    """Nodes and weights as they are added, each named by its number."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []

    def weight(self, array: NDArray[Any]) -> str:
        """Add a constant of one of `KINDS`; its name."""
        name = f"w{len(self._weights)}"
        self._weights.append(_tensor(name, array))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: int | float) -> str:
        """Add a node; the name of its output. An input "" is one that is left out."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(
            _message(
                *((1, one) for one in inputs),
                (2, name),
                (4, kind),
                *((5, _attribute(key, value)) for key, value in attributes.items()),
                (7, domain),
            )
        )
        return name

    def model(self, inputs: Mapping[str, Sequence[str | int]], outputs: Iterable[str]) -> bytes:
        """The model from inputs of named or fixed dimensions to outputs (1, length, any width)."""
        graph = _message(
            *((1, node) for node in self._nodes),
            (2, "encoder"),
            *((5, weight) for weight in self._weights),
            *((11, _value(name, dims)) for name, dims in inputs.items()),
            *((12, _value(one, [1, "length", f"width of {one}"])) for one in outputs),
        )
        opsets = [_message((1, ""), (2, OPSET)), _message((1, FUSED), (2, 1))]
        return _message((1, IR_VERSION), (7, graph), *((8, opset) for opset in opsets))
