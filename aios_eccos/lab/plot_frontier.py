"""The cost-quality frontier as a picture; labels on the lines, in colors all can tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aios_eccos.lab.metrics import Frontier, hull_cost
from aios_eccos.lab.replay import Played
from aios_eccos.lab.report import Results
from aios_eccos.lab.summary import frontier
from aios_eccos.values import FloatArray

#: Colors are Okabe and Ito's.
STYLE = {
    "eccos": ("#D55E00", "-", 3.2),
    "neighbour_threshold": ("#0072B2", "-", 1.8),
    "utility_knn": ("#009E73", "-", 1.8),
    "utility_linear": ("#CC79A7", "-", 1.8),
    "lagrangian": ("#E69F00", "--", 1.8),
    "mess_plus": ("#56B4E9", "--", 1.8),
    "port": ("#0072B2", ":", 1.6),
    "batch_robust": ("#009E73", ":", 1.6),
    "route_balance": ("#CC79A7", ":", 1.6),
    "avengers_pro": ("#E69F00", ":", 1.6),
    "irt": ("#56B4E9", ":", 1.6),
    "linucb": ("#555555", "-.", 1.4),
}
PLAIN = ("#555555", "-", 1.2)
#: Points of the curves that are averaged over splits.
GRID = 160


def curve(rows: Sequence[Played], grid: FloatArray) -> FloatArray:
    """Success that a cost buys, mean over splits; NaN where a split does not reach down to it."""
    splits = sorted({row.split for row in rows})
    fronts = [frontier([row for row in rows if row.split == split]) for split in splits]
    success = np.array([[front.success_at(cost) for cost in grid] for front in fronts])
    return np.asarray(success.mean(axis=0), dtype=float)


def draw_frontier(results: Results, axes: Any) -> None:
    """Success by log cost, all strategies; shaded from the hull to the clairvoyant bound."""
    groups = groups_of(results)
    singles = {key: rows for key, rows in groups.items() if key[0].startswith("single:")}
    cost, success = points_of(singles)
    ends = max(cost.min(), 1e-9) * 0.75, cost.max() * 1.35
    grid = np.geomspace(*ends, GRID)
    # The hull in success by cost: invert its cost by success.
    reach = np.linspace(success.min(), success.max(), GRID)
    mixed = Frontier.of([hull_cost(cost, success, level) for level in reach], reach)
    low = np.array([mixed.success_at(value) for value in grid])
    seer = curve(groups[("clairvoyant", None)], grid)
    axes.fill_between(grid * 1e3, low, seer, color="#eeeeee", zorder=0)
    axes.plot(grid * 1e3, low, color="black", linewidth=1.2, linestyle=(0, (1, 1)))
    axes.plot(grid * 1e3, seer, color="black", linewidth=1.2)
    extra: list[tuple[str, float, float]] = []
    ends_at = [("hull: two models mixed", "black", *_end(grid, low))]
    ends_at.append(("clairvoyant", "black", *_end(grid, seer)))
    for key, rows in groups.items():
        if key in singles or key[0] in ("hull", "clairvoyant", "cheapest", "strongest"):
            continue
        if len({row.setting for row in rows}) == 1:
            x, y = points_of({key: rows})
            axes.plot(x * 1e3, y, "k+", markersize=9)
            extra.append((key[0], float(x[0]), float(y[0])))
            continue
        color, line, width = STYLE.get(key[0], PLAIN)
        if key[0] == "eccos" and results.summary.ours != key:
            line, width = "--", 1.6
        values = curve(rows, grid)
        front = 5 if results.summary.ours == key else 2
        axes.plot(grid * 1e3, values, color=color, linestyle=line, linewidth=width, zorder=front)
        ends_at.append((_label(results, key), color, *_end(grid, values)))
    axes.plot(cost * 1e3, success, "o", color="#555555", markersize=5, zorder=6)
    named = zip(singles, cost, success, strict=True)
    extra += [(k[0].removeprefix("single:"), float(x), float(y)) for k, x, y in named]
    _name_points(axes, extra)
    axes.set_xscale("log")
    axes.set_xlim(ends[0] * 1e3, ends[1] * 1e3)
    axes.set_ylim(success.min() - 0.03, max(float(np.nanmax(seer)), success.max()) + 0.02)
    _labels(axes, ends_at, ends[1] * 1e3 * 1.12)
    axes.set_xlabel("dollars per 1,000 calls (log scale)")
    axes.set_ylabel("success")
    axes.set_title("Cost and success; up and left is better", loc="left")
    bare(axes)


def groups_of(results: Results) -> dict[tuple[str, str | None], list[Played]]:
    groups: dict[tuple[str, str | None], list[Played]] = {}
    for row in results.rows:
        groups.setdefault((row.strategy, row.predictor), []).append(row)
    return groups


def points_of(groups: dict[tuple[str, str | None], list[Played]]) -> tuple[FloatArray, FloatArray]:
    """Mean cost and success of each group."""
    cost = [float(np.mean([row.cost for row in rows])) for rows in groups.values()]
    success = [float(np.mean([row.success for row in rows])) for rows in groups.values()]
    return np.array(cost), np.array(success)


def _label(results: Results, key: tuple[str, str | None]) -> str:
    kinds = {row.predictor for row in results.rows if row.strategy == key[0]}
    return key[0] if len(kinds) == 1 else f"{key[0]} ({key[1]})"


def _end(grid: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Where a curve's label points: the last place at which it still rises."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return float(grid[-1]) * 1e3, math.nan
    top = known[np.argmax(values[known] >= values[known[-1]] - 1e-3)]
    return float(grid[top]) * 1e3, float(values[top])


def _labels(axes: Any, ends: list[tuple[str, str, float, float]], x: float) -> None:
    """Labels in a column on the right, spread so that none covers another."""
    low, high = axes.get_ylim()
    step = (high - low) / 27
    known = sorted((end for end in ends if math.isfinite(end[3])), key=lambda end: end[3])
    places: list[float] = []
    for _, _, _, y in known:
        places.append(max(y, places[-1] + step) if places else y)
    over = (places[-1] - (high - step)) if places else 0.0
    for i in range(len(places) - 1, -1, -1):
        top = places[i + 1] - step if i + 1 < len(places) else high - step
        places[i] = min(places[i], top) if over > 0 else places[i]
    for (text, color, at, y), place in zip(known, places, strict=True):
        line = [at, x * 0.98], [y, place]
        axes.plot(*line, color=color, linewidth=0.6, alpha=0.7, clip_on=False)
        bold = "bold" if text.startswith("eccos") else "normal"
        axes.text(x, place, text, color=color, va="center", fontsize=10, fontweight=bold)


def _name_points(axes: Any, points: list[tuple[str, float, float]]) -> None:
    """Names below their points; above, where a lower one's name is there already."""
    cost = [x for _, x, _ in points]
    reached = [y for _, _, y in points]
    wide, tall = math.log(max(cost) / min(cost)) / 6, (max(reached) - min(reached)) / 16
    placed: list[tuple[float, float]] = []
    for name, x, y in sorted(points, key=lambda point: point[2]):
        at = math.log(x)
        taken = any(abs(at - a) < wide and abs(y - b) < tall for a, b in placed)
        _tag(axes, name, x, y, "#444444", above=taken, left=x > max(cost) / 3)
        placed.append((at, y))


def _tag(
    axes: Any, text: str, x: float, y: float, color: str, *, above: bool = False, left: bool = False
) -> None:
    axes.annotate(
        text, (x * 1e3, y), xytext=(-4 if left else 4, 6 if above else -12),
        textcoords="offset points", ha="right" if left else "left", color=color, fontsize=8,
    )  # fmt: skip


def bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
