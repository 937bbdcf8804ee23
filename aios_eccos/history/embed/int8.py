"""Dense layers in 8 bits: three times as fast as in 32, and a quarter of the memory.

What goes into a layer is scaled by fixed ranges, found once on the texts below: so a text's vectors
do not depend on the texts beside it. A few channels reach far beyond the others; as in SmoothQuant
(arXiv 2211.10438), part of each channel's reach is moved into the weights. Products and sums are
whole numbers and exact on every processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aios_eccos.history.embed.bert import INPUT, Dense
from aios_eccos.history.embed.folder import Floats
from aios_eccos.history.embed.graph import FUSED, Graph

#: Least and greatest number on each channel of a layer's input, (k) each.
Range: TypeAlias = tuple[Floats, Floats]

#: The part of a channel's reach, in log, that is moved into the weights. Cosine to 32 bits on
#: training questions: .990 at .5, .996 at .6, .998 at .7 and .8, .994 with nothing moved (plain
#: 8-bit weights).
SMOOTH = 0.7
#: Steps to an octave of the scales: machines whose last digits differ then find the same ones.
STEPS = 8
#: Reach of a channel or column that is always zero.
TINY = 1e-6

#: What the ranges are found on: as many kinds of text as agents send.
TEXTS = (
    "What is the capital of France, and how many people live there?",
    "Write a Python function that merges two sorted lists into one sorted list without sort().",
    "A train leaves at 3 pm with 60 km/h, another one at 4 pm with 90 km/h. When does the second "
    "train catch up with the first? Answer with a number of minutes.",
    "Let $f(x)=x^3-3x+1$. Find the sum of the squares of all real roots of $f(x)=0$.",
    '{"name": "get_weather", "arguments": {"city": "Berlin", "unit": "celsius"}}',
    "Which of the following is NOT a renewable source of energy?\nA) wind\nB) coal\nC) sunlight\n"
    "D) tides",
    "def f(items):\n    out = {}\n    for key, value in items:\n        out.setdefault(key, [])"
    '.append(value * 2)\n    return out\n\nassert f([("a", 1), ("b", 2), ("a", 3)]) == ??',
    "Summarize in one sentence: The committee met on Tuesday to discuss the budget. After a long "
    "debate, members agreed to cut travel costs by ten percent and to postpone the new building.",
    "Hello! How are you today?",
    "Thanks",
    "Übersetze den folgenden Satz ins Englische: Der Hund schläft unter dem Tisch, während es "
    "draußen regnet.",
    "¿Cuál es la diferencia entre una célula animal y una célula vegetal?",
    "SELECT name, COUNT(*) FROM orders JOIN users ON users.id = orders.user_id WHERE total > 100 "
    "GROUP BY name ORDER BY 2 DESC LIMIT 10;",
    "2026-01-05 12:33:01 ERROR worker-3 connection to 10.0.0.7:5432 refused (attempt 5 of 5)",
    "You are given tools to book flights and hotels. Book a flight from Boston to Chicago on May 3 "
    "for two adults, economy, returning on May 9, and send the confirmation to anna@example.com.",
    "A 45-year-old woman has had chest pain and shortness of breath for two hours. Her blood "
    "pressure is 150/95 mm Hg. Which of the following is the most appropriate next step?",
    "12 * (7 + 5) - 3^2 / 4 = ?",
    "Explain why the sky is blue to a child of five years.",
    "import numpy as np\nx = np.linspace(0, 1, 11)\nprint(x[::2].sum(), x.mean(), len(x))",
    "Is it legal to record a phone call without telling the other person? Answer yes or no and "
    "give a reason.",
    'Fix the grammar: "he don\'t has no money for buy the tickets since two week"',
    "日本の首都はどこですか。",
    "Plan a three-day trip to Rome for a family with two small children, with a budget of $1,500.",
    "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies?",
)


def ranges(
    write: Callable[[Dense], tuple[Graph, list[str]]],
    samples: Sequence[Floats],
    open_session: Callable[[bytes], Any],
) -> list[Range]:
    """The range of every dense layer's input, in the order in which layers are called for.

    Args:
        write: writes the encoder with the dense layers that it is given.
        samples: its inputs, (1, length, d) each.
        open_session: ONNX Runtime's session of a model.
    """
    inputs: list[str] = []
    # Given to the session beside its input: a copy of them in the graph would cost memory.
    weights: dict[str, Floats] = {}

    def watched(graph: Graph, hidden: str, parts: Sequence[tuple[Floats, Floats]]) -> list[str]:
        inputs.append(hidden)
        outputs = []
        for weight, bias in parts:
            name = f"weight{len(weights)}"
            weights[name] = weight
            product = graph.add("FusedMatMul", hidden, name, domain=FUSED, transB=1)
            outputs.append(graph.add("Add", product, graph.weight(bias)))
        return outputs

    graph, _ = write(watched)
    shapes = {name: weight.shape for name, weight in weights.items()}
    model = graph.model({INPUT: [1, "length", samples[0].shape[2]], **shapes}, inputs)
    session = open_session(model)
    seen = (session.run(inputs, {INPUT: sample, **weights}) for sample in samples)
    rows = [np.concatenate(states, axis=1)[0] for states in zip(*seen, strict=True)]
    return [(each.min(axis=0), each.max(axis=0)) for each in rows]


def in_eight_bits(found: Iterable[Range]) -> Dense:
    """Dense layers in 8 bits, by a range for each, in the order in which they are called for."""
    left = iter(found)

    def dense(graph: Graph, hidden: str, parts: Sequence[tuple[Floats, Floats]]) -> list[str]:
        low, high = next(left)
        moved = _moved(np.maximum(-low, high), np.concatenate([weight for weight, _ in parts]))
        least, most = min((low / moved).min(), 0.0), max((high / moved).max(), TINY)
        step = _even((most - least) / 255)
        scale, zero = graph.weight(step), graph.weight(np.round(-least / step).astype(np.uint8))
        # QuantizeLinear takes a scale for each channel, but then ten times as long.
        even = graph.add("Mul", hidden, graph.weight((1 / moved).astype(np.float32)))
        whole = graph.add("QuantizeLinear", even, scale, zero)
        outputs = []
        for weight, bias in parts:
            rounded, steps = _rounded((weight * moved).T)
            inputs = whole, graph.weight(rounded), scale, graph.weight(steps), zero
            outputs.append(
                graph.add("MatMulIntegerToFloat", *inputs, "", graph.weight(bias), domain=FUSED)
            )
        return outputs

    return dense


def _moved(reach: Floats, weight: Floats) -> Floats:
    """What each channel (k) of an input is divided by, and its weights, of (n, k), multiplied."""
    columns = np.maximum(np.abs(weight).max(axis=0), TINY)
    return _even(np.maximum(reach, TINY) ** SMOOTH / columns ** (1 - SMOOTH))


def _even(scales: Any) -> Floats:
    """The next greater powers of the `STEPS`th root of 2."""
    return np.asarray(np.exp2(np.ceil(np.log2(scales) * STEPS) / STEPS), dtype=np.float32)


def _rounded(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Weights (k, n) as whole numbers, and the step of each column (n).

    Processors without instructions for this add two neighboring products in 16 bits: the two
    weights must come to 128 at most, as 255 * 128 fits.
    """
    pairs = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    sums = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    steps = np.maximum(sums.max(axis=0), TINY).astype(np.float32) / np.float32(127)
    return np.round(weight / steps).astype(np.int8), steps
