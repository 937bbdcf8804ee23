"""What serving does to the forecasts: rounds of serving and of re-fitting on what was served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aios_eccos.forecast.head.refit import TOLERANCE, brier_on
from aios_eccos.forecast.head.train import Trained, train
from aios_eccos.forecast.parts import held_back
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted
from aios_eccos.lab.metrics import brier, ratio
from aios_eccos.lab.problem import Plan, Problem, pose
from aios_eccos.lab.served import settings_of, stream
from aios_eccos.lab.studies.quality import floor_errors
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, IntArray
from aios_eccos.workload.memory import MemoryWorkload

#: Rounds of serving and re-fitting, and the share of the history that they start from.
ROUNDS, START_SHARE = 5, 0.25
PLAN = Plan(order="file")


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
    problem = pose(_fitted(data, known, head), "hybrid", test, PLAN)
    first, workload = problem.frontier, MemoryWorkload()
    rows = [_measured(problem, floors, known, 0) | {"taken": True}]
    for turn, part in enumerate(np.array_split(order[start:], turns), start=1):
        had = _serve(_fitted(data, known, head), known, part, floors, workload)
        new = _refit(data, known, seed)
        taken = _not_worse(new, head, data, known)
        head = new if taken else head
        problem = pose(_fitted(data, known, head), "hybrid", test, PLAN)
        costs = [[f.cost_at(floor) for floor in floors] for f in (problem.frontier, first)]
        row = _measured(problem, floors, known, turn)
        row |= {"served_minus_floor": had, "taken": taken, "cost_to_start": ratio(*costs)}
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
    """What is known of some rows.

    Args:
        known: (N, m) outcomes that are.
    """
    table, seen = data.table.rows(rows), known[rows]
    return replace(
        table,
        correctness=np.where(seen, table.correctness, np.nan),
        output_tokens=np.where(seen, table.output_tokens, np.nan),
    )


def _fitted(data: Recorded, known: BoolArray, head: Trained) -> Fitted:
    rows = np.flatnonzero(known.any(axis=1))
    return Fitted(data, rows, table=_known_of(data, known, rows), head=head)


def _parts(data: Recorded, known: BoolArray) -> tuple[IntArray, IntArray]:
    """Rows to fit on, and rows held back to compare heads on."""
    rows = np.flatnonzero(known.any(axis=1))
    held = held_back(data.table.rows(rows).keys)
    return rows[~held], rows[held]


def _refit(data: Recorded, known: BoolArray, seed: int) -> Trained:
    rows, _ = _parts(data, known)
    return train(_known_of(data, known, rows), data.layers()[rows], seed=seed)


def _not_worse(new: Trained, old: Trained, data: Recorded, known: BoolArray) -> bool:
    _, rows = _parts(data, known)
    table, layers = _known_of(data, known, rows), data.layers()[rows]
    return brier_on(new, table, layers) <= brier_on(old, table, layers) + TOLERANCE


def _serve(
    fitted: Fitted,
    known: BoolArray,
    rows: IntArray,
    floors: Sequence[float],
    workload: MemoryWorkload,
) -> float:
    """Serve rows under control, floor by floor; marks what became known. Realised minus floor."""
    problem = pose(fitted, "hybrid", rows, PLAN)
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
