"""Certified floors: issued on rows that no fit has seen, and whether they are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aios_eccos.floor.certify import Certifier, Refusal
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted
from aios_eccos.lab.problem import Plan, Problem, pose
from aios_eccos.lab.served import expected, learned_of, priced, settings_of
from aios_eccos.values import IntArray

#: Draws of the calibration rows, and the share of all rows that is fitted on.
DRAWS, FITTED = 5, 0.4


def certified(
    data: Recorded, number: int, seed: int, floors: Sequence[float]
) -> list[dict[str, Any]]:
    """Certify on rows that no fit has seen, and look whether the floor is kept.

    The head and the grid are made on 40 % of all rows. A certificate speaks of the chance that a
    call drawn like the calibration rows succeeds. To know that chance exactly, the unseen rows are
    taken for all calls there are: each draw calibrates on as many calls, drawn from them with
    replacement, and what is realised is their mean (`way: drawn`). With `way: halves` one half of
    the unseen rows calibrates and the other half is served; there the sampling error of the served
    half (sd .015 at 852 rows) comes on top of what the certificate speaks of.
    """
    history, test = data.split(number, seed)
    # By text, so that equal questions stay on one side.
    order = sorted(history, key=lambda i: _hash(f"{seed}:{number}:{data.table.texts[i]}"))
    count = int(FITTED * len(data.table))
    kept, rest = np.sort(order[:count]), np.sort(order[count:])
    unseen = np.concatenate([rest, test])
    problem = pose(Fitted(data, kept), "hybrid", unseen, Plan(order="file"))
    rows = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, number, draw])
        one, other = np.array_split(rng.permutation(len(unseen)), 2)
        drawn = rng.integers(0, len(unseen), len(unseen))
        everything = np.arange(len(unseen))
        for way, calibrate, calls in (("drawn", drawn, everything), ("halves", one, other)):
            head = {"split": number, "draw": draw, "way": way}
            rows += [head | row for row in _certify(problem, calibrate, calls, floors)]
    return rows


def _certify(
    problem: Problem, calibrate: IntArray, calls: IntArray, floors: Sequence[float]
) -> list[dict[str, Any]]:
    """Each floor's certificate on some rows, and what its price gives on others.

    Args:
        calibrate, calls: numbers of test rows.
    """
    seen, served = problem.calls.rows(calibrate), problem.calls.rows(calls)
    data = _hash(" ".join(problem.test.ids[i] for i in calibrate))[:16]
    made = Certifier(problem.models, seen.success, seen.outcomes, seen.cost, problem.book, data)
    learned = replace(learned_of(problem), certifier=made)
    rows = []
    for floor in floors:
        paper = made.at(floor)
        row: dict[str, Any] = {"asked": floor, "n": paper.n, "delta": paper.delta, "realised": None}
        if isinstance(paper, Refusal):
            rows.append(row | {"reachable": paper.reachable})
            continue
        price = priced(problem, settings_of("floor", floor, floor_mode="certified"), learned)
        realised, cost = served.came_to(served.choose(price.value))
        _, plain = served.came_to(served.choose(expected(problem, floor).value))
        row |= {"realised": realised, "cost_per_call_usd": cost, "cost_ratio": cost / plain}
        rows.append(row)
    return rows


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
