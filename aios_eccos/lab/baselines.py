"""The plain strategies, those that ship elsewhere, ECCOS itself, and the bounds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.decide.problem import AssignmentProblem, one_floor
from aios_eccos.decide.rule import choose
from aios_eccos.decide.whole.solve import solve
from aios_eccos.lab.metrics import mixture
from aios_eccos.lab.problem import Problem, column_means
from aios_eccos.lab.served import Batches, settings_of
from aios_eccos.lab.strategy import (
    AIOS_NEIGHBORS,
    Picked,
    Setting,
    Strategy,
    floors,
    floors_and_budgets,
    lambdas,
    nothing,
    thresholds,
)
from aios_eccos.values import FloatArray, IntArray

#: Neighbors of RouterBench's per-query utility (arXiv 2403.12031, section 5), the most that any
#: strategy looks at.
UTILITY_NEIGHBORS = 40
#: Inverse ridge of the linear heads, as CARROT's (arXiv 2502.03261) logistic regressions.
LINEAR_C = 1.0


@functools.lru_cache(maxsize=1)
def nearest(problem: Problem) -> IntArray:
    """(n, `UTILITY_NEIGHBORS`) rows of history nearest to each test row, nearest first."""
    cosine = problem.test.embeddings @ problem.history.embeddings.T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :UTILITY_NEIGHBORS]
    return np.asarray(order, dtype=np.int64)


def plain_means(problem: Problem, k: int, *, unknown: float) -> tuple[FloatArray, FloatArray]:
    """Unweighted mean success and output tokens of k neighbors, (n, m) each.

    Args:
        unknown: stands where no neighbor has an outcome; NaN takes the model's own mean.
    """

    def mean(values: FloatArray) -> FloatArray:
        picked = values[nearest(problem)[:, :k]]
        count = (~np.isnan(picked)).sum(axis=1)
        own = column_means(values) if np.isnan(unknown) else np.full(problem.m, unknown)
        total = np.nan_to_num(picked).sum(axis=1)
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), own), dtype=float)

    return mean(problem.history.correctness), mean(problem.history.output_tokens)


def linear_forecasts(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Success by logistic, tokens by ridge regression on the embedding, (n, m) each."""

    def make() -> dict[str, NDArray[Any]]:
        from sklearn.linear_model import LogisticRegression, Ridge

        x, new = problem.history.embeddings, problem.test.embeddings
        success, tokens = (
            np.tile(column_means(values), (problem.n, 1))
            for values in (problem.history.correctness, problem.history.output_tokens)
        )
        for j in range(problem.m):
            y, length = problem.history.correctness[:, j], problem.history.output_tokens[:, j]
            seen, measured = ~np.isnan(y), ~np.isnan(length)
            right = y[seen] >= 0.5
            if right.any() and not right.all():
                head = LogisticRegression(C=LINEAR_C, max_iter=1000).fit(x[seen], right)
                success[:, j] = head.predict_proba(new)[:, 1]
            if measured.any():
                fitted = Ridge(alpha=1.0).fit(x[measured], length[measured])
                tokens[:, j] = np.maximum(fitted.predict(new), 0.0)
        return {"success": success, "tokens": tokens, "ids": np.array(problem.test.ids)}

    kept = problem.fitted.cache.arrays("linear", make)
    place = {name: i for i, name in enumerate(kept["ids"])}
    order = [place[name] for name in problem.test.ids]
    return kept["success"][order], kept["tokens"][order]


#: Rounds of dual ascent; its steps are DUAL_STEP / sqrt(t), in median costs. On history 20 serves
#: the middle floors best; no one step converges at low and high floors alike.
DUAL_ROUNDS, DUAL_STEP = 400, 20.0


def serve(problem: Problem, decide: Callable[[IntArray], IntArray]) -> tuple[IntArray, IntArray]:
    """(n,) columns and rounds of rows that come by the batch; who waits (-1) is first next time."""
    choice = np.full(problem.n, -1, dtype=np.int64)
    rounds = np.zeros(problem.n, dtype=np.int64)
    arrivals = problem.batches()
    waiting = np.empty(0, dtype=np.int64)
    number = 0
    while arrivals or len(waiting):
        rows = np.concatenate([waiting, arrivals.pop(0)]) if arrivals else waiting
        got = decide(rows)
        served = got >= 0
        choice[rows[served]] = got[served]
        rounds[rows[served]] = number
        waiting = rows[~served]
        number += 1
    return choice, rounds


def assignment(
    problem: Problem, rows: IntArray, success: FloatArray, cost: FloatArray, floor: float
) -> AssignmentProblem:
    """The rows under the replay's limits and one floor."""
    return one_floor(cost[rows], success[rows].clip(0, 1), floor, capacity=problem.limits)


def single(name: str) -> Strategy:
    """One model for everything."""

    def choose(problem: Problem, setting: Setting) -> Picked:
        return Picked(np.full(problem.n, problem.models.index(name)))

    return Strategy(f"single:{name}", nothing, choose)


def random_model(problem: Problem, setting: Setting) -> Picked:
    """Every model with the same probability; figures are expectations."""
    return Picked(np.zeros(0, dtype=np.int64), mix=np.full(problem.m, 1.0 / problem.m))


#: Rules that look at no question: from (m,) mean success and cost on history to n choices.
BLIND: dict[str, Callable[[FloatArray, FloatArray, int], IntArray]] = {
    "round_robin": lambda success, cost, n: np.arange(n) % len(cost),
    "cheapest": lambda success, cost, n: np.full(n, np.argmin(cost)),
    "strongest": lambda success, cost, n: np.full(n, np.argmax(success)),
}


def blind(name: str) -> Strategy:
    """One of `BLIND` as a strategy."""

    def choose(problem: Problem, setting: Setting) -> Picked:
        return Picked(BLIND[name](*problem.past_means(), problem.n))

    return Strategy(name, nothing, choose)


def hull(problem: Problem, setting: Setting) -> Picked:
    """The cheapest mixture of single models, drawn at random, that meets the floor on history."""
    success, cost = problem.past_means()
    mix = mixture(cost, success, setting.number)
    if mix is None:
        mix = np.eye(problem.m)[int(np.argmax(success))]
    return Picked(np.zeros(0, dtype=np.int64), promised=float(mix @ success), mix=mix)


def neighbor_threshold(problem: Problem, setting: Setting) -> Picked:
    """AIOS's SmartRouting as shipped: the cheapest model at or above the threshold, else the best.

    16 neighbors, unweighted; a model that no neighbor was asked counts as success 0, length 0.
    """
    success, tokens = plain_means(problem, AIOS_NEIGHBORS, unknown=0.0)
    good = success >= setting.number
    least = np.argmin(np.where(good, problem.cost_of(tokens), np.inf), axis=1)
    return Picked(np.where(good.any(axis=1), least, np.argmax(success, axis=1)))


def utility(problem: Problem, success: FloatArray, tokens: FloatArray, setting: Setting) -> Picked:
    """Most success - lambda x cost; (n, m) forecasts."""
    return Picked(np.argmax(success - setting.number * problem.cost_of(tokens), axis=1))


def utility_knn(problem: Problem, setting: Setting) -> Picked:
    """RouterBench's kNN router (arXiv 2403.12031): utility by 40 neighbors' plain means."""
    means = plain_means(problem, UTILITY_NEIGHBORS, unknown=float("nan"))
    return utility(problem, *means, setting)


def utility_linear(problem: Problem, setting: Setting) -> Picked:
    """CARROT's plug-in rule (arXiv 2502.03261): utility by linear heads on the embedding."""
    return utility(problem, *linear_forecasts(problem), setting)


def best_knn(problem: Problem, setting: Setting) -> Picked:
    """The model that did best on 40 neighbors; ties to the cheaper."""
    success, tokens = plain_means(problem, UTILITY_NEIGHBORS, unknown=float("nan"))
    best = success >= success.max(axis=1, keepdims=True) - 1e-12
    return Picked(np.argmin(np.where(best, problem.cost_of(tokens), np.inf), axis=1))


def lagrangian(problem: Problem, setting: Setting) -> Picked:
    """The paper's optimizer (arXiv 2502.20576): dual ascent on floor and limits over the batch.

    Steps are DUAL_STEP / sqrt(t) in units of the median forecast cost; the cheapest iterate that
    keeps floor and limits is taken, else the one that violates them least. As in the paper, the
    floor is put on the raw forecasts, and no row waits.
    """

    def decide(rows: IntArray) -> IntArray:
        cost, success = problem.cost[rows], problem.success[rows]
        return dual_ascent(cost, success, setting.number, problem.limits)

    choice, rounds = serve(problem, decide)
    return Picked(choice, problem.hoped(choice), rounds)


def dual_ascent(
    cost: FloatArray, success: FloatArray, floor: float, limits: IntArray | None
) -> IntArray:
    """(n,) columns by subgradient ascent on the multipliers of one floor and of the limits."""
    n, m = cost.shape
    scaled = cost / (float(np.median(cost)) or 1.0)
    capacity = np.full(m, n) if limits is None else np.minimum(limits, n)
    price, slots = 0.0, np.zeros(m)
    line = np.arange(n)
    best, chosen = (np.inf, np.inf), np.zeros(n, dtype=np.int64)
    for t in range(1, DUAL_ROUNDS + 1):
        choice = choose(scaled, success, price, slot_prices=slots)
        used = np.bincount(choice, minlength=m)
        short = floor - float(success[line, choice].mean())
        over = np.maximum(used - capacity, 0).sum() / n
        rank = (max(short, 0.0) + over, float(scaled[line, choice].sum()))
        if rank < best:
            best, chosen = rank, choice
        step = DUAL_STEP / np.sqrt(t)
        price = max(price + step * short * 10, 0.0)
        slots = np.maximum(slots + step * (used - capacity) / n, 0.0)
    return chosen


def eccos(problem: Problem, setting: Setting) -> Picked:
    """This plugin, as a kernel runs it; in a stream, outcomes (or spending) move its prices."""
    batches = Batches(problem, settings_of(setting.name, setting.number))
    choice, rounds = serve(problem, batches.serve)
    promised = np.clip(problem.hoped(choice) - np.mean(batches.optimism), 0.0, 1.0)
    return Picked(choice, float(promised), rounds)


def oracle(problem: Problem, setting: Setting) -> Picked:
    """The cheapest correct answer, else the cheapest; it looks at the outcomes."""
    right = problem.outcomes >= 0.5
    best = np.argmin(np.where(right, problem.spent, np.inf), axis=1)
    return Picked(np.where(right.any(axis=1), best, np.argmin(problem.spent, axis=1)))


def clairvoyant(problem: Problem, setting: Setting) -> Picked:
    """The least cost at which the true outcomes meet the floor: a bound, so over all rows at once.

    Limits count for as many batches as there are, wherever they fall.
    """
    rows = np.arange(problem.n)
    whole = assignment(problem, rows, problem.outcomes, problem.spent, setting.number)
    if problem.limits is not None:
        whole = replace(whole, capacity=problem.limits * len(problem.batches()))
    choice = solve(whole).choice
    # Rows that do not fit into these batches would be served after them.
    late = choice < 0
    choice[late] = np.argmin(problem.spent[late], axis=1)
    return Picked(choice, float(problem.outcomes[rows, choice].mean()))


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("random", nothing, random_model),
    *(blind(name) for name in BLIND),
    Strategy("hull", floors, hull),
    Strategy("neighbour_threshold", thresholds, neighbor_threshold),
    Strategy("utility_knn", lambdas, utility_knn),
    Strategy("utility_linear", lambdas, utility_linear),
    Strategy("best_knn", nothing, best_knn),
    Strategy("lagrangian", floors, lagrangian, forecasts=True),
    Strategy("eccos", floors_and_budgets, eccos, forecasts=True),
    Strategy("oracle", nothing, oracle),
    Strategy("clairvoyant", floors, clairvoyant),
)
