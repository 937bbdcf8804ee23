"""Forecasts and floors with little history, and of a model that history hardly knows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted
from aios_eccos.lab.metrics import brier
from aios_eccos.lab.problem import Plan, pose
from aios_eccos.lab.studies.quality import floor_errors
from aios_eccos.values import IntArray

#: Records that there are; outcomes of the new model that are known, beside all of them.
FEW, FRESH = (50, 200, 1000), (0, 20, 100)
#: Splits that few records are measured on at most.
SPLITS = 5
PLAN = Plan(order="file")


def few_records(
    data: Recorded, number: int, seed: int, floors: Sequence[float], count: int
) -> dict[str, Any]:
    """Floor errors and Brier when only `count` records of a split's history are there."""
    history, test = data.split(number, seed)
    kept = np.sort(_shuffled(data, history, f"{seed}:{number}:few")[:count])
    problem = pose(Fitted(data, kept), "hybrid", test, PLAN)
    errors = floor_errors(problem, floors)
    return {
        "records": count,
        "split": number,
        "floor_error": float(np.abs(errors).mean()),
        "bias": float(errors.mean()),
        "brier": brier(problem.success, problem.outcomes),
    }


def new_model(data: Recorded, number: int, seed: int, name: str) -> list[dict[str, Any]]:
    """Brier on a model of which 0, 20, 100 and all outcomes of a split's history are known."""
    history, test = data.split(number, seed)
    column = data.table.models.index(name)
    order = _shuffled(data, history, f"{seed}:{number}:new")
    rows = []
    for count in (*FRESH, len(history)):
        hidden = np.isin(history, order[count:])
        table = data.table.rows(history)
        correctness, tokens = table.correctness.copy(), table.output_tokens.copy()
        correctness[hidden, column] = tokens[hidden, column] = np.nan
        known = replace(table, correctness=correctness, output_tokens=tokens)
        success, _ = Fitted(data, history, table=known).of_rows("hybrid", test)
        y = data.table.correctness[test, column]
        found = brier(success[:, column], y)
        rows.append({"model": name, "outcomes": count, "split": number, "brier": found})
    return rows


def middle_model(data: Recorded) -> str:
    """The model whose success is nearest the pool's median: neither weak nor strong."""
    means = np.nanmean(data.table.correctness, axis=0)
    return data.table.models[int(np.argmin(np.abs(means - np.median(means))))]


def _shuffled(data: Recorded, rows: IntArray, salt: str) -> IntArray:
    """The rows in the order of their ids' hashes."""
    digests = [hashlib.sha256(f"{salt}:{data.table.ids[i]}".encode()).hexdigest() for i in rows]
    return rows[np.argsort(np.array(digests), kind="stable")]
