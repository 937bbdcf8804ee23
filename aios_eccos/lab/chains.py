"""Fixed rules beside plans: chains of models that are the same for every call.

A chain asks its models one after the other until two answers agree; else the last one's is given. A
plan that serves every call is a chain of three. Answers without a key agree with none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np

from aios_eccos.lab.baselines import eccos
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.strategy import Picked, Setting, Strategy, floors
from aios_eccos.values import BoolArray, FloatArray, IntArray

#: Columns of models in the order in which they are asked.
Chain: TypeAlias = tuple[int, ...]
#: Models tried as the last of three: those with the highest success on history.
LAST = 3


class Option(NamedTuple):
    """A chain with its mean success and dollars on history."""

    success: float
    cost: float
    chain: Chain


def followed(answers: IntArray, chain: Chain) -> tuple[IntArray, BoolArray]:
    """(n,) columns whose answers are given, and (n, m) which are asked; of (n, m) answers."""
    given = np.full(len(answers), -1, dtype=np.int64)
    asked = np.zeros(answers.shape, dtype=bool)
    for place, column in enumerate(chain):
        waits = given < 0
        asked[waits, column] = True
        own = answers[:, [column]]
        agrees = ((answers[:, list(chain[:place])] == own) & (own != 0)).any(axis=1)
        given[waits & (agrees | (place == len(chain) - 1))] = column
    return given, asked


def plans(success: FloatArray, cost: FloatArray) -> list[Chain]:
    """Every two models and a dearer third; of (m,) means on history."""
    last = np.argsort(-success, kind="stable")[:LAST].tolist()
    order = np.argsort(cost, kind="stable").tolist()
    return [
        (*pair, escape)
        for escape in last
        for pair in combinations([j for j in order if cost[j] < cost[escape]], 2)
    ]


def cascades(success: FloatArray, cost: FloatArray) -> list[Chain]:
    """The cheapest two models, three, and so on; those that a cheaper one beats are left out."""
    order = np.argsort(cost, kind="stable")
    best = np.maximum.accumulate(success[order])
    front = order[np.diff(best, prepend=-np.inf) > 0].tolist()
    return [tuple(front[:length]) for length in range(2, len(front) + 1)]


def fixed(name: str, chains: Callable[[FloatArray, FloatArray], Sequence[Chain]]) -> Strategy:
    """The cheapest chain that meets the floor on history, else the one that succeeds most often."""

    @functools.lru_cache(maxsize=1)
    def options(problem: Problem) -> list[Option]:
        table, spent = problem.history, problem.past_cost
        whole = ~(np.isnan(table.correctness) | np.isnan(spent)).any(axis=1)
        answers, line = table.answers[whole], np.arange(int(whole.sum()))
        found = []
        for chain in chains(*problem.past_means()):
            given, asked = followed(answers, chain)
            success = float(table.correctness[whole][line, given].mean())
            found.append(Option(success, float((asked * spent[whole]).sum(axis=1).mean()), chain))
        return found

    def choose(problem: Problem, setting: Setting) -> Picked:
        known = options(problem)
        kept = [option for option in known if option.success >= setting.number]
        best = min(kept, key=lambda o: o.cost) if kept else max(known, key=lambda o: o.success)
        given, asked = followed(problem.test.answers, best.chain)
        success = problem.outcomes[np.arange(problem.n), given]
        came_to = success, (asked * problem.spent).sum(axis=1)
        return Picked(given, promised=best.success, came_to=came_to)

    return Strategy(name, floors, choose)


def eccos_models(problem: Problem, setting: Setting) -> Picked:
    """This plugin without plans."""
    return eccos(problem.alone, setting)


STRATEGIES: tuple[Strategy, ...] = (
    Strategy(
        "eccos_models", lambda problem, asked: floors(problem.alone, asked), eccos_models, True
    ),
    fixed("agree", plans),
    fixed("cascade", cascades),
)
