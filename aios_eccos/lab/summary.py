"""What the rows of an evaluation say: frontiers compared split by split."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.lab import metrics
from aios_eccos.lab.metrics import Estimate, Frontier, estimate
from aios_eccos.lab.replay import Played
from aios_eccos.lab.sweeps import AIOS_THRESHOLD

#: Of several predictors, the one whose `eccos` peers are compared with: the first there is.
PREFERRED = ("hybrid", "trained", "retrieval")
#: The paper's headline: 6.30 points more at this share of the best router's cost.
HEADLINE_COST = 0.8985

Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One strategy over all its settings.

    Attributes:
        points: settings per split.
        cost_ratio: cost of `eccos` over its own at equal success, geometric mean over targets;
            below 1 `eccos` is cheaper. `error` is relative.
        missed: (split, target) pairs that it reaches and `eccos` does not.
        gap_closed: share of the way from hull to clairvoyant.
        gain, save, distance: PerfGain, CostSave (0 where the best single model's success is not
            reached) and ParetoDist of LLMRouterBench.
        saved_on: splits on which that success was reached.
        success, cost, violations, decision_s: means over settings and splits.
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
    """`eccos` beside AIOS's threshold as shipped.

    Attributes:
        gain: points of success (0..1) more at equal cost.
        gain_cheaper: the same at `HEADLINE_COST` of that cost.
        cost_ratio: cost over the threshold's at its success.
        hull_ratio: cost of mixing two single models over the threshold's at its success.
    """

    gain: Estimate
    gain_cheaper: Estimate
    cost_ratio: Estimate
    hull_ratio: Estimate


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is said of the rows.

    Attributes:
        ours: name and predictor of the `eccos` that peers are compared with, None without one.
        targets: successes at which frontiers are compared.
        best: best single model by split.
    """

    ours: Key | None
    targets: tuple[float, ...]
    best: dict[int, str]
    lines: tuple[Line, ...]
    at: tuple[At, ...]
    headline: Headline | None


def summarize(rows: Sequence[Played], models: Sequence[str]) -> Summary:
    """Compare every strategy with `eccos`, paired by split."""
    splits = sorted({row.split for row in rows})
    groups: dict[Key, dict[int, list[Played]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.strategy, row.predictor][row.split].append(row)
    singles = {split: _singles(rows, split) for split in splits}
    best = {split: _best(singles[split]) for split in splits}
    cheap = np.mean([min(p, key=lambda row: row.cost).success for p in singles.values()])
    high = np.mean([best[split].success for split in splits])
    targets = metrics.targets(float(cheap), float(high))
    kinds = [kind for kind in PREFERRED if ("eccos", kind) in groups]
    ours = ("eccos", kinds[0]) if kinds else None
    context = _Context(splits, groups, singles, best, targets, ours)
    return Summary(
        ours=ours,
        targets=tuple(targets),
        best={split: row.strategy.removeprefix("single:") for split, row in best.items()},
        lines=tuple(context.line(key) for key in groups),
        at=tuple(_at(rows, models)),
        headline=context.headline(),
    )


def frontier(rows: Sequence[Played]) -> Frontier:
    """The frontier of rows of one split."""
    return Frontier.of([row.cost for row in rows], [row.success for row in rows])


def _singles(rows: Sequence[Played], split: int) -> list[Played]:
    return [row for row in rows if row.split == split and row.strategy.startswith("single:")]


def _best(singles: Sequence[Played]) -> Played:
    return max(singles, key=lambda row: (row.success, -row.cost))


class _Context:
    """The rows by strategy and split, and what they are compared with."""

    def __init__(
        self,
        splits: list[int],
        groups: dict[Key, dict[int, list[Played]]],
        singles: dict[int, list[Played]],
        best: dict[int, Played],
        targets: list[float],
        ours: Key | None,
    ) -> None:
        self.splits, self.groups, self.singles, self.best = splits, groups, singles, best
        self.targets, self.ours = targets, ours
        pareto = [key for key in groups if key[0] not in ("oracle", "clairvoyant")]
        self.pareto = {s: frontier([r for k in pareto for r in groups[k][s]]) for s in splits}

    def hull(self, split: int, success: float) -> float:
        """Cost of mixing two single models, known with hindsight."""
        rows = self.singles[split]
        cost, got = np.array([r.cost for r in rows]), np.array([r.success for r in rows])
        return metrics.hull_cost(cost, got, success)

    def front(self, key: Key, split: int) -> Frontier:
        return frontier(self.groups[key][split])

    def line(self, key: Key) -> Line:
        mine = {split: self.front(key, split) for split in self.splits}
        points = max(len(rows) for rows in self.groups[key].values())
        ratios, closed, missed = [], [], 0
        for split, front in mine.items():
            wanted = self.targets if points > 1 else [float(front.success[0])]
            theirs = [front.cost_at(success) for success in wanted]
            if self.ours is not None:
                own = [self.front(self.ours, split).cost_at(success) for success in wanted]
                ratios.append(metrics.ratio(own, theirs))
                pairs = zip(own, theirs, strict=True)
                missed += sum(math.isnan(a) and math.isfinite(b) for a, b in pairs)
            seer = self.front(("clairvoyant", None), split)
            gaps = [
                metrics.gap_closed(cost, self.hull(split, success), seer.cost_at(success))
                for cost, success in zip(theirs, wanted, strict=True)
            ]
            closed.append(estimate(gaps).mean)
        rows = [row for split in self.splits for row in self.groups[key][split]]
        saves = [
            metrics.cost_save(mine[s], self.best[s].success, self.best[s].cost) for s in self.splits
        ]
        by_split = [self.groups[key][split] for split in self.splits]
        return Line(
            strategy=key[0],
            predictor=key[1],
            points=points,
            cost_ratio=metrics.ratio_over_splits(ratios),
            missed=missed,
            gap_closed=estimate(closed),
            gain=estimate([metrics.perf_gain(mine[s], self.best[s].success) for s in self.splits]),
            save=estimate([0.0 if math.isnan(save) else save for save in saves]),
            saved_on=sum(math.isfinite(save) for save in saves),
            distance=estimate(
                [
                    metrics.pareto_distance(
                        [(row.cost, row.success) for row in self.groups[key][s]], self.pareto[s]
                    )
                    for s in self.splits
                ]
            ),
            success=estimate([float(np.mean([r.success for r in part])) for part in by_split]),
            cost=estimate([float(np.mean([r.cost for r in part])) for part in by_split]),
            violations=estimate([float(r.violations) for r in rows]),
            decision_s=estimate([r.decision_s for r in rows]),
        )

    def headline(self) -> Headline | None:
        """Beside AIOS's threshold as shipped; None where one of the two was not played."""
        theirs = self.groups.get(("neighbour_threshold", None))
        if self.ours is None or theirs is None:
            return None
        gains, cheaper, ratios, hulls = [], [], [], []
        for split in self.splits:
            point = next(r for r in theirs[split] if r.setting.value == AIOS_THRESHOLD)
            front = self.front(self.ours, split)
            gains.append(front.success_at(point.cost) - point.success)
            cheaper.append(front.success_at(HEADLINE_COST * point.cost) - point.success)
            ratios.append(front.cost_at(point.success) / point.cost)
            hulls.append(self.hull(split, point.success) / point.cost)
        return Headline(
            estimate(gains),
            estimate(cheaper),
            metrics.ratio_over_splits(ratios),
            metrics.ratio_over_splits(hulls),
        )


def _at(rows: Sequence[Played], models: Sequence[str]) -> list[At]:
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
        means = {task: float(np.mean([r.tasks[task] for r in part])) for task in part[0].tasks}
        worst, _ = metrics.worst_task(means)
        floor = value if name == "floor" and value is not None else math.nan
        share = np.mean([row.share for row in part], axis=0)
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
                share={model: float(value) for model, value in zip(models, share, strict=True)},
            )
        )
    return found
