"""BERT encoders as ONNX graphs, written straight from the weights, for one text at a time.

ONNX Runtime (a dependency of chromadb) embeds a short text in a fraction of PyTorch's time, starts
in a tenth of it, and spares PyTorch's memory. One text has no padding, so attention needs no mask,
for which ONNX Runtime has a faster way; and a text's vectors depend on nothing but the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from aios_eccos.history.embed.folder import Bert, Floats, Shape
from aios_eccos.history.embed.graph import FUSED, Graph

#: Dense layers on one input (1, length, k): adds nodes to the graph for each weight (n, k) and
#: bias (n), and returns the names of their outputs (1, length, n).
Dense: TypeAlias = Callable[[Graph, str, Sequence[tuple[Floats, Floats]]], list[str]]
#: The encoder's input.
INPUT = "tokens"
#: Its embeddings, (rows, d) each.
TABLES = tuple(f"embeddings.{of}_embeddings.weight" for of in ("word", "position", "token_type"))


def shapes_of(bert: Bert) -> Iterator[Shape]:
    """The tensors of a BERT encoder, without its pooler: names and shapes."""
    width, inner = bert.hidden_size, bert.intermediate_size

    def norm(name: str) -> Iterator[Shape]:
        yield f"{name}.LayerNorm.weight", (width,)
        yield f"{name}.LayerNorm.bias", (width,)

    def dense(name: str, into: int, outof: int) -> Iterator[Shape]:
        yield f"{name}.weight", (into, outof)
        yield f"{name}.bias", (into,)

    for table in TABLES:
        yield table, (None, width)
    yield from norm("embeddings")
    for layer in range(bert.num_hidden_layers):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            yield from dense(f"{at}.attention.self.{part}", width, width)
        yield from dense(f"{at}.attention.output.dense", width, width)
        yield from norm(f"{at}.attention.output")
        yield from dense(f"{at}.intermediate.dense", inner, width)
        yield from dense(f"{at}.output.dense", width, inner)
        yield from norm(f"{at}.output")


class Lookup:
    """The first vectors of tokens: the sums of word, position and type.

    Attributes:
        width: numbers d in a vector.
        rows: tokens that there are.
        most: tokens that have a position.
    """

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._word, position, kind = (weights[table] for table in TABLES)
        self._position = position + kind[0]
        self.rows, (self.most, self.width) = len(self._word), position.shape

    def __call__(self, ids: Sequence[int]) -> Floats:
        """(1, length, d) of one text's token ids; more than `most` are left out."""
        found: Floats = self._word[ids[: self.most]] + self._position[: len(ids)]
        return found[np.newaxis]


def bert_encoder(
    weights: Mapping[str, Floats], bert: Bert, dense: Dense
) -> tuple[Graph, list[str]]:
    """The encoder of a BERT model, without the look-up of its embeddings.

    Args:
        weights: by the names of `shapes_of`.
        bert: its settings.
        dense: writes the dense layers, which are called for in a fixed order.

    Returns:
        The graph and the names of the layers' outputs, each (1, length, d). Its input is `INPUT`
        (1, length, d), of a `Lookup`.
    """
    graph = Graph()

    def normed(hidden: str, of: str) -> str:
        names = f"{of}.LayerNorm.weight", f"{of}.LayerNorm.bias"
        scales = (graph.weight(weights[name]) for name in names)
        return graph.add("LayerNormalization", hidden, *scales, epsilon=bert.layer_norm_eps)

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
    for layer in range(bert.num_hidden_layers):
        at = f"encoder.layer.{layer}"
        kinds = (f"{at}.attention.self.{part}" for part in ("query", "key", "value"))
        parts = through(hidden, *kinds)
        heads = bert.num_attention_heads
        attended = graph.add("MultiHeadAttention", *parts, domain=FUSED, num_heads=heads)
        hidden = added(attended, hidden, f"{at}.attention.output")
        (inner,) = through(hidden, f"{at}.intermediate.dense")
        hidden = added(graph.add("Gelu", inner, domain=FUSED), hidden, f"{at}.output")
        outputs.append(hidden)
    return graph, outputs
