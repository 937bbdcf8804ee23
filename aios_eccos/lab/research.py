"""Published routing rules, each as short as it can be said, on the same replay.

Where a paper's contribution is the rule, it gets our forecasts, so that only the rules differ;
where it is the forecast (clusters, item response, bandit, robust neighbors), it makes its own.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.decide.whole.solve import solve
from aios_eccos.forecast.head.fit import log_odds, sigmoid
from aios_eccos.lab.baselines import (
    UTILITY_NEIGHBORS,
    assignment,
    linear_forecasts,
    nearest,
    plain_means,
    serve,
    utility,
)
from aios_eccos.lab.problem import Problem, column_means
from aios_eccos.lab.served import expected
from aios_eccos.lab.strategy import (
    Picked,
    Setting,
    Strategy,
    budgets,
    budgets_and_floors,
    floors,
    lambdas,
    weights,
)
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
    floor = setting.number
    unit = float(np.median(problem.cost)) or 1.0
    queue = MESS_V * expected(problem, floor).value / unit
    choice = np.zeros(problem.n, dtype=np.int64)
    for i in range(problem.n):
        cost, success = MESS_V * problem.cost[i] / unit, problem.success[i]
        choice[i] = choose(cost[None], success[None], queue)[0]
        queue = max(queue + floor - float(problem.outcomes[i, choice[i]]), 0.0)
    return Picked(choice, problem.hoped(choice))


def port(problem: Problem, setting: Setting) -> Picked:
    """PORT (arXiv 2509.02718): a dual price learnt once on the first 2.5 % of queries, then argmax.

    Left out: approximate neighbors (it gets our forecasts), one budget per model (here one for
    all, which is easier to meet), and turning queries away when the budget is gone. As in the
    paper the first queries are spread over the models at random.
    """
    first = max(1, round(PORT_SHARE * problem.n))
    cost, success = problem.cost[:first], problem.success[:first]
    price = 0.0
    for candidate in problem.curve.prices[::-1].tolist():
        pick = choose(cost, success, candidate)
        if float(cost[np.arange(first), pick].mean()) <= setting.number:
            price = candidate
            break
    choice = choose(problem.cost, problem.success, price)
    rng = np.random.default_rng(problem.arrival.seed)
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
    success = _lower_quantiles(problem)
    spends = setting.name == "budget"

    def decide(rows: IntArray) -> IntArray:
        part = assignment(problem, rows, success, problem.cost, 0 if spends else setting.number)
        return solve(replace(part, floors=(), budget=setting.number) if spends else part).choice

    choice, rounds = serve(problem, decide)
    return Picked(choice, float(success[np.arange(problem.n), choice].mean()), rounds)


@functools.lru_cache(maxsize=1)
def _lower_quantiles(problem: Problem) -> FloatArray:
    from scipy.stats import binom

    mean, _ = plain_means(problem, UTILITY_NEIGHBORS, unknown=float("nan"))
    count = nearest(problem).shape[1]
    return np.asarray(binom.ppf(ROBUST_PERCENTILE, count, mean) / count, dtype=float)


def route_balance(problem: Problem, setting: Setting) -> Picked:
    """RouteBalance's score (arXiv 2606.17949): weighted success, cost and latency, each scaled.

    Quality, cost and latency are scaled to 0..1 over the candidates of a request; cost and latency
    share the weight. Left out: instances, their queues and the learnt latency (expected output
    tokens stand for it); the greedy assignment of the longest first is not needed without queues.
    """
    weight = setting.number
    spend = 0.8 * _scaled(problem.cost) + 0.2 * _scaled(problem.tokens)
    return Picked(np.argmax((1 - weight) * _scaled(problem.success) - weight * spend, axis=1))


def _scaled(values: FloatArray) -> FloatArray:
    """(n, m) values, each row from 0 to 1."""
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    return np.asarray((values - low) / np.maximum(high - low, 1e-12), dtype=float)


def avengers_pro(problem: Problem, setting: Setting) -> Picked:
    """Avengers-Pro (arXiv 2508.12631): k-means clusters, a score per cluster and model.

    Each cluster scores a model by (1 - w) success - w cost, both scaled to 0..1 within the
    cluster; the scores of the four nearest clusters are added. Left out: nothing but the embedder
    (ours) and weights by distance, which the paper does not use either.
    """
    success, cost, near = _clusters(problem)
    score = (1 - setting.number) * success - setting.number * cost
    return Picked(np.argmax(score[near].sum(axis=1), axis=1))


@functools.lru_cache(maxsize=1)
def _clusters(problem: Problem) -> tuple[FloatArray, FloatArray, IntArray]:
    """Scaled success and cost, each (clusters, m), and (n, 4) clusters nearest to the test rows."""
    from sklearn.cluster import KMeans

    x = problem.history.embeddings
    count = min(CLUSTERS, max(1, len(x) // 10))
    found = KMeans(count, n_init=1, random_state=problem.arrival.seed, max_iter=50).fit(x)
    means = [
        np.array([column_means(values[found.labels_ == c], own) for c in range(count)])
        for values, own in zip(
            (problem.history.correctness, problem.past_cost), problem.past_means(), strict=True
        )
    ]
    centers = found.cluster_centers_
    distance = (centers**2).sum(axis=1) - 2 * problem.test.embeddings @ centers.T
    near = np.argsort(distance, axis=1, kind="stable")[:, : min(CLUSTERS_ASKED, count)]
    return _scaled(means[0]), _scaled(means[1]), near


def item_response(problem: Problem, setting: Setting) -> Picked:
    """IRT-Router's ability x difficulty (arXiv 2506.01048): p_ij = sigmoid(a_j d_i + b_j).

    Difficulty d is a ridge regression of the question's mean outcome over models on its embedding;
    discrimination a and ability b are each model's logistic fit on it. Left out: the
    multidimensional latent space, model profiles, and warm-up by clusters. Utility is
    success - lambda x cost, cost by the linear heads' lengths.
    """
    return utility(problem, _item_response(problem), linear_forecasts(problem)[1], setting)


@functools.lru_cache(maxsize=1)
def _item_response(problem: Problem) -> FloatArray:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import cross_val_predict

    x, y = problem.history.embeddings, problem.history.correctness
    seen = ~np.isnan(y)
    ease = log_odds((np.nan_to_num(y).sum(axis=1) + 0.5) / (seen.sum(axis=1) + 1.0))
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


def linucb(problem: Problem, setting: Setting) -> Picked:
    """LinUCB under a cost cap (after PILOT, arXiv 2508.21141): most optimistic model it can afford.

    Ridge per model on 64 directions of the embedding, begun on the history (every answer there is
    known), then updated with the answer of the model chosen. The cap on a call is twice what is
    left of the budget per call still to come. Left out: the preference prior and the knapsack's
    bins by price.
    """
    start, aims, x = _bandit_start(problem)
    inverse, target = start.copy(), aims.copy()
    left = setting.number * problem.n
    floor_cost = problem.cost.min(axis=1)
    choice = np.zeros(problem.n, dtype=np.int64)
    for i in range(problem.n):
        z = x[i]
        spread = inverse @ z
        hope = (spread * target).sum(axis=1) + BANDIT_WIDTH * np.sqrt(spread @ z)
        cap = max(2 * left / (problem.n - i), float(floor_cost[i]))
        hope[problem.cost[i] > cap] = -np.inf
        choice[i] = j = int(np.argmax(hope))
        left -= float(problem.spent[i, j])
        inverse[j] -= np.outer(spread[j], spread[j]) / (1 + spread[j] @ z)
        target[j] += float(problem.outcomes[i, j]) * z
    return Picked(choice)


@functools.lru_cache(maxsize=1)
def _bandit_start(problem: Problem) -> tuple[FloatArray, FloatArray, FloatArray]:
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
    return np.stack(inverses), np.stack(targets), directions(problem.test.embeddings.astype(float))


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("mess_plus", floors, mess_plus, forecasts=True),
    Strategy("port", budgets, port, forecasts=True),
    Strategy("batch_robust", budgets_and_floors, batch_robust, forecasts=True),
    Strategy("route_balance", weights, route_balance, forecasts=True),
    Strategy("avengers_pro", weights, avengers_pro),
    Strategy("irt", lambdas, item_response),
    Strategy("linucb", budgets, linucb, forecasts=True),
)
