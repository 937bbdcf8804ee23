"""The paper's optimizer beside ours: same forecasts, same floors, with and without limits."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aios_eccos.decide.problem import Status, one_floor
from aios_eccos.decide.whole.solve import solve
from aios_eccos.lab.baselines import dual_ascent
from aios_eccos.lab.metrics import Estimate, ratio_over_splits
from aios_eccos.lab.problem import Problem

#: Binding limits: each model may take this many times its even share of the batch.
CROWDED = 1.5
#: Shares of the way from the least to the highest forecast success that floors are put at.
FLOORS = (0.3, 0.5, 0.7, 0.85, 0.95)
#: A floor counts as kept from here on: rounding, nothing more.
SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class OptimizerRow:
    """One optimizer over floors and splits.

    Attributes:
        cost_ratio: cost beside our lower bound, where the floor was kept; NaN if it never was.
        kept: share of floors kept on the forecasts; worst_short: largest shortfall (0..1).
        over: rows above a limit, mean. milliseconds: mean of a batch.
    """

    limits: str
    optimizer: str
    cost_ratio: Estimate
    kept: float
    worst_short: float
    over: float
    milliseconds: float


class Trial(NamedTuple):
    """One solve; see `OptimizerRow`."""

    limits: str
    optimizer: str
    cost_ratio: float
    short: float
    over: int
    seconds: float


def trials(problem: Problem) -> list[Trial]:
    """Both optimizers on the split's test batch; floors that cannot be met are left out."""
    found = []
    cost, success, line = problem.cost, problem.success, np.arange(problem.n)
    crowded = np.full(problem.m, math.ceil(CROWDED * problem.n / problem.m))
    low = float(success[line, cost.argmin(axis=1)].mean())
    high = float(success.max(axis=1).mean())
    for name, limits in (("none", None), (f"{CROWDED:g} n/m", crowded)):
        room = np.full(problem.m, problem.n) if limits is None else limits
        for share in FLOORS:
            floor = low + share * (high - low)
            times = [time.perf_counter()]
            best = solve(one_floor(cost, success, floor, capacity=limits))
            times.append(time.perf_counter())
            if Status.INFEASIBLE_FLOOR in best.statuses:
                continue
            ascent = dual_ascent(cost, success, floor, limits)
            times.append(time.perf_counter())
            bound, seconds = best.lower_bound, np.diff(times)
            both = (("ours", best.choice), ("dual ascent", ascent))
            for k, (optimizer, choice) in enumerate(both):
                short = max(floor - float(success[line, choice].mean()), 0.0)
                used = np.bincount(choice, minlength=problem.m)
                over = int(np.maximum(used - room, 0).sum())
                kept = short <= SLACK and over == 0 and bound > 0
                ratio = float(cost[line, choice].sum()) / bound if kept else math.nan
                found.append(Trial(name, optimizer, ratio, short, over, float(seconds[k])))
    return found


def summarize_trials(found: Sequence[Trial]) -> list[OptimizerRow]:
    """One row per optimizer and kind of limits."""
    rows = []
    for key in dict.fromkeys((trial.limits, trial.optimizer) for trial in found):
        part = [trial for trial in found if (trial.limits, trial.optimizer) == key]
        rows.append(
            OptimizerRow(
                limits=key[0],
                optimizer=key[1],
                cost_ratio=ratio_over_splits([trial.cost_ratio for trial in part]),
                kept=float(np.mean([trial.short <= SLACK for trial in part])),
                worst_short=max(trial.short for trial in part),
                over=float(np.mean([trial.over for trial in part])),
                milliseconds=float(np.mean([trial.seconds for trial in part])) * 1e3,
            )
        )
    return rows
