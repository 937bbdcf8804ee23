"""Floors under control, certified, with little history, with a new model, and under shift."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.decide.rule import choose
from aios_eccos.floor.alarm import BETS, DELTA, begin, e_value, wager
from aios_eccos.floor.certify import Refusal, certify, price_grid
from aios_eccos.floor.control import BOOST, ETA
from aios_eccos.lab.controlled import ControlledPrice, log_step
from aios_eccos.lab.predictor_split import Forecasts, Recorded, cost_at, fit_split, forecast_rows

#: Orders in which each split's test rows are streamed.
ORDERS = 4
#: (eta, boost, share of outcomes seen, calls until an outcome is there); None = no control.
STREAMS: tuple[tuple[float | None, float, float, int], ...] = (
    (None, 1.0, 0.0, 0), (ETA, BOOST, 1.0, 0), (ETA, 1.0, 1.0, 0), (2 * ETA, 1.0, 1.0, 0),
    (ETA, BOOST, 0.2, 0), (ETA, BOOST, 0.05, 0), (ETA, BOOST, 1.0, 50),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One stream: what each call had and cost, in order, and how the price fared."""

    had: NDArray[np.float64]
    spent: NDArray[np.float64]
    at_end: float


def stream(
    f: Forecasts,
    floor: float,
    *,
    eta: float | None,
    seen: float,
    delay: int,
    seed: Sequence[int],
    boost: float = BOOST,
) -> Run:
    """Serve the test rows one call at a time, in a random order, under control (or not).

    Args:
        boost: factor on eta while the e-process alarms.
    """
    rng = np.random.default_rng(list(seed))
    order = rng.permutation(len(f.success))
    visible = rng.uniform(size=len(order)) < seen
    state = ControlledPrice.start(f.curve, floor)
    waiting: list[tuple[float | None, float]] = []
    evidence = np.zeros(len(BETS))
    had, spent = np.empty(len(order)), np.empty(len(order))
    for place, row in enumerate(order):
        pick = int(choose(f.cost[row, None], f.success[row, None], state.price)[0])
        had[place], spent[place] = f.outcomes[row, pick], f.spent[row, pick]
        if eta is None:
            continue
        promised = float(f.success[row, pick]) - f.curve.optimism(state.price)
        waiting.append((float(had[place]) if visible[place] else None, promised))
        if len(waiting) > delay:
            outcome, promised = waiting.pop(0)
            if outcome is not None:
                evidence += wager(floor, outcome)
            alarmed = e_value({0: list(evidence)}, begin(0, 0), 0) >= 1 / DELTA
            step = log_step(floor, outcome, promised, eta * (boost if alarmed else 1.0))
            state = state.after(step)
    return Run(had, spent, state.share_at_end)


def streams(splits: Sequence[Forecasts], floors: Sequence[float]) -> list[dict[str, Any]]:
    """Error and cost of each way of control; cost against the test rows' own frontier."""
    rows = []
    fronts = [f.frontier() for f in splits]
    for eta, boost, seen, delay in STREAMS:
        errors, ratios, ends = [], [], []
        for number, (f, front) in enumerate(zip(splits, fronts, strict=True)):
            for floor in floors:
                for turn in range(ORDERS):
                    way = {"eta": eta, "boost": boost, "seen": seen, "delay": delay}
                    run = stream(f, floor, **way, seed=(number, turn))  # type: ignore[arg-type]
                    errors.append(float(run.had.mean()) - floor)
                    ratios.append(float(run.spent.mean()) / cost_at(*front, float(run.had.mean())))
                    ends.append(run.at_end)
        rows.append(
            {
                "eta": eta,
                "boost": boost,
                "observed_share": seen,
                "delay": delay,
                "error": float(np.mean(np.abs(errors))),
                "worst": float(np.min(errors)),
                "cost_ratio": float(np.nanmean(ratios)),
                "share_at_end": float(np.mean(ends)),
            }
        )
    return rows


def certified(
    data: Recorded, number: int, seed: int, floors: Sequence[float], *, draws: int = 5
) -> list[dict[str, Any]]:
    """Certify on rows that no fit has seen, and look whether the floor is kept.

    The head and the grid are made on 40 % of all rows. A certificate speaks of the chance that a
    call drawn like the calibration rows succeeds. To know that chance exactly, the unseen rows are
    taken for all calls there are: each draw calibrates on as many calls, drawn from them with
    replacement, and what is realised is their mean (`way: drawn`). With `way: halves` one half of
    the unseen rows calibrates and the other half is served; there the sampling error of the served
    half (sd .015 at 852 rows) comes on top of what the certificate speaks of.
    """
    history, test = data.index(number, seed)
    names = [data.table.ids[i] for i in history]
    order = sorted(range(len(history)), key=lambda i: _hash(f"{seed}:{number}:{names[i]}"))
    kept = history[np.sort(order[: int(0.4 * len(data.table))])]
    unseen = np.concatenate([history[np.sort(order[int(0.4 * len(data.table)) :])], test])
    f = forecast_rows(data, fit_split(data, kept, seed), kept, unseen)["hybrid"]
    rows = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, number, draw])
        one, other = np.array_split(rng.permutation(len(unseen)), 2)
        drawn = rng.integers(0, len(unseen), len(unseen))
        everything = np.arange(len(unseen))
        for way, calibrate, calls in (("drawn", drawn, everything), ("halves", one, other)):
            digest = _hash(" ".join(data.table.ids[unseen[i]] for i in calibrate))[:16]
            seen, served = take(f, calibrate), take(f, calls)
            head = {"split": number, "draw": draw, "way": way}
            rows += [head | _certify_one(seen, served, floor, digest) for floor in floors]
    return rows


def _certify_one(seen: Forecasts, served: Forecasts, floor: float, digest: str) -> dict[str, Any]:
    """A floor's certificate on the rows seen, and what it gives on the rows served."""
    paper = certify(
        seen.success, seen.outcomes, seen.cost, floor, grid=price_grid(seen.curve), data=digest
    )
    row: dict[str, Any] = {"asked": floor, "n": paper.n, "delta": paper.delta, "realised": None}
    if isinstance(paper, Refusal):
        return row | {"reachable": paper.reachable}
    realised, _, cost = served.serve(paper.price)
    plain = served.serve(served.curve.price_for(floor))[2]
    return row | {"realised": realised, "cost_per_call_usd": cost, "cost_ratio": cost / plain}


def take(f: Forecasts, rows: NDArray[np.int64]) -> Forecasts:
    """The same forecasts for some of the rows."""
    names = ("success", "tokens", "cost", "outcomes", "spent", "lengths")
    return dataclasses.replace(f, **{name: getattr(f, name)[rows] for name in names})


def few_records(
    data: Recorded, number: int, seed: int, floors: Sequence[float], count: int
) -> dict[str, Any]:
    """Floor errors and Brier when only `count` records of the history are there."""
    history, test = data.index(number, seed)
    order = sorted(history, key=lambda i: _hash(f"{seed}:{number}:few:{data.table.ids[i]}"))
    kept = np.sort(np.array(order[:count], dtype=np.int64))
    f = forecast_rows(data, fit_split(data, kept, seed), kept, test)["hybrid"]
    errors = [f.serve(f.curve.price_for(floor))[0] - floor for floor in floors]
    return {
        "records": count,
        "split": number,
        "floor_error": float(np.mean(np.abs(errors))),
        "bias": float(np.mean(errors)),
        "brier": float(np.nanmean((f.success - f.outcomes) ** 2)),
    }


def new_model(data: Recorded, number: int, seed: int, name: str) -> list[dict[str, Any]]:
    """Brier on a model of which 0, 20, 100 and all outcomes of the history are known."""
    history, test = data.index(number, seed)
    column = data.table.models.index(name)
    order = sorted(history, key=lambda i: _hash(f"{seed}:{number}:new:{data.table.ids[i]}"))
    rows = []
    for count in (0, 20, 100, len(history)):
        hidden = np.array(order[count:], dtype=np.int64)
        correctness = data.table.correctness.copy()
        tokens = data.table.output_tokens.copy()
        correctness[hidden, column] = tokens[hidden, column] = np.nan
        table = dataclasses.replace(data.table, correctness=correctness, output_tokens=tokens)
        part = dataclasses.replace(data, table=table)
        f = forecast_rows(part, fit_split(part, history, seed), history, test)["hybrid"]
        brier = float(np.nanmean((f.success[:, column] - f.outcomes[:, column]) ** 2))
        rows.append({"model": name, "outcomes": count, "split": number, "brier": brier})
    return rows


def shift(data: Recorded, seed: int) -> dict[str, Any]:
    """History without the hardest task, then a stream of nothing else, with outcomes.

    The floors asked lie between what the cheapest and the strongest model reach on the stream.
    """
    tasks = np.array(data.table.tasks)
    means = {str(t): float(np.nanmean(data.table.correctness[tasks == t])) for t in set(tasks)}
    big = {t: mean for t, mean in means.items() if (tasks == t).sum() >= 0.1 * len(tasks)}
    hardest = min(big, key=lambda t: (big[t], t))
    history, test = np.flatnonzero(tasks != hardest), np.flatnonzero(tasks == hardest)
    f = forecast_rows(data, fit_split(data, history, seed), history, test)["hybrid"]
    single = np.nanmean(f.outcomes, axis=0)
    cheapest = float(single[int(np.argmin(np.nanmean(f.spent, axis=0)))])
    floors = [cheapest + share * (float(single.max()) - cheapest) for share in (0.5, 0.7, 0.9)]
    rows = []
    for eta, boost in ((None, 1.0), (ETA, BOOST), (ETA, 1.0), (2 * ETA, 1.0)):
        runs = [
            (floor, stream(f, floor, eta=eta, boost=boost, seen=1.0, delay=0, seed=(seed, turn)))
            for floor in floors
            for turn in range(ORDERS)
        ]
        later = [floor - float(run.had[100:].mean()) for floor, run in runs]
        rows.append(
            {
                "eta": eta,
                "boost": boost,
                "shortfall_after_100": float(np.mean(later)),
                "worst": float(np.max(later)),
                "cost_per_call_usd": float(np.mean([run.spent.mean() for _, run in runs])),
            }
        )
    return {"task": hardest, "floors": floors, "rows": rows}


def middle_model(data: Recorded) -> str:
    """The model whose success is nearest the pool's median: neither weak nor strong."""
    means = np.nanmean(data.table.correctness, axis=0)
    return data.table.models[int(np.argmin(np.abs(means - np.median(means))))]


def default_floors(data: Recorded, count: int = 5) -> list[float]:
    """Floors between the cheapest and the strongest model's success, ends left out."""
    rows = np.arange(len(data.table))
    spent = np.nanmean(data.cost(rows, data.table.output_tokens), axis=0)
    means = np.nanmean(data.table.correctness, axis=0)
    low, high = float(means[int(np.argmin(spent))]), float(means.max())
    steps = np.linspace(0, 1, count + 2)[1:-1]
    return [math.floor(1000 * (low + step * (high - low))) / 1000 for step in steps]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
