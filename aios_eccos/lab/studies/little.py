"""Forecasts and floors on few records, on what was served, of new models; certified floors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aios_eccos.floor.certify import Certifier, Refusal
from aios_eccos.forecast.head.refit import TOLERANCE, brier_on
from aios_eccos.forecast.head.train import Trained, train
from aios_eccos.forecast.parts import held_back
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted
from aios_eccos.lab.metrics import brier, ratio
from aios_eccos.lab.problem import Arrival, Problem, pose
from aios_eccos.lab.served import expected, learned_of, priced, settings_of, stream
from aios_eccos.lab.studies.quality import floor_errors
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, IntArray
from aios_eccos.workload.memory import MemoryWorkload

#: Records that there are; outcomes of the new model that are known, beside all of them.
FEW, FRESH = (50, 200, 1000), (0, 20, 100)
#: Splits that few records are measured on at most.
SPLITS = 5
IN_ORDER = Arrival(order="file")


def few_records(
    data: Recorded, number: int, seed: int, floors: Sequence[float], count: int
) -> dict[str, Any]:
    """Floor errors and Brier when only `count` records of a split's history are there."""
    history, test = data.split(number, seed)
    kept = np.sort(_shuffled(data, history, f"{seed}:{number}:few")[:count])
    problem = pose(Fitted(data, kept), "hybrid", test, IN_ORDER)
    errors = floor_errors(problem, floors)
    return {
        "records": count,
        "split": number,
        "floor_error": float(np.abs(errors).mean()),
        "bias": float(errors.mean()),
        "brier": brier(problem.success, problem.outcomes),
    }


def new_model(
    data: Recorded, number: int, seed: int, name: str, count: int | None
) -> dict[str, Any]:
    """Brier on a model of which `count` outcomes of a split's history are known; None: all."""
    history, test = data.split(number, seed)
    column = data.table.models.index(name)
    order = _shuffled(data, history, f"{seed}:{number}:new")
    count = len(history) if count is None else count
    known = np.ones(data.table.correctness.shape, dtype=bool)
    known[order[count:], column] = False
    fitted = Fitted(data, history, table=_known_of(data, known, history))
    success, _ = fitted.of_rows("hybrid", test)
    found = brier(success[:, column], data.table.correctness[test, column])
    return {"model": name, "outcomes": count, "split": number, "brier": found}


def middle_model(data: Recorded) -> str:
    """The model whose success is nearest the pool's median: neither weak nor strong."""
    means = np.nanmean(data.table.correctness, axis=0)
    return data.table.models[int(np.argmin(np.abs(means - np.median(means))))]


def _shuffled(data: Recorded, rows: IntArray, salt: str) -> IntArray:
    """The rows in the order of their ids' hashes."""
    digests = [_hash(f"{salt}:{data.table.ids[i]}") for i in rows]
    return rows[np.argsort(np.array(digests), kind="stable")]


#: Rounds of serving and re-fitting, and the share of the history that they start from.
ROUNDS, START_SHARE = 5, 0.25


def rounds(
    data: Recorded, number: int, seed: int, floors: Sequence[float], *, turns: int = ROUNDS
) -> list[dict[str, Any]]:
    """Serve, learn from what was served, re-fit, `turns` times; measured on test rows after each.

    The start is a quarter of the history with every model's outcome, as an ingested file gives it.
    Every round serves a share of the rest, one call at a time under control, to the floors in
    turn; of each call only the asked model's outcome is learned. A new head must not be worse on
    rows held back, as in serving (`forecast.head.refit`). Nothing is explored: every model starts
    with verdicts enough.
    """
    history, test = data.split(number, seed)
    order = np.random.default_rng([seed, number]).permutation(history)
    start = int(START_SHARE * len(order))
    known = np.zeros(data.table.correctness.shape, dtype=bool)
    known[order[:start]] = True
    head = _refit(data, known, seed)
    problem = pose(_fitted(data, known, head), "hybrid", test, IN_ORDER)
    first, workload = problem.frontier, MemoryWorkload()
    rows = [_measured(problem, floors, known, 0) | {"taken": True}]
    for turn, part in enumerate(np.array_split(order[start:], turns), start=1):
        had = _serve(_fitted(data, known, head), known, part, floors, workload)
        head, old = _refit(data, known, seed, head), head
        problem = pose(_fitted(data, known, head), "hybrid", test, IN_ORDER)
        costs = [[f.cost_at(floor) for floor in floors] for f in (problem.frontier, first)]
        row = _measured(problem, floors, known, turn)
        row |= {"served_minus_floor": had, "taken": head is not old, "cost_to_start": ratio(*costs)}
        rows.append(row)
    return [{"split": number} | row for row in rows]


def mean_rounds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rounds` of several splits as one row per round."""
    keys = ("outcomes", "brier", "floor_bias", "floor_error", "served_minus_floor", "cost_to_start",
            "taken")  # fmt: skip
    means = []
    for turn in sorted({row["round"] for row in rows}):
        mine = [row for row in rows if row["round"] == turn]
        values = {k: [float(row[k]) for row in mine if row.get(k) is not None] for k in keys}
        means.append(
            {"round": turn} | {k: float(np.mean(v)) if v else None for k, v in values.items()}
        )
    return means


def _known_of(data: Recorded, known: BoolArray, rows: IntArray) -> HistoryTable:
    """What is known of some rows; `known`: (N, m)."""
    table, seen = data.table.rows(rows), known[rows]
    return replace(
        table,
        correctness=np.where(seen, table.correctness, np.nan),
        output_tokens=np.where(seen, table.output_tokens, np.nan),
    )


def _fitted(data: Recorded, known: BoolArray, head: Trained) -> Fitted:
    rows = np.flatnonzero(known.any(axis=1))
    return Fitted(data, rows, table=_known_of(data, known, rows), head=head)


def _refit(data: Recorded, known: BoolArray, seed: int, old: Trained | None = None) -> Trained:
    """A head fitted on what is known, or the old one where it is better on rows held back."""
    rows = np.flatnonzero(known.any(axis=1))
    held = held_back(data.table.rows(rows).keys)
    fit, rest = rows[~held], rows[held]
    new = train(_known_of(data, known, fit), data.layers()[fit], seed=seed)
    if old is None:
        return new
    table, layers = _known_of(data, known, rest), data.layers()[rest]
    better = brier_on(new, table, layers) <= brier_on(old, table, layers) + TOLERANCE
    return new if better else old


def _serve(
    fitted: Fitted,
    known: BoolArray,
    rows: IntArray,
    floors: Sequence[float],
    workload: MemoryWorkload,
) -> float:
    """Serve rows under control, floor by floor; marks what became known. Realised minus floor."""
    problem = pose(fitted, "hybrid", rows, IN_ORDER)
    short = 0.0
    for floor, part in zip(floors, np.array_split(np.arange(len(rows)), len(floors)), strict=True):
        run = stream(problem, settings_of("floor", floor), part, workload=workload)
        known[rows[part], run.choice] = True
        short += float((run.success - floor).sum())
    return short / len(rows)


def _measured(
    problem: Problem, floors: Sequence[float], known: BoolArray, turn: int
) -> dict[str, Any]:
    errors = floor_errors(problem, floors)
    return {
        "round": turn,
        "outcomes": int(known.sum()),
        "brier": brier(problem.success, problem.outcomes),
        "floor_bias": float(errors.mean()),
        "floor_error": float(np.abs(errors).mean()),
    }


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
    problem = pose(Fitted(data, kept), "hybrid", unseen, Arrival(order="file"))
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
    """Each floor's certificate on some rows of the test, and what its price gives on others."""
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
