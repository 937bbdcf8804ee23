"""Whether a question is routed alike, wherever it stands in a long prompt.

Forecasts and prices come from the router that a kernel runs; input tokens stay those of the bare
question, so that a pick changes only where something else was read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aios_eccos.config import parse_settings
from aios_eccos.decide.rule import choose
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.query_text import TemplateFilter, asked
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.served import learned_of, priced
from aios_eccos.lab.studies.padding import AGENTS, KINDS, PLACES, around, of_agent, padding
from aios_eccos.lab.studies.quality import mean_auc
from aios_eccos.serve.router import Router
from aios_eccos.values import Float32Array, FloatArray, IntArray, Query
from aios_eccos.workload.memory import MemoryWorkload

#: Characters of padding; questions looked at; floors at whose prices models are picked.
SIZES = 2_000, 8_000, 30_000
ROWS = 150
#: Questions put behind one and the same context.
BEHIND_ONE = 30
FLOORS = "95 %", 0.8
#: Questions are unrelated up to this cosine of their bare texts.
UNRELATED = 0.3


class _Read(NamedTuple):
    """What n texts are read as: (n, m) success, (k, n) picks at k floors, (n, d) embeddings."""

    success: FloatArray
    picks: IntArray
    embeddings: Float32Array


def long_prompts(
    problem: Problem,
    *,
    sizes: Sequence[int] = SIZES,
    kinds: Sequence[str] = KINDS,
    rows: int = ROWS,
    progress: Callable[[str], None] = lambda step: None,
) -> list[dict[str, Any]]:
    """A row per kind of padding, place and size, and per agent: how much is as without padding."""
    drawn = np.sort(np.random.default_rng(problem.arrival.seed).permutation(problem.n)[:rows])
    bare = [problem.test.texts[row] for row in drawn]
    read = _reader(problem, drawn)
    before = read(bare)
    far = (before.embeddings @ before.embeddings.T) <= UNRELATED
    found = []
    for facts, wrap in _wrapped(sizes, kinds):
        progress(f"prompts: {' '.join(map(str, facts.values()))}")
        after = read([wrap(text, 1 + number) for number, text in enumerate(bare)])
        shared = problem.fitted.data.embedder.embed([wrap(text, 0) for text in bare[:BEHIND_ONE]])
        cosines = (shared @ shared.T)[far[:BEHIND_ONE, :BEHIND_ONE]]
        outcomes = problem.outcomes[drawn]
        loss = mean_auc(before.success, outcomes) - mean_auc(after.success, outcomes)
        same = (before.picks == after.picks).mean(axis=1)
        row = facts | {
            f"same_pick_{floor}": share for floor, share in zip(FLOORS, same, strict=True)
        }
        own = (before.embeddings * after.embeddings).sum(axis=1)
        row |= {"auc_loss": loss, "cosine_to_bare": float(own.mean())}
        mean = float(cosines.mean()) if cosines.size else None
        found.append(row | {"cosine_of_unrelated": mean})
    return found


def _wrapped(
    sizes: Sequence[int], kinds: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Callable[[str, int], str]]]:
    """What is put around, and how: a text and a seed to what is read of the messages."""
    for size in sizes:
        for kind in kinds:
            for place in PLACES:
                facts = {"kind": kind, "place": place, "size": size}
                yield facts, functools.partial(_padded, kind, place, size)
        for agent in AGENTS:
            facts = {"kind": "agent", "place": agent, "size": size}
            yield facts, functools.partial(_of_agent, agent, kinds, size)


def _padded(kind: str, place: str, size: int, text: str, seed: int) -> str:
    pad = padding(kind, size, seed)
    return asked([{"role": "user", "content": around(text, place, pad)}])[0]


def _of_agent(agent: str, kinds: Sequence[str], size: int, text: str, seed: int) -> str:
    pad = padding(kinds[seed % len(kinds)], size, seed)
    return asked(of_agent(agent, text, pad))[0]


def _reader(problem: Problem, drawn: IntArray) -> Callable[[Sequence[str]], _Read]:
    """Forecasts texts in the place of some test rows."""
    known, data = learned_of(problem), problem.fitted.data
    embedder = _Ready(data.embedder)
    learned = Learned(problem.fitted.predictor(problem.kind), embedder, known.book, known.judged)
    settings = [parse_settings({"quality_floor": floor}) for floor in FLOORS]
    prices = [priced(problem, wanted).value for wanted in settings]
    router = Router(data.models, settings[0], MemoryWorkload(), learned)
    tokens = [int(problem.test.input_tokens[row]) for row in drawn]

    def read(texts: Sequence[str]) -> _Read:
        calls = [Query(text, input_tokens=n) for text, n in zip(texts, tokens, strict=True)]
        # Each as an agent's first call, which shows no template yet.
        candidates = router.forecast([TemplateFilter().narrowed(call) for call in calls])
        success = np.array([candidate.success for candidate in candidates])
        cost = np.array([candidate.cost for candidate in candidates])
        picks = np.array([choose(cost, success, price) for price in prices])
        return _Read(success, picks, np.array([c.embedding for c in candidates]))

    return read


class _Ready:
    """An embedder that is loaded."""

    def __init__(self, embedder: Embedder) -> None:
        self.try_embed = embedder.embed
        self.try_embed_with_layers = embedder.embed_with_layers
