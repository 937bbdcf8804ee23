"""BERT encoders as ONNX graphs, written straight from the weights.

ONNX Runtime (a dependency of chromadb) embeds a short text in half of PyTorch's time, starts in a
tenth of it, and spares PyTorch's memory. A graph is a few protobuf messages (field numbers:
github.com/onnx/onnx, onnx.proto); com.microsoft has fused operators (docs/ContribOperators.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: ONNX's operator set with LayerNormalization, and the file format that came with it.
OPSET, IR_VERSION = 17, 8
FUSED = "com.microsoft"
#: TensorProto.DataType
FLOAT, INT32 = 1, 6


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


def _tensor(name: str, array: NDArray[np.float32]) -> bytes:
    dims = [(1, size) for size in array.shape]
    return _message(*dims, (2, FLOAT), (8, name), (9, array.astype("<f4").tobytes()))


def _value(name: str, kind: int, dims: Sequence[str | int]) -> bytes:
    """ValueInfoProto: a tensor with named or fixed dimensions."""
    shape = [(1, _message((1 if isinstance(dim, int) else 2, dim))) for dim in dims]
    tensor = _message((1, kind), (2, _message(*shape)))
    return _message((1, name), (2, _message((1, tensor))))


def _attribute(name: str, value: int | float) -> bytes:
    number, kind = (3, 2) if isinstance(value, int) else (2, 1)
    return _message((1, name), (number, value), (20, kind))


class _Graph:
    """Nodes and weights as they are added; a node's output is named by its number."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.weights: dict[str, bytes] = {}

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        self.weights[name] = _tensor(name, np.ascontiguousarray(array))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: int | float) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            _message(
                *((1, one) for one in inputs),
                (2, name),
                (4, kind),
                *((5, _attribute(key, value)) for key, value in attributes.items()),
                (7, domain),
            )
        )
        return name

    def model(self, inputs: Iterable[bytes], outputs: Iterable[bytes]) -> bytes:
        graph = _message(
            *((1, node) for node in self.nodes),
            (2, "encoder"),
            *((5, weight) for weight in self.weights.values()),
            *((11, one) for one in inputs),
            *((12, one) for one in outputs),
        )
        opsets = [_message((1, ""), (2, OPSET)), _message((1, FUSED), (2, 1))]
        return _message((1, IR_VERSION), (7, graph), *((8, opset) for opset in opsets))


def bert_encoder(
    weights: Mapping[str, NDArray[np.float32]], *, layers: int, heads: int, epsilon: float
) -> tuple[bytes, list[str]]:
    """The encoder of a BERT model, without the look-up of its embeddings.

    Args:
        weights: by their names in the model's file.
        layers, heads, epsilon: from its configuration (`num_hidden_layers`, ...).

    Returns:
        The ONNX model and the names of the layers' outputs, each (batch, length, d). Its inputs
        are `tokens` (batch, length, d), the summed embeddings of word, position and type, and
        `mask` (batch, length) int32.
    """
    graph = _Graph()

    def kept(name: str) -> str:
        return graph.weight(name, weights[name])

    def linear(hidden: str, of: str) -> str:
        return graph.add("MatMul", hidden, graph.weight(f"{of}.weight", weights[f"{of}.weight"].T))

    def scales(of: str) -> tuple[str, str]:
        return kept(f"{of}.LayerNorm.weight"), kept(f"{of}.LayerNorm.bias")

    def added(inner: str, hidden: str, of: str) -> str:
        """A dense layer's output added to what went in before, and normed."""
        parts = linear(inner, f"{of}.dense"), hidden, *scales(of), kept(f"{of}.dense.bias")
        return graph.add("SkipLayerNormalization", *parts, domain=FUSED, epsilon=epsilon)

    hidden = graph.add("LayerNormalization", "tokens", *scales("embeddings"), epsilon=epsilon)
    width = weights["embeddings.LayerNorm.bias"].shape[0]
    outputs = []
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        parts = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([weights[f"{part}.bias"] for part in parts])
        joint = graph.weight(f"{at}.qkv", weight), graph.weight(f"{at}.qkv.bias", bias)
        attended = graph.add("Attention", hidden, *joint, "mask", domain=FUSED, num_heads=heads)
        hidden = added(attended, hidden, f"{at}.attention.output")
        inner = f"{at}.intermediate.dense"
        active = graph.add("BiasGelu", linear(hidden, inner), kept(f"{inner}.bias"), domain=FUSED)
        hidden = added(active, hidden, f"{at}.output")
        outputs.append(hidden)
    inputs = [
        _value("tokens", FLOAT, ["batch", "length", width]),
        _value("mask", INT32, ["batch", "length"]),
    ]
    shapes = [_value(name, FLOAT, ["batch", "length", width]) for name in outputs]
    return graph.model(inputs, shapes), outputs
