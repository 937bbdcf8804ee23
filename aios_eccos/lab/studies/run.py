"""`evaluate-predictor`: every predictor on every split, and studies, as tasks to share out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.errors import DataError
from aios_eccos.lab.dataset import Recorded, load_dataset, open_recorded
from aios_eccos.lab.fitted import KINDS, Fitted, Kind
from aios_eccos.lab.problem import Arrival, Problem, problem_of
from aios_eccos.lab.processes import Carried, Carry, Task, alone
from aios_eccos.lab.studies.little import (
    FEW,
    FRESH,
    SPLITS,
    certified,
    few_records,
    middle_model,
    new_model,
    rounds,
)
from aios_eccos.lab.studies.prompts import long_prompts
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
from aios_eccos.lab.studies.streams import (
    budget_rows,
    budgets,
    budgets_asked,
    end_to_end,
    shift,
    stream_rows,
    streams,
)
from aios_eccos.values import FloatArray

#: Parts of the report beside `rows`, in the order in which they stand there.
PARTS = ("stream", "budgets", "engine", "ratios", "certified", "few_records", "new_model", "shift",
         "rounds", "templates", "prompts")  # fmt: skip
#: Parts that are measured unless others are asked for; the last one takes minutes.
USUAL = PARTS[:-1]
#: About how long a task of each part takes on math10, in tenths of a second: for what is begun
#: first, and for the time left.
EFFORT = {"rows": 40, "stream": 410, "budgets": 50, "engine": 85, "ratios": 80, "certified": 25,
          "few_records": 12, "new_model": 32, "shift": 150, "rounds": 160, "templates": 25,
          "prompts": 2000}  # fmt: skip

#: (success forecast, success had) of all test rows and models, by predictor: for a diagram.
Reliability = dict[Kind, tuple[FloatArray, FloatArray]]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured; `new` is the model whose outcomes are hidden in the study of new models."""

    floors: tuple[float, ...]
    targets: tuple[float, ...] = ()
    resplits: int = 5
    seed: int = 0
    parts: tuple[str, ...] = USUAL
    new: str | None = None

    def tasks(self, data: Recorded) -> list[Task]:
        """The studies' tasks: a part, then what its method in `Studies` takes."""
        every = range(self.resplits)
        counts = [count for count in FEW if count < 0.7 * len(data.table)]
        several = len(set(data.table.tasks)) > 1
        found: dict[str, list[Task]] = {part: [(n,) for n in every] for part in PARTS}
        found |= {part: [(0,)] for part in ("engine", "templates", "prompts")}
        found["few_records"] = [(count, n) for count in counts for n in every[:SPLITS]]
        found["new_model"] = [(count,) for count in (*FRESH, None)]
        found["shift"] = [()] if several else []
        return [(part, *given) for part in PARTS if part in self.parts for given in found[part]]


class Studies:
    """The tasks on a data set, each a method; the hybrid's problems of splits are kept."""

    def __init__(self, data: Recorded, asked: Asked) -> None:
        self._data, self._asked = data, asked
        self._hybrid: dict[int, Problem] = {}
        self.budgets_asked = budgets_asked(
            data, [data.split(number, asked.seed)[0] for number in range(asked.resplits)]
        )

    def __call__(self, task: Task) -> Any:
        part, *given = task
        return getattr(self, part)(*given)

    def _problem(self, number: int) -> Problem:
        if number not in self._hybrid:
            arrival = Arrival(order="file", seed=self._asked.seed)
            self._hybrid[number] = problem_of(self._data, number, "hybrid", arrival)
        return self._hybrid[number]

    def rows(self, number: int) -> dict[str, Any]:
        """What every predictor does on a split, and how the hybrid's floors hold there."""
        floors, arrival = self._asked.floors, Arrival(order="file", seed=self._asked.seed)
        rows, told = [], {}
        fitted: Fitted | None = None
        for kind in KINDS:
            problem = problem_of(self._data, number, kind, arrival, fitted)
            fitted = problem.fitted
            head = {"predictor": kind, "split": number} | quality(problem)
            rows.append(head | {"floors": floor_rows(problem, floors)})
            told[kind] = problem.success.ravel(), problem.outcomes.ravel()
        self._hybrid[number] = problem
        sd = [sampling_sd(problem, floor) for floor in floors]
        found = {"errors": floor_errors(problem, floors), "sd": sd, "ease": ease(problem)}
        return found | {"rows": rows, "reliability": told}

    def stream(self, number: int) -> Any:
        return streams(self._problem(number), number, self._asked.floors)

    def budgets(self, number: int) -> Any:
        return budgets(self._problem(number), number, self.budgets_asked)

    def engine(self, number: int) -> Any:
        floors = sorted(self._asked.floors)
        return end_to_end(self._problem(number), floors[len(floors) // 2], number)

    def ratios(self, number: int) -> Any:
        return peer_costs(self._problem(number), self._asked.targets or self._asked.floors)

    def certified(self, number: int) -> Any:
        return certified(self._data, number, self._asked.seed, self._asked.floors)

    def few_records(self, count: int, number: int) -> Any:
        return [few_records(self._data, number, self._asked.seed, self._asked.floors, count)]

    def new_model(self, count: int | None) -> Any:
        name = self._asked.new or middle_model(self._data)
        return [new_model(self._data, 0, self._asked.seed, name, count)]

    def shift(self) -> Any:
        return shift(self._data, self._asked.seed)

    def rounds(self, number: int) -> Any:
        return rounds(self._data, number, self._asked.seed, self._asked.floors)

    def templates(self, number: int) -> Any:
        return templates(self._problem(number), number)

    def prompts(self, number: int) -> Any:
        return long_prompts(self._problem(number))


def evaluate_predictor(
    data: Recorded,
    asked: Asked,
    *,
    shared: AbstractContextManager[Carried] | None = None,
    progress: Progress = lambda effort: None,
) -> tuple[dict[str, Any], Reliability]:
    """The JSON of splits 0 to `asked.resplits` - 1, and every predictor's reliability.

    Every number is on test rows that no fit has seen. DataError: a split has no test rows, or
    `asked.new` is unknown.

    Args:
        shared: what carries out `asked.tasks` of the same data; default: this process.
        progress: told of each task that is done, by its `EFFORT`.
    """
    if asked.new is not None and asked.new not in data.table.models:
        raise DataError(f"{asked.new!r} is not in the data: {', '.join(data.table.models)}")
    studies = Studies(data, asked)
    found: dict[Task, Any] = {}
    with shared or nullcontext(alone(studies)) as carried:
        # What all else needs comes first: heads of splits are fitted once, and kept on disk.
        first: list[Task] = [("rows", number) for number in range(asked.resplits)]
        for tasks in (first, asked.tasks(data)):
            for task, result in carried(sorted(tasks, key=lambda task: -EFFORT[task[0]])):
                found[task] = result
                progress(EFFORT[task[0]])
    by_part: dict[str, list[Any]] = {part: [] for part in asked.parts}
    for task in asked.tasks(data):
        by_part[task[0]].append(found[task])
    splits = [found["rows", number] for number in range(asked.resplits)]
    return _body(asked.seed, studies.budgets_asked, by_part, splits)


def open_studies(path: Path, prices: Path | None, asked: Asked) -> Carry:
    """The studies of a file of recorded answers, in whatever process."""
    return Studies(open_recorded(load_dataset([path]), prices, layers=True), asked)


def efforts(data: Recorded, asked: Asked) -> int:
    """All that `progress` will be told of."""
    return sum(EFFORT[part] for part, *_ in asked.tasks(data)) + asked.resplits * EFFORT["rows"]


def _body(
    seed: int,
    budgets_asked: Sequence[float],
    by_part: dict[str, list[Any]],
    splits: Sequence[dict[str, Any]],
) -> tuple[dict[str, Any], Reliability]:
    errors, sd, eases = (np.array([split[name] for split in splits]) for name in
                         ("errors", "sd", "ease"))  # fmt: skip
    rows = [row for split in splits for row in split["rows"]]
    body: dict[str, Any] = {"rows": rows, "floors_held": held(errors, sd, eases, seed)}
    body |= {"ratios": [], "stream": [], "certified": []}
    joined: dict[str, Callable[[list[Any]], Any]] = {
        "stream": stream_rows,
        "budgets": lambda found: budget_rows(budgets_asked, found),
        "ratios": ratios,
        "shift": lambda found: found[0],
    }
    for part, found in by_part.items():
        if part not in joined:
            body[part] = [row for rows in found for row in rows]
        elif found:
            body[part] = joined[part](found)
    told: Reliability = {}
    for kind in KINDS:
        said, had = zip(*(split["reliability"][kind] for split in splits), strict=True)
        told[kind] = np.concatenate(said), np.concatenate(had)
    return body, told
