"""`evaluate-predictor`: every predictor on every split, and the studies of floors on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from aios_eccos.errors import DataError
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import KINDS, Fitted, Kind
from aios_eccos.lab.problem import Plan, Problem, problem_of
from aios_eccos.lab.studies.little import (
    FEW,
    SPLITS,
    certified,
    few_records,
    middle_model,
    new_model,
    rounds,
)
from aios_eccos.lab.studies.quality import (
    ease,
    floor_errors,
    floor_rows,
    held,
    peer_costs,
    quality,
    ratios,
    sampling_sd,
    templates,
)
from aios_eccos.lab.studies.streams import budgets, end_to_end, shift, streams

SCHEMA = "aios-eccos/evaluate-predictor/1"
#: Parts of the report beside `rows`, in the order in which they are measured.
PARTS = ("stream", "budgets", "engine", "ratios", "certified", "few_records", "new_model", "shift",
         "rounds", "templates")  # fmt: skip


def evaluate_predictor(
    data: Recorded,
    floors: Sequence[float],
    *,
    targets: Sequence[float] = (),
    resplits: int = 5,
    seed: int = 0,
    parts: Collection[str] = PARTS,
    new: str | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[dict[str, Any], dict[Kind, list[Problem]]]:
    """Measure on splits 0 to `resplits` - 1; every number is on test rows that no fit has seen.

    Args:
        targets: success levels at which costs are compared with peers'; default the floors.
        parts: which studies to run besides the predictors' own rows.
        new: the model whose outcomes are hidden in the study of new models.

    Returns:
        The report's JSON, and every predictor's problem by split.

    Raises:
        DataError: a split has no test rows, or `new` is unknown.
    """
    if new is not None and new not in data.table.models:
        raise DataError(f"{new!r} is not in the data: {', '.join(data.table.models)}")
    problems: dict[Kind, list[Problem]] = {kind: [] for kind in KINDS}
    rows: list[dict[str, Any]] = []
    for number in range(resplits):
        progress(f"split {number}")
        fitted: Fitted | None = None
        for kind in KINDS:
            problem = problem_of(data, number, kind, Plan(order="file", seed=seed), fitted)
            fitted = problem.fitted
            head = {"predictor": kind, "split": number} | quality(problem)
            rows.append(head | {"floors": floor_rows(problem, floors)})
            problems[kind].append(problem)
    hybrid = problems["hybrid"]
    errors = np.array([floor_errors(problem, floors) for problem in hybrid])
    sd = np.array([[sampling_sd(problem, floor) for floor in floors] for problem in hybrid])
    eases = np.array([ease(problem) for problem in hybrid])
    body: dict[str, Any] = {"rows": rows, "floors_held": held(errors, sd, eases, seed)}
    body |= {"ratios": [], "stream": [], "certified": []}
    hidden = new or middle_model(data)
    studies = _studies(data, hybrid, floors, targets or floors, seed, hidden, progress)
    for part in PARTS:
        if part in parts and (found := studies[part]()) is not None:
            body[part] = found
    return body, problems


def _studies(
    data: Recorded,
    problems: Sequence[Problem],
    floors: Sequence[float],
    targets: Sequence[float],
    seed: int,
    hidden: str,
    progress: Callable[[str], None],
) -> dict[str, Callable[[], Any]]:
    """What makes each of `PARTS` from the hybrid's problems of all splits."""

    def each(name: str, most: int | None = None) -> Iterator[int]:
        for number in range(len(problems))[:most]:
            progress(f"{name} {number}")
            yield number

    def once(name: str, study: Callable[[], Any]) -> Callable[[], Any]:
        def told() -> Any:
            progress(name)
            return study()

        return told

    middle = sorted(floors)[len(floors) // 2]
    counts = [count for count in FEW if count < 0.7 * len(data.table)]
    several = len(set(data.table.tasks)) > 1
    return {
        "stream": once("streams", lambda: streams(problems, floors)),
        "budgets": once("budgets", lambda: budgets(problems)),
        "engine": once("engine", lambda: end_to_end(problems[0], middle, 0)),
        "ratios": once("peers", lambda: ratios([peer_costs(p, targets) for p in problems])),
        "certified": lambda: [
            row for n in each("certified") for row in certified(data, n, seed, floors)
        ],
        "few_records": lambda: [
            few_records(data, n, seed, floors, count)
            for count in counts
            for n in each(f"{count} records, split", SPLITS)
        ],
        "new_model": once("new model", lambda: new_model(data, 0, seed, hidden)),
        "shift": once("shift", lambda: shift(data, seed) if several else None),
        "rounds": lambda: [row for n in each("rounds") for row in rounds(data, n, seed, floors)],
        "templates": once("templates", lambda: templates(problems[0], 0)),
    }
