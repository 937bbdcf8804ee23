"""Published routing rules, each as short as it can be said, on the same replay.

Where a paper's contribution is the rule, it gets our forecasts, so that only the rules differ;
where it is the forecast (clusters, item response, bandit, robust neighbors), it makes its own.
What was left out of each paper stands in its docstring.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.decide.whole.solve import solve
from aios_eccos.forecast.head.fit import log_odds, sigmoid
from aios_eccos.lab.baselines import assignment, serve
from aios_eccos.lab.neighbors import UTILITY_NEIGHBORS, linear_forecasts, nearest, plain_means
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.served import expected
from aios_eccos.lab.strategy import Picked, Setting, Strategy
from aios_eccos.lab.sweeps import budgets, budgets_and_floors, floors, lambdas, value_of, weights
from aios_eccos.values import FloatArray, IntArray

#: MESS+: weight of cost against the queue, in usual costs.
MESS_V = 3.0
#: PORT: share of the first queries that the price is learnt on.
PORT_SHARE = 0.025
#: Batch-robust routing: the percentile of the bootstrap that stands for success.
ROBUST_PERCENTILE = 0.10
#: Avengers-Pro: clusters, and nearest ones that are asked.
CLUSTERS, CLUSTERS_ASKED = 60, 4
#: LinUCB: directions of the embedding, width of the confidence bound, ridge.
BANDIT_DIRECTIONS, BANDIT_WIDTH, BANDIT_RIDGE = 64, 0.3, 1.0


def mess_plus(problem: Problem, setting: Setting) -> Picked:
    """MESS+ (arXiv 2505.19947): argmin_j V c_j + Q (floor - p_j); Q += floor - outcome, from 0 up.

    Left out: learning the predictor online with forced exploration; it gets our forecasts and a
    queue that starts at history's price of the floor instead of 0. Costs in medians; no limits.
    """
    floor = value_of(setting)
    unit = float(np.median(problem.cost)) or 1.0
    queue = MESS_V * expected(problem, floor).value / unit
    choice = np.zeros(problem.n, dtype=np.int64)
    for i in range(problem.n):
        cost, success = MESS_V * problem.cost[i] / unit, problem.success[i]
        choice[i] = choose(cost[None], success[None], queue)[0]
        queue = max(queue + floor - float(problem.outcomes[i, choice[i]]), 0.0)
    return Picked(choice, float(problem.success[np.arange(problem.n), choice].mean()))


def port(problem: Problem, setting: Setting) -> Picked:
    """PORT (arXiv 2509.02718): a dual price learnt once on the first 2.5 % of queries, then argmax.

    Left out: approximate neighbors (it gets our forecasts), one budget per model (here one for
    all, which is easier to meet), and turning queries away when the budget is gone. As in the
    paper the first queries are spread over the models at random.
    """
    budget = value_of(setting)
    first = max(1, round(PORT_SHARE * problem.n))
    cost, success = problem.cost[:first], problem.success[:first]
    line = np.arange(first)
    price = 0.0
    for candidate in problem.curve.prices[::-1]:
        pick = choose(cost, success, float(candidate))
        if float(cost[line, pick].mean()) <= budget:
            price = float(candidate)
            break
    choice = choose(problem.cost, problem.success, price)
    rng = np.random.default_rng(problem.seed)
    choice[:first] = rng.integers(0, problem.m, first)
    return Picked(choice.astype(np.int64))


def batch_robust(problem: Problem, setting: Setting) -> Picked:
    """Robust batch routing (arXiv 2603.26796): most 10th-percentile success within the budget.

    Success is the 10th percentile of bootstraps over 40 neighbors: with right and wrong answers
    that is a binomial quantile, taken exactly. Left out: GPU resources and the offline allocation
    of instances. The batch programme with budget and concurrency limits is solved by our solver;
    it takes a floor as well, put on that percentile instead of a corrected forecast. Costs are our
    forecasts. The percentile itself gains nothing: beside the plain mean of the same 40 neighbors
    it costs .99 x on math10 and 1.00 x on mixed4 at equal success (4 splits), and the same bound
    taken off hybrid forecasts .99 and 1.00 to 1.02.
    """

    def quantile() -> FloatArray:
        from scipy.stats import binom

        mean, _ = plain_means(problem, UTILITY_NEIGHBORS, unknown=float("nan"))
        count = nearest(problem, UTILITY_NEIGHBORS).shape[1]
        return np.asarray(binom.ppf(ROBUST_PERCENTILE, count, mean) / count, dtype=float)

    success = problem.once("robust", quantile)

    value = value_of(setting)
    floor, budget = (value, None) if setting.name == "floor" else (None, value)

    def decide(rows: IntArray) -> IntArray:
        part = assignment(
            problem, rows, success=success, cost=problem.cost, floor=floor, budget=budget
        )
        return solve(part).choice

    choice, rounds = serve(problem, decide)
    promised = float(success[np.arange(problem.n), choice].mean())
    return Picked(choice, promised, rounds)


def route_balance(problem: Problem, setting: Setting) -> Picked:
    """RouteBalance's score (arXiv 2606.17949): weighted success, cost and latency, each scaled.

    Quality, cost and latency are scaled to 0..1 over the candidates of a request; cost and latency
    share the weight. Left out: instances, their queues and the learnt latency (expected output
    tokens stand for it); the greedy assignment of the longest first is not needed without queues.
    """
    weight = value_of(setting)

    def scaled(values: FloatArray) -> FloatArray:
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        return np.asarray((values - low) / np.maximum(high - low, 1e-12), dtype=float)

    spend = 0.8 * scaled(problem.cost) + 0.2 * scaled(problem.tokens)
    return Picked(np.argmax((1 - weight) * scaled(problem.success) - weight * spend, axis=1))


def avengers_pro(problem: Problem, setting: Setting) -> Picked:
    """Avengers-Pro (arXiv 2508.12631): k-means clusters, a score per cluster and model.

    Each cluster scores a model by (1 - w) success - w cost, both scaled to 0..1 within the
    cluster; the scores of the four nearest clusters are added. Left out: nothing but the embedder
    (ours) and weights by distance, which the paper does not use either.
    """

    def clusters() -> tuple[FloatArray, FloatArray, IntArray]:
        from sklearn.cluster import KMeans

        x = problem.history.embeddings
        count = min(CLUSTERS, max(1, len(x) // 10))
        found = KMeans(count, n_init=1, random_state=problem.seed, max_iter=50).fit(x)
        overall = problem.past_means()
        tables = [problem.history.correctness, problem.past_cost]
        means = [np.tile(values, (count, 1)) for values in overall]
        for cluster in range(count):
            mine = found.labels_ == cluster
            for values, mean in zip(tables, means, strict=True):
                seen = ~np.isnan(values[mine])
                held = np.nan_to_num(values[mine]).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
                mean[cluster] = np.where(seen.any(axis=0), held, mean[cluster])
        low, high = (
            np.stack([f(mean, axis=1, keepdims=True) for mean in means]) for f in (np.min, np.max)
        )
        scaled = (np.stack(means) - low) / np.maximum(high - low, 1e-12)
        centers = found.cluster_centers_
        distance = (centers**2).sum(axis=1) - 2 * problem.test.embeddings @ centers.T
        near = np.argsort(distance, axis=1, kind="stable")[:, : min(CLUSTERS_ASKED, count)]
        return scaled[0], scaled[1], near

    success, cost, near = problem.once("clusters", clusters)
    weight = value_of(setting)
    score = (1 - weight) * success - weight * cost
    return Picked(np.argmax(score[near].sum(axis=1), axis=1))


def item_response(problem: Problem, setting: Setting) -> Picked:
    """IRT-Router's ability x difficulty (arXiv 2506.01048): p_ij = sigmoid(a_j d_i + b_j).

    Difficulty d is a ridge regression of the question's mean outcome over models on its embedding;
    discrimination a and ability b are each model's logistic fit on it. Left out: the
    multidimensional latent space, model profiles, and warm-up by clusters. Utility is
    success - lambda x cost, cost by the linear heads' lengths.
    """

    def fit() -> FloatArray:
        from sklearn.linear_model import LogisticRegression, RidgeCV
        from sklearn.model_selection import cross_val_predict

        x, y = problem.history.embeddings, problem.history.correctness
        seen = ~np.isnan(y)
        total = np.nan_to_num(y).sum(axis=1)
        ease = log_odds((total + 0.5) / (seen.sum(axis=1) + 1.0))
        ridge = RidgeCV(alphas=(0.3, 1.0, 3.0, 10.0))
        past = cross_val_predict(ridge, x, ease, cv=5)[:, None]
        new = ridge.fit(x, ease).predict(problem.test.embeddings)[:, None]
        success = np.tile(problem.past_means()[0], (problem.n, 1))
        for j in range(problem.m):
            right = y[seen[:, j], j] >= 0.5
            if right.any() and not right.all():
                head = LogisticRegression().fit(past[seen[:, j]], right)
                success[:, j] = sigmoid(head.decision_function(new))
        return success

    success = problem.once("irt", fit)
    tokens = linear_forecasts(problem)[1]
    cost = problem.prices.cost(problem.test.input_tokens, tokens)
    return Picked(np.argmax(success - value_of(setting) * cost, axis=1))


def linucb(problem: Problem, setting: Setting) -> Picked:
    """LinUCB under a cost cap (after PILOT, arXiv 2508.21141): most optimistic model it can afford.

    Ridge per model on 64 directions of the embedding, begun on the history (every answer there is
    known), then updated with the answer of the model chosen. The cap on a call is twice what is
    left of the budget per call still to come. Left out: the preference prior and the knapsack's
    bins by price.
    """
    budget = value_of(setting)
    start, x = problem.once("bandit", lambda: _bandit_start(problem))
    inverse, target = start[0].copy(), start[1].copy()
    left = budget * problem.n
    floor_cost = problem.cost.min(axis=1)
    choice = np.zeros(problem.n, dtype=np.int64)
    for i in range(problem.n):
        z = x[i]
        spread = inverse @ z
        hope = (spread * target).sum(axis=1) + BANDIT_WIDTH * np.sqrt(spread @ z)
        cap = max(2 * left / (problem.n - i), float(floor_cost[i]))
        hope[problem.cost[i] > cap] = -np.inf
        j = int(np.argmax(hope))
        choice[i] = j
        left -= float(problem.spent[i, j])
        inverse[j] -= np.outer(spread[j], spread[j]) / (1 + spread[j] @ z)
        target[j] += float(problem.outcomes[i, j]) * z
    return Picked(choice)


def _bandit_start(problem: Problem) -> tuple[Any, FloatArray]:
    """Per model the inverse Gram matrix and target on history; the test rows' directions."""
    past = problem.history.embeddings.astype(float)
    middle = past.mean(axis=0)
    _, _, turns = np.linalg.svd(past - middle, full_matrices=False)
    turns = turns[:BANDIT_DIRECTIONS].T

    def directions(rows: FloatArray) -> FloatArray:
        return np.column_stack([np.ones(len(rows)), (rows - middle) @ turns * 4])

    z, y = directions(past), problem.history.correctness
    inverses, targets = [], []
    for j in range(problem.m):
        seen = ~np.isnan(y[:, j])
        gram = z[seen].T @ z[seen] + BANDIT_RIDGE * np.eye(z.shape[1])
        inverses.append(np.linalg.inv(gram))
        targets.append(z[seen].T @ y[seen, j])
    start = (np.stack(inverses), np.stack(targets))
    return start, directions(problem.test.embeddings.astype(float))


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("mess_plus", floors, mess_plus, forecasts=True, source="arXiv 2505.19947"),
    Strategy("port", budgets, port, forecasts=True, source="arXiv 2509.02718"),
    Strategy(
        "batch_robust", budgets_and_floors, batch_robust, forecasts=True, source="arXiv 2603.26796"
    ),
    Strategy("route_balance", weights, route_balance, forecasts=True, source="arXiv 2606.17949"),
    Strategy("avengers_pro", weights, avengers_pro, source="arXiv 2508.12631"),
    Strategy("irt", lambdas, item_response, source="arXiv 2506.01048"),
    Strategy("linucb", budgets, linucb, forecasts=True, source="arXiv 2508.21141"),
)
