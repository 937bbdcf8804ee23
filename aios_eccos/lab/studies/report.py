"""`evaluate-predictor`: every predictor on every split, and the studies of floors on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aios_eccos.errors import DataError
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import KINDS, Fitted
from aios_eccos.lab.problem import Plan, Problem, problem_of
from aios_eccos.lab.studies.certified import certified
from aios_eccos.lab.studies.end_to_end import end_to_end
from aios_eccos.lab.studies.little import FEW, SPLITS, few_records, middle_model, new_model
from aios_eccos.lab.studies.quality import (
    ease,
    floor_rows,
    held,
    peer_costs,
    quality,
    ratios,
    sampling_sd,
)
from aios_eccos.lab.studies.rounds import rounds
from aios_eccos.lab.studies.streams import budgets, shift, streams
from aios_eccos.lab.studies.templates import templates

SCHEMA = "aios-eccos/evaluate-predictor/1"


@dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
        floors: asked for. targets: success levels at which costs are compared with peers'.
        splits: numbers 0 to `splits` - 1. new: the model whose outcomes are hidden.
        progress: told each step.
    """

    data: Recorded
    floors: Sequence[float]
    targets: Sequence[float]
    splits: int
    seed: int
    new: str
    progress: Callable[[str], None] = lambda step: None

    def each_split(
        self, name: str, study: Callable[[int], list[dict[str, Any]]], most: int | None = None
    ) -> list[dict[str, Any]]:
        """A study's rows of every split (of the first `most`)."""
        found = []
        for number in range(min(self.splits, most or self.splits)):
            self.progress(f"{name} {number}")
            found += study(number)
        return found


@dataclass(frozen=True)
class Report:
    """JSON of the design, and every predictor's problem by split for the reliability diagram."""

    body: dict[str, Any]
    problems: dict[str, list[Problem]] = field(default_factory=dict)


def _streams(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("streams")
    return streams(problems, asked.floors)


def _budgets(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("budgets")
    return budgets(problems)


def _engine(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("engine")
    middle = sorted(asked.floors)[len(asked.floors) // 2]
    return end_to_end(problems[0], middle, 0)


def _ratios(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("peers")
    return ratios([peer_costs(problem, asked.targets) for problem in problems])


def _certified(asked: Asked, problems: Sequence[Problem]) -> Any:
    def study(number: int) -> list[dict[str, Any]]:
        return certified(asked.data, number, asked.seed, asked.floors)

    return asked.each_split("certified", study)


def _few(asked: Asked, problems: Sequence[Problem]) -> Any:
    counts = [count for count in FEW if count < 0.7 * len(asked.data.table)]

    def study(count: int) -> Callable[[int], list[dict[str, Any]]]:
        return lambda number: [few_records(asked.data, number, asked.seed, asked.floors, count)]

    return [
        row for n in counts for row in asked.each_split(f"{n} records, split", study(n), SPLITS)
    ]


def _new(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("new model")
    return new_model(asked.data, 0, asked.seed, asked.new)


def _shift(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("shift")
    return shift(asked.data, asked.seed) if len(set(asked.data.table.tasks)) > 1 else None


def _rounds(asked: Asked, problems: Sequence[Problem]) -> Any:
    def study(number: int) -> list[dict[str, Any]]:
        return rounds(asked.data, number, asked.seed, asked.floors)

    return asked.each_split("rounds", study)


def _templates(asked: Asked, problems: Sequence[Problem]) -> Any:
    asked.progress("templates")
    return templates(problems[0], 0)


#: Parts of the report beside `rows`, by name, from the hybrid's problems of all splits.
STUDIES: dict[str, Callable[[Asked, Sequence[Problem]], Any]] = {
    "stream": _streams,
    "budgets": _budgets,
    "engine": _engine,
    "ratios": _ratios,
    "certified": _certified,
    "few_records": _few,
    "new_model": _new,
    "shift": _shift,
    "rounds": _rounds,
    "templates": _templates,
}
PARTS = tuple(STUDIES)


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
) -> Report:
    """Measure on splits 0 to `resplits` - 1; every number is on test rows that no fit has seen.

    Args:
        targets: success levels at which costs are compared with peers'; default the floors.
        parts: which studies to run besides the predictors' own rows.
        new: the model whose outcomes are hidden in the study of new models.

    Raises:
        DataError: a split has no test rows, or `new` is unknown.
    """
    if new is not None and new not in data.table.models:
        raise DataError(f"{new!r} is not in the data: {', '.join(data.table.models)}")
    asked = Asked(
        data, floors, targets or floors, resplits, seed, new or middle_model(data), progress
    )
    rows: list[dict[str, Any]] = []
    problems: dict[str, list[Problem]] = {kind: [] for kind in KINDS}
    for number in range(resplits):
        progress(f"split {number}")
        fitted: Fitted | None = None
        for kind in KINDS:
            problem = problem_of(data, number, kind, Plan(order="file", seed=seed), fitted)
            fitted = problem.fitted
            head = {"predictor": kind, "split": number} | quality(problem)
            rows.append(head | {"floors": floor_rows(problem, floors)})
            problems[kind].append(problem)
    hybrid = [row["floors"] for row in rows if row["predictor"] == "hybrid"]
    errors = np.array([[f["realised"] - f["asked"] for f in split] for split in hybrid])
    sd = np.array([[sampling_sd(p, floor) for floor in floors] for p in problems["hybrid"]])
    eases = np.array([ease(problem) for problem in problems["hybrid"]])
    body: dict[str, Any] = {"rows": rows, "floors_held": held(errors, sd, eases, seed)}
    body |= {"ratios": [], "stream": [], "certified": []}
    for part in PARTS:
        if part in parts and (found := STUDIES[part](asked, problems["hybrid"])) is not None:
            body[part] = found
    return Report(body, problems)
