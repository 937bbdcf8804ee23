"""The numerical fits of the head: success, answer length, and how head and neighbors combine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aios_eccos.forecast.head.features import Floats
from aios_eccos.forecast.predictor import PRIOR_TOKENS
from aios_eccos.values import BoolArray, FloatArray

#: Prior correlation of two models' success functions: what makes a question hard for one makes it
#: hard for all, so difficulty is learned from every model's outcomes at once (intrinsic
#: coregionalization, Alvarez et al. 2012, section 4.2). Out of fold on the histories of math10 and
#: mixed4 (split 0), .3 to .9 give the same Brier within .0004; models apart (0) lose .001 to .0026.
SHARED = 0.6
#: Ridge on coordinates; on the same histories 0.5 is the same within .0001, 2 loses .0005.
RIDGE = 1.0
#: Prior standard deviation, in log-odds, of a model's mean around the pool's (or its declared),
#: where fewer than `MANY` models are known to tell it from; at least `LEAST_SPREAD`.
LEVEL_SPREAD, MANY, LEAST_SPREAD = 1.0, 3, 0.3
#: Ridge of the length regression.
LENGTH_RIDGE = 2.0
#: Log-odds are kept within this: nobody is sure beyond 1 in 150.
MAX_LOG_ODDS = 5.0


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=float))), dtype=float)


def bounded(odds: FloatArray) -> FloatArray:
    """Log-odds within `MAX_LOG_ODDS`: the head's own forecast, where no neighbors are mixed in."""
    return np.asarray(np.clip(odds, -MAX_LOG_ODDS, MAX_LOG_ODDS), dtype=float)


def log_odds(p: FloatArray) -> FloatArray:
    """ln(p / (1 - p)), with p kept in .01 to .99."""
    p = np.clip(np.asarray(p, dtype=float), 0.01, 0.99)
    return np.asarray(np.log(p / (1 - p)), dtype=float)


def fit_success(
    coordinates: Floats, correctness: FloatArray, level: FloatArray, spread: float = LEVEL_SPREAD
) -> tuple[Floats, Floats]:
    """Logistic functions of the coordinates, coupled over models; missing outcomes masked.

    Args:
        coordinates: (n, rank).
        correctness: (n, m) in 0..1, NaN = missing.
        level: (m,) prior log-odds of each model; spread: its standard deviation.

    Returns:
        Slopes (rank, m) and offsets (m,). A model without outcomes gets the shared function.
    """
    target = np.nan_to_num(correctness).astype(np.float32)

    def logistic(z: Floats) -> tuple[Floats, Floats]:
        loss = np.logaddexp(0, z) - target * z
        return loss, np.asarray(0.5 * (1 + np.tanh(0.5 * z)) - target, dtype=np.float32)

    start = _starting_level(correctness, level)
    return _fit_coupled(coordinates, ~np.isnan(correctness), logistic, start, level, RIDGE, spread)


def fit_lengths(coordinates: Floats, tokens: FloatArray) -> tuple[Floats, Floats]:
    """Tweedie regression with log link: functions whose exponential is the mean answer length.

    A model's runaway answers weigh on its mean, so a regression of log lengths, scaled to the
    mean, spreads them over all questions; this one says which questions they come from. Variance
    goes by mean^1.5, between Poisson and gamma: on rows of history held back, the spend forecast
    is then 1 % less biased than by gamma (power 2), its error per call 1 % larger.

    Args:
        tokens: (n, m), NaN = missing; a model without any gets the mean of the others'.

    Returns:
        Slopes (rank, m) and offsets (m,) of ln(tokens).
    """
    seen = ~np.isnan(tokens)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen.any(axis=0), np.nan_to_num(tokens).sum(axis=0) / count, np.nan)
    usual = float(np.nanmean(mean)) if seen.any() else PRIOR_TOKENS
    mean = np.maximum(np.where(np.isnan(mean), usual, mean), 1.0)
    ratio = (np.nan_to_num(tokens) / mean).astype(np.float32)

    def tweedie(z: Floats) -> tuple[Floats, Floats]:
        half = np.exp(np.clip(z, -6, 6) / 2)
        rest = ratio / half
        loss = np.asarray(2 * (rest + half), dtype=np.float32)
        return loss, np.asarray(half - rest, dtype=np.float32)

    level = np.zeros(tokens.shape[1])
    slopes, offsets = _fit_coupled(
        coordinates, seen, tweedie, level, level, LENGTH_RIDGE, LEVEL_SPREAD
    )
    return slopes, (offsets + np.log(mean)).astype(np.float32)


def _fit_coupled(
    coordinates: Floats,
    seen: BoolArray,
    loss_of: Callable[[Floats], tuple[Floats, Floats]],
    start: FloatArray,
    level: FloatArray,
    ridge: float,
    spread: float,
    steps: int = 60,
) -> tuple[Floats, Floats]:
    """Minimize a masked loss of z = coordinates @ slopes + offsets, slopes correlated over models.

    Args:
        seen: (n, m), which entries count.
        loss_of: (n, m) losses of z, and their slopes.
        start, level: (m,) first offsets, and the prior that they are pulled to, by `spread`.
    """
    from scipy.optimize import minimize

    m, rank = seen.shape[1], coordinates.shape[1]
    mixing = np.linalg.cholesky(SHARED * np.ones((m, m)) + (1 - SHARED) * np.eye(m))
    mixing = mixing.astype(np.float32)

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        free = x[: rank * m].reshape(rank, m).astype(np.float32)
        offset = x[rank * m :]
        losses, error = loss_of(coordinates @ (free @ mixing.T) + offset.astype(np.float32))
        error = error * seen
        pull = (offset - level) / spread**2
        slope = (coordinates.T @ error) @ mixing + ridge * free
        value = float(losses.sum(where=seen, dtype=float))
        value += 0.5 * ridge * float((free.astype(float) ** 2).sum())
        value += 0.5 * float(((offset - level) * pull).sum())
        gradient = np.concatenate([slope.ravel(), error.sum(axis=0, dtype=float) + pull])
        return value, gradient.astype(float)

    begin = np.concatenate([np.zeros(rank * m), start])
    answer = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    free = answer.x[: rank * m].reshape(rank, m)
    return (free @ mixing.T).astype(np.float32), answer.x[rank * m :].astype(np.float32)


def _starting_level(correctness: FloatArray, level: FloatArray) -> FloatArray:
    """Each model's own log-odds, four outcomes' worth of its prior mixed in."""
    seen = ~np.isnan(correctness)
    total = np.nan_to_num(correctness).sum(axis=0) + 4 * sigmoid(level)
    return log_odds(total / (seen.sum(axis=0) + 4))


@dataclass(frozen=True, slots=True)
class Mixer:
    """How the head's and the neighbors' log-odds become one forecast.

    Both are taken apart into each model's level, the query's difficulty (shared by all models) and
    a remainder (this model on this query), where the optimizer's choices come from, and noise is.

    Attributes:
        head_level, near_level: (m,) mean log-odds over history.
        level: (m,) the forecast's own level.
        weights: of the head's difficulty and remainder, then of the neighbors'.
    """

    head_level: FloatArray
    near_level: FloatArray
    level: FloatArray
    weights: FloatArray

    @classmethod
    def fit(cls, head: FloatArray, near: FloatArray, correctness: FloatArray) -> Mixer:
        """Weights by ridge logistic on (n, m) out-of-fold log-odds; one set for all models."""
        m = head.shape[1]
        plain = cls(head.mean(axis=0), near.mean(axis=0), head.mean(axis=0), np.zeros(4))
        parts = np.stack(plain._parts(head, near), axis=-1)
        prior = np.concatenate([[1.0, 1.0, 0.0, 0.0], np.zeros(m)])
        stiff = np.full(4 + m, 25.0)
        seen = ~np.isnan(correctness)
        columns = np.broadcast_to(np.arange(m), seen.shape)[seen]
        x = np.concatenate([parts[seen], np.eye(m)[columns]], axis=1)
        fixed, target, weights = plain.head_level[columns], correctness[seen], prior.copy()
        for _ in range(8):
            p = sigmoid(x @ weights + fixed)
            hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(stiff)
            weights += np.linalg.solve(hessian, x.T @ (target - p) - stiff * (weights - prior))
        return cls(plain.head_level, plain.near_level, plain.level + weights[4:], weights[:4])

    def __call__(self, head: FloatArray, near: FloatArray) -> FloatArray:
        """(n, m) combined log-odds."""
        hard, rest, near_hard, near_rest = self._parts(head, near)
        a, b, c, d = self.weights
        shared = a * hard + c * near_hard
        return bounded(self.level + shared + b * rest + d * near_rest)

    def _parts(
        self, head: FloatArray, near: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        one, two = head - self.head_level, near - self.near_level
        hard = np.broadcast_to(one.mean(axis=1, keepdims=True), head.shape)
        near_hard = np.broadcast_to(two.mean(axis=1, keepdims=True), head.shape)
        return hard, one - hard, near_hard, two - near_hard
