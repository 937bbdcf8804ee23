"""`evaluate-predictor`: every predictor on every split, and what the floors are worth on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aios_eccos.errors import DataError
from aios_eccos.lab.predictor_loops import Layers, rounds, templates
from aios_eccos.lab.predictor_split import (
    Forecasts,
    Recorded,
    fit_split,
    floor_rows,
    forecast_rows,
    peer_costs,
    quality,
    sampling_sd,
)
from aios_eccos.lab.predictor_studies import (
    certified,
    few_records,
    middle_model,
    new_model,
    shift,
    streams,
)

SCHEMA = "aios-eccos/evaluate-predictor/1"
#: Parts of the report beside `rows`; each costs fits of its own but streams and ratios.
PARTS = (
    "stream", "ratios", "certified", "few_records", "new_model", "shift", "rounds", "templates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """JSON of the design, and every predictor's forecasts by split for the reliability diagram."""

    body: dict[str, Any]
    forecasts: dict[str, list[Forecasts]]


def evaluate_predictor(
    data: Recorded,
    floors: Sequence[float],
    *,
    targets: Sequence[float] = (),
    resplits: int = 5,
    seed: int = 0,
    parts: Collection[str] = PARTS,
    new: str | None = None,
    embed: Layers | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Measure on splits 0 to `resplits` - 1; every number is on test rows that no fit has seen.

    Args:
        targets: success levels at which costs are compared with peers'; default the floors.
        parts: which studies to run besides the predictors' own rows.
        new: the model whose outcomes are hidden in the study of new models.
        embed: texts to embeddings and layers; without it questions are not wrapped in templates.

    Raises:
        DataError: a split has no test rows, or `new` is unknown.
    """
    if new is not None and new not in data.table.models:
        raise DataError(f"{new!r} is not in the data: {', '.join(data.table.models)}")
    rows: list[dict[str, Any]] = []
    forecasts: dict[str, list[Forecasts]] = {}
    deviations: list[list[float]] = []
    costs: list[dict[str, list[float]]] = []
    for number in range(resplits):
        progress(f"split {number}")
        history, test = data.index(number, seed)
        made = forecast_rows(data, fit_split(data, history, seed), history, test)
        for name, f in made.items():
            head = {"predictor": name, "split": number} | quality(f)
            rows.append(head | {"floors": floor_rows(f, floors)})
            forecasts.setdefault(name, []).append(f)
        hybrid = made["hybrid"]
        deviations.append([sampling_sd(hybrid, floor, len(history)) for floor in floors])
        if "ratios" in parts:
            costs.append(peer_costs(data, history, test, hybrid, targets or floors))
    body: dict[str, Any] = {
        "rows": rows,
        "floors_held": held(rows, deviations, seed),
        "ratios": ratios(costs),
        "stream": [],
        "certified": [],
    }
    if "stream" in parts:
        progress("streams")
        body["stream"] = streams(forecasts["hybrid"], floors)
    if "certified" in parts:
        for number in range(resplits):
            progress(f"certified {number}")
            body["certified"] += certified(data, number, seed, floors)
    if "few_records" in parts:
        progress("few records")
        counts = [n for n in (50, 200, 1000) if n < 0.7 * len(data.table)]
        body["few_records"] = [
            few_records(data, number, seed, floors, count)
            for count in counts
            for number in range(min(resplits, 5))
        ]
    if "new_model" in parts:
        progress("new model")
        body["new_model"] = new_model(data, 0, seed, new or middle_model(data))
    if "shift" in parts and len(set(data.table.tasks)) > 1:
        progress("shift")
        body["shift"] = shift(data, seed)
    if "rounds" in parts:
        for number in range(resplits):
            progress(f"rounds {number}")
            body.setdefault("rounds", []).extend(rounds(data, number, seed, floors))
    if "templates" in parts and embed is not None:
        progress("templates")
        body["templates"] = templates(data, 0, seed, embed)
    return Report(body, forecasts)


def held(
    rows: Sequence[dict[str, Any]], deviations: Sequence[Sequence[float]], seed: int
) -> dict[str, float]:
    """How the hybrid's expected floors hold, against an exactly calibrated forecaster.

    The latter's errors are drawn in the same run from normal distributions of the stated sd.
    """
    hybrid = [row["floors"] for row in rows if row["predictor"] == "hybrid"]
    errors = np.array([[f["realised"] - f["asked"] for f in floors] for floors in hybrid])
    sd = np.asarray(deviations)
    drawn = np.random.default_rng(seed).normal(size=(4000, *sd.shape)) * sd
    by_split = errors.mean(axis=1)
    count = max(len(by_split), 2)
    return {
        "bias": float(errors.mean()),
        "bias_standard_error": float(by_split.std(ddof=1) / np.sqrt(count)) if count > 1 and len(
            by_split
        ) > 1 else 0.0,
        "mean_abs_error": float(np.abs(errors).mean()),
        "calibrated_mean_abs_error": float(np.abs(drawn).mean()),
        "worst": float(errors.min()),
        "worst_in_sd": float((errors / sd).min()),
        "mean_sd": float(sd.mean()),
    }  # fmt: skip


def ratios(costs: Sequence[dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Our cost over each peer's at equal success: geometric means, paired by split and target."""
    peers = [name for name in (costs[0] if costs else {}) if name != "eccos"]
    out = []
    for peer in peers:
        logs = np.log([c["eccos"] for c in costs]) - np.log([c[peer] for c in costs])
        with_all = [float(np.mean(row[~np.isnan(row)])) for row in logs if (~np.isnan(row)).any()]
        error = float(np.std(with_all, ddof=1) / np.sqrt(len(with_all))) if len(with_all) > 1 else 0
        ratio = float(np.exp(np.mean(with_all))) if with_all else None
        out.append(
            {
                "peer": peer,
                "ratio": ratio,
                "standard_error": (ratio or 0.0) * error,
                "compared": int((~np.isnan(logs)).sum()),
                "of": int(logs.size),
            }
        )
    return out
