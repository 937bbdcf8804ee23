"""Dense layers in 8 bits: how weights are rounded, and what that changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aios_eccos.history.embed.graph import Graph
from aios_eccos.history.embed.int8 import in_eight_bits

WIDTH, COLUMNS = 32, 48


class Kept(Graph):
    """A graph that can be asked for its constants."""

    def __init__(self) -> None:
        super().__init__()
        self.constants: list[NDArray[Any]] = []

    def weight(self, array: NDArray[Any]) -> str:
        self.constants.append(array)
        return super().weight(array)


def rounded(weight: NDArray[np.float32]) -> NDArray[np.int8]:
    """The whole numbers (k, n) that a weight (n, k) becomes, for inputs of -1 to 1."""
    graph, reach = Kept(), np.ones(weight.shape[1], dtype=np.float32)
    bias = np.zeros(len(weight), dtype=np.float32)
    in_eight_bits([(-reach, reach)])(graph, "x", [(weight, bias)])
    (found,) = (each for each in graph.constants if each.dtype == np.int8)
    return found


def run(
    weight: NDArray[np.float32], inputs: NDArray[np.float32], seen: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What the layer makes of inputs (rows, k), its ranges found on others."""
    import onnxruntime

    graph = Graph()
    dense = in_eight_bits([(seen.min(axis=0), seen.max(axis=0))])
    outputs = dense(graph, "x", [(weight, np.ones(len(weight), dtype=np.float32))])
    model = graph.model({"x": [1, "length", weight.shape[1]]}, outputs)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(outputs, {"x": inputs[None]})[0][0])


def weights(seed: int, columns: int = COLUMNS, width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((columns, width)).astype(np.float32)


@pytest.mark.parametrize(
    "weight",
    [
        weights(0),
        np.abs(weights(1)),
        np.ones((COLUMNS, WIDTH), dtype=np.float32),
        weights(2, width=7),
        weights(3) * 10.0 ** weights(4),
        np.zeros((COLUMNS, WIDTH), dtype=np.float32),
    ],
    ids=["normal", "positive", "all equal", "odd", "of all sizes", "zero"],
)
def test_two_neighboring_products_fit_16_bits(weight: NDArray[np.float32]) -> None:
    """Else processors without 8-bit instructions would find other vectors."""
    whole = rounded(weight.astype(np.float32)).astype(int)
    for start in range(0, len(whole), 2):
        pair = whole[start : start + 2]
        for inputs in ((255, 255), (255, 0), (0, 255)):
            for sign in (1, -1):
                most = np.maximum(sign * pair, 0).T @ np.array(inputs[: len(pair)])
                assert most.max() <= 2**15 - 1


def test_a_layer_is_near_that_of_32_bits() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((100, WIDTH)).astype(np.float32)
    weight, exact = weights(1), inputs @ weights(1).T + 1
    error = np.linalg.norm(run(weight, inputs, inputs) - exact) / np.linalg.norm(exact)
    assert error < 0.02


def test_a_channel_that_reaches_far_leaves_the_others_their_digits() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((100, WIDTH)).astype(np.float32)
    inputs[:, 3] *= 100
    weight = weights(1)
    weight[:, 3] *= 0.01
    exact = inputs @ weight.T + 1
    error = np.linalg.norm(run(weight, inputs, inputs) - exact) / np.linalg.norm(exact)
    assert error < 0.05


def test_inputs_beyond_the_range_are_cut_off() -> None:
    seen = np.array([[-1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    weight = np.array([[1.0, 0.0]], dtype=np.float32)
    far = np.array([[-9.0, 0.0], [9.0, 5.0]], dtype=np.float32)
    np.testing.assert_allclose(run(weight, far, seen)[:, 0], [0.0, 2.0], atol=0.25)
