"""The doubly robust estimate from calls one by one; a kernel keeps their sums."""

from __future__ import annotations

import numpy as np

from aios_eccos.floor.explore import Estimate, Sums
from aios_eccos.values import FloatArray


def doubly_robust(forecast: FloatArray, outcome: FloatArray, propensity: FloatArray) -> Estimate:
    """The estimate for one model from n calls, those that could not explore it left out.

    Args:
        forecast: (n,) success forecast of the model on every call.
        outcome: (n,) its success where it was explored and judged, NaN elsewhere.
        propensity: (n,) chance with which it was explored, NaN where it could not be.

    Raises:
        ValueError: no call could explore it, or an outcome has no propensity in (0, 1].
    """
    able, seen = ~np.isnan(propensity), ~np.isnan(outcome)
    if not np.all((propensity[seen] > 0) & (propensity[seen] <= 1)):
        raise ValueError("an explored outcome has no propensity in (0, 1]")
    if not able.any():
        raise ValueError("no calls to estimate from")
    weight, miss = 1.0 / propensity[seen], outcome[seen] - forecast[seen]
    return Sums(
        n=float(able.sum()),
        forecast=float(forecast[able].sum()),
        forecast2=float((forecast[able] ** 2).sum()),
        weight=float(weight.sum()),
        weight2=float((weight**2).sum()),
        miss=float((weight * miss).sum()),
        cross=float((weight**2 * miss).sum()),
        miss2=float(((weight * miss) ** 2).sum()),
    ).estimate()
