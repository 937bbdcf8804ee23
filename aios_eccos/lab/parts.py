"""What is measured of a split beside its strategies: the paper's optimizer, streams, wordings."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from aios_eccos.decide.problem import Status, one_floor
from aios_eccos.decide.rule import choose
from aios_eccos.decide.whole.solve import solve
from aios_eccos.floor.curve import PriceCurve, price_curve
from aios_eccos.lab.baselines import dual_ascent
from aios_eccos.lab.metrics import Estimate, Frontier, ratio, ratio_over_splits
from aios_eccos.lab.problem import Calls, Problem
from aios_eccos.lab.studies.quality import WORDINGS
from aios_eccos.values import IntArray

#: Binding limits: each model may take this many times its even share of the batch.
CROWDED = 1.5
#: Shares of the way from the least to the highest forecast success that floors are put at.
FLOORS = (0.3, 0.5, 0.7, 0.85, 0.95)
#: A floor counts as kept from here on: rounding, nothing more.
SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class OptimizerRow:
    """One optimizer over floors and splits.

    `cost_ratio` is beside our lower bound, where the floor was `kept` (a share), NaN if it never
    was; `worst_short` the largest shortfall (0..1), `over` rows above a limit, `milliseconds` of a
    batch.
    """

    limits: str
    optimizer: str
    cost_ratio: Estimate
    kept: float
    worst_short: float
    over: float
    milliseconds: float


class Trial(NamedTuple):
    """One solve; see `OptimizerRow`."""

    limits: str
    optimizer: str
    cost_ratio: float
    short: float
    over: int
    seconds: float


def trials(problem: Problem) -> list[Trial]:
    """Both optimizers on the split's test batch; floors that cannot be met are left out."""
    found = []
    cost, success, line = problem.cost, problem.success, np.arange(problem.n)
    crowded = np.full(problem.m, math.ceil(CROWDED * problem.n / problem.m))
    low = float(success[line, cost.argmin(axis=1)].mean())
    high = float(success.max(axis=1).mean())
    for name, limits in (("none", None), (f"{CROWDED:g} n/m", crowded)):
        room = np.full(problem.m, problem.n) if limits is None else limits
        for share in FLOORS:
            floor = low + share * (high - low)
            times = [time.perf_counter()]
            best = solve(one_floor(cost, success, floor, capacity=limits))
            times.append(time.perf_counter())
            if Status.INFEASIBLE_FLOOR in best.statuses:
                continue
            ascent = dual_ascent(cost, success, floor, limits)
            times.append(time.perf_counter())
            bound, seconds = best.lower_bound, np.diff(times)
            both = (("ours", best.choice), ("dual ascent", ascent))
            for k, (optimizer, choice) in enumerate(both):
                short = max(floor - float(success[line, choice].mean()), 0.0)
                used = np.bincount(choice, minlength=problem.m)
                over = int(np.maximum(used - room, 0).sum())
                kept = short <= SLACK and over == 0 and bound > 0
                ratio = float(cost[line, choice].sum()) / bound if kept else math.nan
                found.append(Trial(name, optimizer, ratio, short, over, float(seconds[k])))
    return found


def summarize_trials(found: Sequence[Trial]) -> list[OptimizerRow]:
    """One row per optimizer and kind of limits."""
    rows = []
    for key in dict.fromkeys((trial.limits, trial.optimizer) for trial in found):
        part = [trial for trial in found if (trial.limits, trial.optimizer) == key]
        rows.append(
            OptimizerRow(
                limits=key[0],
                optimizer=key[1],
                cost_ratio=ratio_over_splits([trial.cost_ratio for trial in part]),
                kept=float(np.mean([trial.short <= SLACK for trial in part])),
                worst_short=max(trial.short for trial in part),
                over=float(np.mean([trial.over for trial in part])),
                milliseconds=float(np.mean([trial.seconds for trial in part])) * 1e3,
            )
        )
    return rows


#: One-batch assignments that make the frontier.
FRONTIER_POINTS = 80
#: Rows that come together; beside them all at once is measured.
BATCHES = (1, 4, 16, 64, 128, 256, 512)
#: Rule and batch size (None = all) -> cost beside one batch's at equal success.
Ratios = dict[tuple[str, int | None], float]


@dataclass(frozen=True, slots=True)
class Streams:
    """Ratios of a split's test rows, and of half of the history priced by the other half."""

    split: int
    test: Ratios
    history: Ratios


def streams(problem: Problem, split: int, floors: Sequence[float]) -> Streams:
    past = problem.past_calls
    whole = np.flatnonzero(~(np.isnan(past.outcomes) | np.isnan(past.success)).any(axis=1))
    mixed = np.random.default_rng(problem.arrival.seed).permutation(whole)
    known, new = (past.rows(half) for half in np.array_split(mixed, 2))
    curve = price_curve(known.success, known.outcomes, known.cost)
    return Streams(split, ratios(problem.curve, problem.calls, floors), ratios(curve, new, floors))


def ratios(
    curve: PriceCurve, calls: Calls, floors: Sequence[float], batches: Sequence[int] = BATCHES
) -> Ratios:
    """Both rules at every batch size, beside all at once: geometric mean over the floors."""
    one_batch, n = frontier(calls), len(calls)
    found = {}
    for batch in (*(size for size in batches if size < n), None):
        for rule in ("floor", "price"):
            choices = (_replay(rule, curve, floor, calls, batch or n) for floor in floors)
            points = [calls.came_to(choice) for choice in choices]
            equal = [one_batch.cost_at(success) for success, _ in points]
            value = ratio([cost for _, cost in points], equal)
            if math.isfinite(value):
                found[rule, batch] = value
    return found


def frontier(calls: Calls) -> Frontier:
    low, high = (solve(one_floor(calls.cost, calls.success, floor)).success for floor in (0.0, 1.0))
    floors = np.linspace(low, high, FRONTIER_POINTS).tolist()
    solved = [solve(one_floor(calls.cost, calls.success, floor)).choice for floor in floors]
    success, cost = np.array([calls.came_to(choice) for choice in solved]).T
    return Frontier.of(cost, success)


def _replay(rule: str, curve: PriceCurve, floor: float, calls: Calls, batch: int) -> IntArray:
    if rule == "price":  # one call's choice does not hang on the others'
        return calls.choose(curve.price_for(floor))
    internal = curve.internal_floor(floor)
    parts = np.split(np.arange(len(calls)), range(batch, len(calls), batch))
    return np.concatenate(
        [solve(one_floor(calls.cost[p], calls.success[p], internal)).choice for p in parts]
    )


#: The floor of the comparison: this share of the way from the cheapest to the best single model.
AT = 0.7
#: Calls whose picks are compared; every prefix is put before the first of them.
ROWS, PREFIXED = 300, 60
#: One letter in this many is mistyped.
TYPO_EVERY = 40

PREFIXES: list[str] = WORDINGS["prefixes"]


@dataclass(frozen=True, slots=True)
class Robustness:
    """Share of picks unchanged (0..1) by kind of change; relative cost that prefixes add."""

    predictor: str
    floor: float
    rows: int
    unchanged: dict[str, float]
    added_mean: float
    added_worst: float
    worst_prefix: str


def typos(text: str, rng: random.Random) -> str:
    """One pair of neighboring letters in `TYPO_EVERY` swapped; digits are left alone."""
    letters = list(text)
    places = [i for i, pair in enumerate(pairwise(text)) if all(map(str.isalpha, pair))]
    for i in rng.sample(places, len(places) // TYPO_EVERY):
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


#: 2 kB of unrelated words.
_NOTE = "The following note is part of the page layout and has no bearing on the question. "
_PADDING = (_NOTE * 40)[:2048]
CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "lower case": lambda text, rng: text.lower(),
    "upper case": lambda text, rng: text.upper(),
    "typos": typos,
    "2 kB of padding behind": lambda text, rng: f"{text}\n\n----------\n{_PADDING}",
    "2 kB of padding before": lambda text, rng: f"{_PADDING}\n----------\n\n{text}",
}


def measure(problem: Problem) -> Robustness:
    """Pick for changed texts at the price of one floor."""
    rows = np.arange(min(ROWS, problem.n))
    success, cost = problem.past_means()
    cheap = float(success[cost.argmin()])
    floor = cheap + AT * (float(success.max()) - cheap)
    price = problem.curve.price_for(floor)
    texts = [problem.test.texts[i] for i in rows]

    def pick(changed: Sequence[str]) -> IntArray:
        lengths = problem.test.input_tokens[: len(changed)]
        said, tokens = problem.fitted.forecast(problem.kind, changed, lengths)
        return choose(problem.prices.cost(lengths, tokens), said, price)

    plain = pick(texts)
    stayed = {}
    for name, change in CHANGES.items():
        rng = random.Random(problem.arrival.seed)
        stayed[name] = float(np.mean(plain == pick([change(t, rng) for t in texts])))
    few = problem.calls.rows(rows[:PREFIXED])
    _, before = few.came_to(plain[: len(few)])
    added = {}
    for prefix in PREFIXES:
        chosen = pick([f"{prefix}\n\n{text}" for text in texts[: len(few)]])
        added[prefix] = few.came_to(chosen)[1] / before - 1 if before > 0 else math.nan
    worst = max(added, key=lambda prefix: added[prefix])
    return Robustness(
        predictor=problem.kind,
        floor=floor,
        rows=len(rows),
        unchanged=stayed,
        added_mean=float(np.mean(list(added.values()))),
        added_worst=added[worst],
        worst_prefix=worst,
    )
