"""What the rows of an evaluation say: frontiers compared split by split."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.lab import metrics
from aios_eccos.lab.metrics import Estimate, Frontier, estimate, ratio_over_splits
from aios_eccos.lab.strategy import AIOS_THRESHOLD, Played

#: Of several predictors, the one whose `eccos` peers are compared with: the first there is.
PREFERRED = ("hybrid", "trained", "retrieval")
#: The paper's headline: 6.30 points more at this share of the best router's cost.
HEADLINE_COST = 0.8985

Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One strategy over all its settings.

    `cost_ratio` is the cost of `eccos` over its own at equal success, geometric mean over targets
    (below 1 `eccos` is cheaper, `error` is relative), `missed` the (split, target) pairs that it
    reaches and `eccos` does not, `gap_closed` a share of the way from hull to clairvoyant.
    LLMRouterBench's PerfGain, CostSave (0 where the best model's success is not reached; `saved_on`
    counts the others) and ParetoDist are `gain`, `save` and `distance`.
    """

    strategy: str
    predictor: str | None
    points: int
    cost_ratio: Estimate
    missed: int
    gap_closed: Estimate
    gain: Estimate
    save: Estimate
    saved_on: int
    distance: Estimate
    success: Estimate
    cost: Estimate
    violations: Estimate
    decision_s: Estimate

    @property
    def verdict(self) -> str:
        """Where `eccos` stands beside it: `left`, `right`, or `on` within two standard errors.

        One split has no standard error, so then the direction alone is said.
        """
        ratio = self.cost_ratio
        if ratio.count == 0:
            return "not reached" if self.missed else "no common success"
        away = math.log(ratio.mean)
        if not math.isfinite(ratio.error):
            return "dearer" if away > 0 else "cheaper" if away < 0 else "equal"
        if abs(away) <= 2 * ratio.error:
            return "on"
        return "right" if away > 0 else "left"


@dataclass(frozen=True, slots=True)
class At:
    """One strategy at one setting, over the splits."""

    strategy: str
    predictor: str | None
    name: str | None
    value: float | None
    success: Estimate
    promised: Estimate
    error: Estimate
    cost: Estimate
    worst_task: str
    worst: Estimate
    violations: Estimate
    share: dict[str, float]


@dataclass(frozen=True, slots=True)
class Headline:
    """`eccos` beside AIOS's threshold as shipped: points of success (0..1) more at equal cost and
    at `HEADLINE_COST` of it; its cost, and that of mixing two single models, at equal success.
    """

    gain: Estimate
    gain_cheaper: Estimate
    cost_ratio: Estimate
    hull_ratio: Estimate


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is said; `ours` is the `eccos` that peers are compared with, `best` the best single
    model by split.
    """

    ours: Key | None
    targets: tuple[float, ...]
    best: dict[int, str]
    lines: tuple[Line, ...]
    at: tuple[At, ...]
    headline: Headline | None


def summarize(rows: Sequence[Played]) -> Summary:
    """Compare every strategy with `eccos`, paired by split."""
    groups: dict[Key, dict[int, list[Played]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.strategy, row.predictor][row.split].append(row)
    kinds = [kind for kind in PREFERRED if ("eccos", kind) in groups]
    ours = ("eccos", kinds[0]) if kinds else None
    splits = [_Split(number, groups, ours) for number in sorted({row.split for row in rows})]
    cheap = float(np.mean([split.cheapest.success for split in splits]))
    targets = metrics.targets(cheap, float(np.mean([split.best.success for split in splits])))
    return Summary(
        ours=ours,
        targets=tuple(targets),
        best={split.number: split.best.strategy.removeprefix("single:") for split in splits},
        lines=tuple(_line(key, splits, targets) for key in groups),
        at=tuple(_at(rows)),
        headline=_headline(splits),
    )


def frontier(rows: Sequence[Played]) -> Frontier:
    return Frontier.of([row.cost for row in rows], [row.success for row in rows])


class _Split:
    """The rows of one split by strategy, and what they are compared with."""

    def __init__(
        self, number: int, groups: dict[Key, dict[int, list[Played]]], ours: Key | None
    ) -> None:
        self.number, self.ours = number, ours
        self.rows = {key: by_split[number] for key, by_split in groups.items()}
        self.fronts = {key: frontier(rows) for key, rows in self.rows.items()}
        self.singles = [
            row for key, rows in self.rows.items() if key[0].startswith("single:") for row in rows
        ]
        self.best = max(self.singles, key=lambda row: (row.success, -row.cost))
        self.cheapest = min(self.singles, key=lambda row: row.cost)
        blind = [k for k in self.rows if k[0] not in ("oracle", "clairvoyant")]
        self.pareto = frontier([row for key in blind for row in self.rows[key]])

    def hull(self, success: float) -> float:
        cost, got = np.array([(row.cost, row.success) for row in self.singles]).T
        return metrics.hull_cost(cost, got, success)

    def figures(self, key: Key, targets: Sequence[float]) -> dict[str, float]:
        """A strategy's figures, named as in `Line`."""
        rows, front = self.rows[key], self.fronts[key]
        # A strategy of one setting is compared at its own success.
        wanted = targets if len(rows) > 1 else [float(front.success[0])]
        costs = [front.cost_at(success) for success in wanted]
        ours = [] if self.ours is None else [self.fronts[self.ours].cost_at(s) for s in wanted]
        gaps = [
            metrics.gap_closed(cost, self.hull(s), self.fronts["clairvoyant", None].cost_at(s))
            for cost, s in zip(costs, wanted, strict=True)
        ]
        both = [*zip(ours, costs, strict=False)]
        return {
            "cost_ratio": metrics.ratio(ours, costs[: len(ours)]),
            "missed": sum(math.isnan(own) and math.isfinite(its) for own, its in both),
            "gap_closed": estimate(gaps).mean,
            "gain": metrics.perf_gain(front, self.best.success),
            "save": metrics.cost_save(front, self.best.success, self.best.cost),
            "distance": metrics.pareto_distance([(r.cost, r.success) for r in rows], self.pareto),
            "success": float(np.mean([row.success for row in rows])),
            "cost": float(np.mean([row.cost for row in rows])),
        }


def _line(key: Key, splits: Sequence[_Split], targets: Sequence[float]) -> Line:
    figures = [split.figures(key, targets) for split in splits]
    rows = [row for split in splits for row in split.rows[key]]
    found = {name: [each[name] for each in figures] for name in figures[0]}
    saves = found["save"]
    return Line(
        strategy=key[0],
        predictor=key[1],
        points=max(len(split.rows[key]) for split in splits),
        cost_ratio=ratio_over_splits(found["cost_ratio"]),
        missed=int(sum(found["missed"])),
        gap_closed=estimate(found["gap_closed"]),
        gain=estimate(found["gain"]),
        save=estimate([0.0 if math.isnan(save) else save for save in saves]),
        saved_on=sum(math.isfinite(save) for save in saves),
        distance=estimate(found["distance"]),
        success=estimate(found["success"]),
        cost=estimate(found["cost"]),
        violations=estimate([float(row.violations) for row in rows]),
        decision_s=estimate([row.decision_s for row in rows]),
    )


def _headline(splits: Sequence[_Split]) -> Headline | None:
    """Beside AIOS's threshold as shipped; None where one of the two was not played."""
    theirs, ours = ("neighbour_threshold", None), splits[0].ours
    if ours is None or theirs not in splits[0].rows:
        return None
    pairs = [
        (split.fronts[ours], row, split.hull(row.success) / row.cost)
        for split in splits
        for row in split.rows[theirs]
        if row.setting.value == AIOS_THRESHOLD
    ]

    def gains(share: float) -> Estimate:
        return estimate(
            [front.success_at(share * row.cost) - row.success for front, row, _ in pairs]
        )

    return Headline(
        gains(1.0),
        gains(HEADLINE_COST),
        ratio_over_splits([front.cost_at(row.success) / row.cost for front, row, _ in pairs]),
        ratio_over_splits([hull for *_, hull in pairs]),
    )


def _at(rows: Sequence[Played]) -> list[At]:
    """Every strategy at every setting that all splits share."""
    groups: dict[tuple[str, str | None, str | None, float | None], list[Played]] = {}
    for row in rows:
        key = (row.strategy, row.predictor, row.setting.name, row.setting.value)
        groups.setdefault(key, []).append(row)
    count = len({row.split for row in rows})
    found = []
    for (strategy, predictor, name, value), part in groups.items():
        if len(part) < count:
            continue
        tasks = _means([row.tasks for row in part])
        worst = min(sorted(tasks), key=lambda task: tasks[task])
        floor = value if name == "floor" and value is not None else math.nan
        found.append(
            At(
                strategy=strategy,
                predictor=predictor,
                name=name,
                value=value,
                success=estimate([row.success for row in part]),
                promised=estimate([row.promised for row in part]),
                error=estimate([abs(row.success - floor) for row in part]),
                cost=estimate([row.cost for row in part]),
                worst_task=worst,
                worst=estimate([row.tasks[worst] for row in part]),
                violations=estimate([float(row.violations) for row in part]),
                share=_means([row.share for row in part]),
            )
        )
    return found


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each key's mean; one that a row has not counts as 0 there."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: float(np.mean([row.get(key, 0.0) for row in rows])) for key in keys}
