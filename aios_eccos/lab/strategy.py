"""Strategies: what they are asked for, what they choose, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.lab.problem import Problem
from aios_eccos.values import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Setting:
    """What a strategy was asked for: a floor, budget ($ per call), lambda or threshold; or none."""

    name: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Picked:
    """What a strategy chose.

    Attributes:
        choice: (n,) columns.
        promised: mean success that it says it will have, NaN where it says nothing.
        rounds: (n,) batch in which each row was served, if some had to wait.
        mix: (m,) probabilities instead of a choice: then figures are expectations.
    """

    choice: IntArray
    promised: float = float("nan")
    rounds: IntArray | None = None
    mix: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to choose.

    Attributes:
        settings: the settings that make its frontier, given the floors and budgets asked for.
        choose: from a problem and a setting.
        forecasts: whether it uses the predictor's forecasts.
        source: the paper or system, and what was left out; "" for plain ones.
        clairvoyant: whether it looks at the outcomes first.
    """

    name: str
    settings: Callable[[Problem, Sequence[Setting]], Sequence[Setting]]
    choose: Callable[[Problem, Setting], Picked]
    forecasts: bool = False
    source: str = ""
    clairvoyant: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """One strategy at one setting on one split: a row of the report.

    Attributes:
        success, cost: means per call (fraction; dollars).
        violations: rows above a model's limit, summed over batches.
        decision_s: seconds per row, forecasts not included.
        share: (m,) of the rows.
        tasks: mean success by task.
    """

    strategy: str
    predictor: str | None
    setting: Setting
    split: int
    success: float
    promised: float
    cost: float
    violations: int
    decision_s: float
    share: FloatArray
    tasks: dict[str, float]


def play(strategy: Strategy, problem: Problem, setting: Setting, split: int) -> Played:
    """Let a strategy choose and look up what became of it."""
    begun = time.perf_counter()
    picked = strategy.choose(problem, setting)
    seconds = time.perf_counter() - begun
    shares = np.zeros((problem.n, problem.m))
    if picked.mix is not None:
        shares[:] = picked.mix
    else:
        shares[np.arange(problem.n), picked.choice] = 1.0
    got = (shares * problem.outcomes).sum(axis=1)
    tasks = np.array(problem.test.tasks)
    return Played(
        strategy=strategy.name,
        predictor=problem.kind if strategy.forecasts else None,
        setting=setting,
        split=split,
        success=float(got.mean()),
        promised=picked.promised,
        cost=float((shares * problem.spent).sum(axis=1).mean()),
        violations=violations(problem, shares, picked.rounds),
        decision_s=seconds / problem.n,
        share=shares.mean(axis=0),
        tasks={str(task): float(got[tasks == task].mean()) for task in np.unique(tasks)},
    )


def violations(problem: Problem, shares: FloatArray, rounds: IntArray | None) -> int:
    """Rows above a model's limit, summed over models and batches.

    Args:
        shares: (n, m) of each row that went to each model. rounds: (n,) batch of each row.
    """
    if problem.limits is None:
        return 0
    if rounds is None:
        rounds = np.arange(problem.n) // problem.batch
    over = 0.0
    for number in np.unique(rounds):
        used = shares[rounds == number].sum(axis=0)
        over += float(np.maximum(used - problem.limits, 0).sum())
    return int(np.ceil(over - 1e-9))
