"""BERT encoders as ONNX graphs, written straight from the weights, for one text at a time.

ONNX Runtime (a dependency of chromadb) embeds a short text in a fraction of PyTorch's time, starts
in a tenth of it, and spares PyTorch's memory. One text has no padding, so attention needs no mask,
for which ONNX Runtime has a faster way; and a text's vectors depend on nothing but the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aios_eccos.history.embed.graph import FUSED, Graph

Floats: TypeAlias = NDArray[np.float32]
#: Dense layers on one input (1, length, k): adds nodes to the graph for each weight (n, k) and
#: bias (n), and returns the names of their outputs (1, length, n).
Dense: TypeAlias = Callable[[Graph, str, Sequence[tuple[Floats, Floats]]], list[str]]
#: The encoder's input.
INPUT = "tokens"


class Lookup:
    """The first vectors of tokens: the sums of word, position and type.

    Attributes:
        width: numbers d in a vector.
        most: tokens that have a position.
    """

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        tables = (f"embeddings.{of}_embeddings.weight" for of in ("word", "position", "token_type"))
        self._word, position, kind = (weights[table] for table in tables)
        self._position = position + kind[0]
        self.most, self.width = position.shape

    def __call__(self, ids: Sequence[int]) -> Floats:
        """(1, length, d) of one text's token ids; more than `most` are left out."""
        found: Floats = self._word[ids[: self.most]] + self._position[: len(ids)]
        return found[np.newaxis]


def bert_encoder(
    weights: Mapping[str, Floats], dense: Dense, *, layers: int, heads: int, epsilon: float
) -> tuple[Graph, list[str]]:
    """The encoder of a BERT model, without the look-up of its embeddings.

    Args:
        weights: by their names in the model's file.
        dense: writes the dense layers, which are called for in a fixed order.
        layers, heads, epsilon: from its configuration (`num_hidden_layers`, ...).

    Returns:
        The graph and the names of the layers' outputs, each (1, length, d). Its input is `INPUT`
        (1, length, d), of a `Lookup`.
    """
    graph = Graph()

    def normed(hidden: str, of: str) -> str:
        names = f"{of}.LayerNorm.weight", f"{of}.LayerNorm.bias"
        scales = (graph.weight(weights[name]) for name in names)
        return graph.add("LayerNormalization", hidden, *scales, epsilon=epsilon)

    def through(hidden: str, *names: str) -> list[str]:
        parts = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
        return dense(graph, hidden, parts)

    def added(inner: str, hidden: str, of: str) -> str:
        """A dense layer's output added to what went in before, and normed.

        As two nodes: ONNX Runtime's SkipLayerNormalization takes several times as long.
        """
        (outer,) = through(inner, f"{of}.dense")
        return normed(graph.add("Add", outer, hidden), of)

    hidden = normed(INPUT, "embeddings")
    outputs = []
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        kinds = (f"{at}.attention.self.{part}" for part in ("query", "key", "value"))
        parts = through(hidden, *kinds)
        attended = graph.add("MultiHeadAttention", *parts, domain=FUSED, num_heads=heads)
        hidden = added(attended, hidden, f"{at}.attention.output")
        (inner,) = through(hidden, f"{at}.intermediate.dense")
        hidden = added(graph.add("Gelu", inner, domain=FUSED), hidden, f"{at}.output")
        outputs.append(hidden)
    return graph, outputs
