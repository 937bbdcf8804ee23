"""The paper as published (ECCOS, later OmniRouter, arXiv 2502.20576): its forecasts, its optimizer.

Three strategies differ in their forecasts: a trained head (`eccos_paper_t`), neighbors
(`eccos_paper_r`), and the two fused by fixed weights (`eccos_paper`). All put the floor on raw
forecasts and solve by dual ascent. What the paper leaves open is a constant, chosen on history.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aios_eccos.decide.rule import choose
from aios_eccos.lab.baselines import nearest, serve
from aios_eccos.lab.problem import Problem, column_means
from aios_eccos.lab.strategy import Picked, Setting, Strategy, floors
from aios_eccos.values import Float32Array, FloatArray, IntArray

#: Neighbors, and width of the query's and the models' embeddings.
NEIGHBORS, WIDTH = 16, 64
#: Buckets of output length; most passes of Adam over the history, and its rate.
BUCKETS, PASSES, RATE = 10, 300, 0.01
#: Fusion (the paper's gamma and delta): the trained head's share in success and in length.
GAMMA, DELTA = 0.5, 0.5
#: Rounds of dual ascent, and its constant steps for the floor and for a limit, in median costs.
ROUNDS, FLOOR_STEP, LIMIT_STEP = 400, 10.0, 1.0

#: Success and output tokens of a problem's test rows, (n, m) each.
Forecasts = Callable[[Problem], tuple[FloatArray, FloatArray]]
#: Logits of (n, d) queries: success (n, m), and buckets of length (n, m, kinds); torch tensors.
Heads: TypeAlias = Callable[[Float32Array], tuple[Any, Any]]


@functools.lru_cache(maxsize=1)
def retrieved(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Means of the k nearest records, weighted by similarity (the paper's retrieval predictor)."""
    near = nearest(problem)[:, :NEIGHBORS]
    cosine = np.einsum("nd,nkd->nk", problem.test.embeddings, problem.history.embeddings[near])
    weight = np.maximum(cosine, 1e-6)[:, :, None]

    def mean(values: FloatArray) -> FloatArray:
        seen = ~np.isnan(values[near])
        total = (weight * seen).sum(axis=1)
        found = (weight * np.nan_to_num(values[near])).sum(axis=1) / np.maximum(total, 1e-12)
        return np.where(total > 0, found, column_means(values))

    return mean(problem.history.correctness), mean(problem.history.output_tokens)


def trained(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Success by the sigmoid of a bilinear score of query and model, length by buckets."""

    def make() -> dict[str, NDArray[Any]]:
        success, tokens = _fit(problem)
        return {"success": success, "tokens": tokens, "ids": np.array(problem.test.ids)}

    kept = problem.fitted.cache.arrays("paper", make)
    place = {name: i for i, name in enumerate(kept["ids"])}
    order = [place[name] for name in problem.test.ids]
    return kept["success"][order], kept["tokens"][order]


def fused(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """The two, in fixed shares."""
    (success, tokens), (near, length) = trained(problem), retrieved(problem)
    return GAMMA * success + (1 - GAMMA) * near, DELTA * tokens + (1 - DELTA) * length


def _fit(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Fit on the history, and forecast the test rows.

    A fifth of the history says after how many passes forecasts become worse again.
    """
    import torch

    right, length = problem.history.correctness, problem.history.output_tokens
    edges = np.unique(np.nanquantile(length, np.linspace(0, 1, BUCKETS + 1)[1:-1]))
    bucket = np.full(length.shape, -1)
    seen = ~np.isnan(length)
    kept, bucket[seen] = np.unique(np.searchsorted(edges, length[seen]), return_inverse=True)
    x, test = problem.history.embeddings, problem.test.embeddings
    seed, kinds = problem.arrival.seed, len(kept)
    held = np.arange(len(x)) % 5 == 0
    losses = []
    for heads in _passes(x[~held], right[~held], bucket[~held], kinds, seed):
        with torch.no_grad():
            losses.append(float(_loss(heads(x[held]), right[held], bucket[held])))
    best = 1 + int(np.argmin(losses))
    *_, heads = itertools.islice(_passes(x, right, bucket, kinds, seed), best)
    with torch.no_grad():
        said, buckets = heads(test)
        share = buckets.softmax(dim=2).numpy().astype(float)
    middle = np.array([length[bucket == kind].mean() for kind in range(kinds)])
    return said.sigmoid().numpy().astype(float), np.asarray(share @ middle, dtype=float)


def _passes(
    x: Float32Array, right: FloatArray, bucket: IntArray, kinds: int, seed: int
) -> Iterator[Heads]:
    """The heads after each pass of Adam: bilinear in query (n, d) and model, (n, m) outcomes."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    m = right.shape[1]

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) / WIDTH**0.5).requires_grad_()

    turn, models = drawn(x.shape[1], WIDTH), drawn(WIDTH, m)
    turns, buckets = drawn(x.shape[1], WIDTH), drawn(WIDTH, m * kinds)
    level, levels = torch.zeros(m, requires_grad=True), torch.zeros(m * kinds, requires_grad=True)

    def heads(rows: Float32Array) -> tuple[torch.Tensor, torch.Tensor]:
        queries = torch.tensor(rows)
        lengths = queries @ turns @ buckets + levels
        return queries @ turn @ models + level, lengths.reshape(-1, m, kinds)

    adam = torch.optim.Adam([turn, models, turns, buckets, level, levels], RATE)
    for _ in range(PASSES):
        adam.zero_grad()
        _loss(heads(x), right, bucket).backward()
        adam.step()
        yield heads


def _loss(said: tuple[Any, Any], right: FloatArray, bucket: IntArray) -> Any:
    """Cross entropies of success and of the length's bucket; what is missing is left out."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    known = torch.tensor(~np.isnan(right))
    wanted = torch.tensor(np.nan_to_num(right)).float()
    lengths = said[1].reshape(-1, said[1].shape[2])
    success = binary_cross_entropy_with_logits(said[0][known], wanted[known])
    return success + cross_entropy(lengths, torch.tensor(bucket).flatten(), ignore_index=-1)


def dual_ascent(
    cost: FloatArray, success: FloatArray, floor: float, limits: IntArray | None
) -> IntArray:
    """(n,) columns: the last iterate of constant steps on the multipliers, which stay above 0.

    x = argmin_j c_ij - a p_ij + b_j;  a += step (floor - mean p x);  b_j += step (load_j - limit_j)
    """
    n, m = cost.shape
    scaled = cost / (float(np.median(cost)) or 1.0)
    price, slots, line = 0.0, np.zeros(m), np.arange(n)
    choice = np.zeros(n, dtype=np.int64)
    for _ in range(ROUNDS):
        choice = choose(scaled, success, price, slot_prices=slots)
        price = max(price + FLOOR_STEP * (floor - float(success[line, choice].mean())), 0.0)
        if limits is not None:
            over = (np.bincount(choice, minlength=m) - limits) / n
            slots = np.maximum(slots + LIMIT_STEP * over, 0.0)
    return choice


def strategy(name: str, forecasts: Forecasts) -> Strategy:
    """The paper's optimizer on one of its forecasts."""

    def pick(problem: Problem, setting: Setting) -> Picked:
        success, tokens = forecasts(problem)
        cost = problem.cost_of(tokens)

        def decide(rows: IntArray) -> IntArray:
            return dual_ascent(cost[rows], success[rows], setting.number, problem.limits)

        choice, rounds = serve(problem, decide)
        promised = float(success[np.arange(problem.n), choice].mean())
        return Picked(choice, promised, rounds)

    return Strategy(name, floors, pick)


STRATEGIES: tuple[Strategy, ...] = (
    strategy("eccos_paper_t", trained),
    strategy("eccos_paper_r", retrieved),
    strategy("eccos_paper", fused),
)
