"""BERT encoders as ONNX graphs, written straight from the weights.

ONNX Runtime (a dependency of chromadb) embeds a short text in half of PyTorch's time, starts in a
tenth of it, and spares PyTorch's memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aios_eccos.history.embed.graph import FLOAT, FUSED, INT32, Graph, value


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
    graph = Graph()

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
        value("tokens", FLOAT, ["batch", "length", width]),
        value("mask", INT32, ["batch", "length"]),
    ]
    shapes = [value(name, FLOAT, ["batch", "length", width]) for name in outputs]
    return graph.model(inputs, shapes), outputs
