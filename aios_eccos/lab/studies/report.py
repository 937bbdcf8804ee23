"""The acceptance table of `evaluate-predictor`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aios_eccos.floor.control import BOOST, ETA

SCHEMA = "aios-eccos/evaluate-predictor/1"


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
