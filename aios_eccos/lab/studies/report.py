"""`evaluate-predictor`: every predictor on every split, studies of floors, and acceptance."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aios_eccos.errors import DataError
from aios_eccos.floor.control import BOOST, ETA
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import KINDS, Fitted, Kind
from aios_eccos.lab.problem import Arrival, Problem, problem_of
from aios_eccos.lab.studies.little import (
    FEW,
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
from aios_eccos.lab.studies.streams import budgets, end_to_end, shift, streams

SCHEMA = "aios-eccos/evaluate-predictor/1"
#: Parts of the report beside `rows`, in the order in which they are measured.
PARTS = ("stream", "budgets", "engine", "ratios", "certified", "few_records", "new_model", "shift",
         "rounds", "templates", "prompts")  # fmt: skip
#: Parts that are measured unless others are asked for; the last one takes minutes.
USUAL = PARTS[:-1]


def evaluate_predictor(
    data: Recorded,
    floors: Sequence[float],
    *,
    targets: Sequence[float] = (),
    resplits: int = 5,
    seed: int = 0,
    parts: Collection[str] = USUAL,
    new: str | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[dict[str, Any], dict[Kind, list[Problem]]]:
    """The JSON of splits 0 to `resplits` - 1, and every predictor's problem by split.

    Every number is on test rows that no fit has seen. DataError: a split has no test rows, or `new`
    is unknown.

    Args:
        targets: success levels at which costs are compared with peers'; default the floors.
        parts: which studies to run besides the predictors' own rows.
        new: the model whose outcomes are hidden in the study of new models.
    """
    if new is not None and new not in data.table.models:
        raise DataError(f"{new!r} is not in the data: {', '.join(data.table.models)}")
    problems: dict[Kind, list[Problem]] = {kind: [] for kind in KINDS}
    rows: list[dict[str, Any]] = []
    for number in range(resplits):
        progress(f"split {number}")
        fitted: Fitted | None = None
        for kind in KINDS:
            problem = problem_of(data, number, kind, Arrival(order="file", seed=seed), fitted)
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
    for part in filter(parts.__contains__, PARTS):
        progress(part.replace("_", " "))
        if (found := studies[part]()) is not None:
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

    middle = sorted(floors)[len(floors) // 2]
    counts = [count for count in FEW if count < 0.7 * len(data.table)]
    several = len(set(data.table.tasks)) > 1
    return {
        "stream": lambda: streams(problems, floors),
        "budgets": lambda: budgets(problems),
        "engine": lambda: end_to_end(problems[0], middle, 0),
        "ratios": lambda: ratios([peer_costs(p, targets) for p in problems]),
        "certified": lambda: [
            row for n in each("certified") for row in certified(data, n, seed, floors)
        ],
        "few_records": lambda: [
            few_records(data, n, seed, floors, count)
            for count in counts
            for n in each(f"{count} records, split", SPLITS)
        ],
        "new_model": lambda: new_model(data, 0, seed, hidden),
        "shift": lambda: shift(data, seed) if several else None,
        "rounds": lambda: [row for n in each("rounds") for row in rounds(data, n, seed, floors)],
        "templates": lambda: templates(problems[0], 0),
        "prompts": lambda: long_prompts(problems[0], progress=progress),
    }


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the acceptance table."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


#: Greatest values by data set (of `auc` the least): cost of controlled floors over the frontier's,
#: with verdicts 50 calls `late`, of certified floors over expected ones', and beside each peer's.
TARGETS: dict[str, dict[str, float]] = {
    "math10": {"brier": 0.139, "auc": 0.826, "control": 1.08, "late": 1.12, "certified": 1.7,
               "utility_knn": 0.75, "neighbour_threshold": 0.16, "hull": 0.85, "length": 0.30},
    "mixed4": {"brier": 0.182, "auc": 0.753, "control": 1.10, "late": 1.15, "certified": 1.4,
               "utility_knn": 0.90, "neighbour_threshold": 0.33, "hull": 0.62, "length": 0.45},
}  # fmt: skip


def checks(name: str, body: dict[str, Any]) -> list[Check]:
    """The acceptance table of a known data set; empty for others."""
    if name not in TARGETS:
        return []
    target = TARGETS[name]
    found = [*_forecasts(body, target), *_streams(body["stream"], target), *_others(body, target)]
    # Asked of math10 alone: of its gpt-4o-mini, and of its MATH rows.
    return found + ([*_math10(body)] if name == "math10" else [])


def _forecasts(body: dict[str, Any], target: Mapping[str, float]) -> Iterator[Check]:
    hybrid = [row for row in body["rows"] if row["predictor"] == "hybrid"]
    floor = body["floors_held"]
    slack = 0.006 + 2 * floor["bias_standard_error"]
    share = floor["mean_abs_error"] / floor["calibrated_mean_abs_error"]
    yield Check("Brier", _mean(hybrid, "brier"), target["brier"])
    yield Check("AUC, mean per model", _mean(hybrid, "auc"), target["auc"], at_least=True)
    yield Check("floor: |bias|", abs(floor["bias"]), slack)
    yield Check("floor: mean abs error / calibrated forecaster's", share, 1.15)
    yield Check("floor: worst, in sd", floor["worst_in_sd"], -3.5, at_least=True)
    yield Check("length: relative cost error", _mean(hybrid, "cost_mae_relative"), target["length"])
    yield Check("length: |bias of spend|", abs(_mean(hybrid, "spend_bias")), 0.03)
    for row in body["ratios"]:
        name = f"cost at equal success / {row['peer']}"
        yield Check(name, row["ratio"] or math.inf, target[row["peer"]])


def _streams(rows: Sequence[dict[str, Any]], target: Mapping[str, float]) -> Iterator[Check]:
    if not rows:
        return
    at = {
        (row["observed_share"], row["delay"]): row
        for row in rows
        if (row["eta"], row["boost"]) in ((None, 1.0), (ETA, BOOST))
    }
    none, seen, slow = at[0.0, 0], at[1.0, 0], at[1.0, 50]
    yield Check("controlled: error", seen["error"], 0.0045)
    yield Check("controlled: cost / frontier", seen["cost_ratio"], target["control"])
    for share in (0.2, 0.05):
        name = f"{share:.0%} seen: error / none seen".replace("%", " %")
        yield Check(name, at[share, 0]["error"] / none["error"], 1.05)
    yield Check("50 calls late: error", slow["error"], 0.006)
    yield Check("50 calls late: cost / frontier", slow["cost_ratio"], target["late"])


def certificates(body: dict[str, Any], way: str) -> dict[str, float]:
    """How often certified floors were kept, by how much the worst was not, and at what cost."""
    rows = [row for row in body["certified"] if row["way"] == way]
    issued = [row for row in rows if row["realised"] is not None]
    if not issued:
        return {}
    margins = np.array([row["realised"] - row["asked"] for row in issued])
    cost = np.array([row["cost_ratio"] for row in issued])
    return {
        "issued": len(issued),
        "refused": len(rows) - len(issued),
        "share_kept": float((margins >= 0).mean()),
        "worst": float(margins.min()),
        "cost_ratio": float(np.exp(np.log(cost).mean())),
        "cost_ratio_arithmetic": float(cost.mean()),
    }


def _others(body: dict[str, Any], target: Mapping[str, float]) -> Iterator[Check]:
    if paper := certificates(body, "drawn"):
        yield Check("certified: share kept", paper["share_kept"], 0.9, at_least=True)
        yield Check("certified: worst", paper["worst"], -0.01, at_least=True)
        yield Check("certified: cost / expected", paper["cost_ratio"], target["certified"])
    if spent := body.get("budgets"):
        yield Check("budgets: mean cost / budget", _mean(spent, "cost_to_budget"), 1.004)
    if few := [row for row in body.get("few_records", ()) if row["records"] == 200]:
        yield Check("200 records: floor error", _mean(few, "floor_error"), 0.025)
    wrapped = [row["auc_loss"] for row in body.get("templates", ()) if row["text"] == "filtered"]
    if wrapped:
        yield Check("wrapped in a template: greatest loss of AUC", max(wrapped), 0.02)
    if turns := body.get("rounds", ()):
        last = max(row["round"] for row in turns)
        start, end = ([row for row in turns if row["round"] == turn] for turn in (0, last))
        share = _mean(end, "brier") / _mean(start, "brier")
        yield Check("rounds: Brier after the last / at the start", share, 1.0)


def _math10(body: dict[str, Any]) -> Iterator[Check]:
    if fresh := [row for row in body.get("new_model", ()) if row["outcomes"] == 20]:
        yield Check("new model after 20 outcomes: Brier", _mean(fresh, "brier"), 0.138)
    moved = [row for row in body.get("shift", {}).get("rows", ()) if _default(row)]
    quiet = [row for row in body["stream"] if _default(row)]
    quiet = [row for row in quiet if (row["observed_share"], row["delay"]) == (1.0, 0)]
    if moved and quiet:
        after, cost = moved[0]["shortfall_after_100"], quiet[0]["cost_ratio"]
        yield Check("shift: shortfall after 100 calls", after, 0.015)
        yield Check("the same steps in quiet times: cost / frontier", cost, 1.12)


def _default(row: Mapping[str, Any]) -> bool:
    return (row["eta"], row["boost"]) == (ETA, BOOST)


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))
