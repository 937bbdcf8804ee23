"""Plain neighbors and plain linear heads, as other routers use them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.lab.problem import Problem, column_means
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
