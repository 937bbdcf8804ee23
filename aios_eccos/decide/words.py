"""Why a model was chosen, in one sentence."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aios_eccos.decide.rule import preferred
from aios_eccos.values import Candidate, Lease


def reason(candidate: Candidate, column: int, lease: Lease | None, free: NDArray[np.int64]) -> str:
    """Why this model, in one sentence."""
    if not candidate.allowed.any():
        return "no configured model may serve this call"
    if lease is None:
        return "waits: every model that may serve it is at its limit"
    if int(candidate.allowed.sum()) == 1:
        return "the only model that may serve this call"
    best = preferred(candidate)
    if column != best:
        name = candidate.models[best]
        full = free[best] <= 0
        why = "is at its limit" if full else "its few slots are lent to calls that gain more"
        return f"the best left: {name} would be chosen but {why}"
    if not math.isfinite(candidate.price):
        return "the strongest: no history like it yet to save money by"
    return "the cheapest way to keep the floor: cost less the worth of its success is least"
