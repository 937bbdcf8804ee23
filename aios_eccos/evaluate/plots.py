"""Pictures of an evaluation, 1200 px wide: frontier, calibration, shares; labels on the lines.

Colors are Okabe and Ito's, which color-blind readers can tell apart; shares go by cividis.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..values import FloatArray
from .metrics import Frontier, hull_cost
from .replay import Played
from .report import Results
from .summary import At, frontier

#: Pixels per inch; figures are 12 inches wide.
DPI = 100
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
#: Half of a model's name, and the width that its share must keep, as shares of the picture.
LABEL_HALF, LABEL_ROOM = 0.17, 0.07
#: Strategies that promise a floor, in the calibration picture.
PROMISING = ("eccos", "lagrangian", "mess_plus", "hull")


def draw(results: Results, path: Path) -> None:
    """All pictures in one PNG.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _figure(12, 14)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.3, 1))
    draw_frontier(results, figure.add_subplot(grid[0, :]))
    draw_calibration(results, figure.add_subplot(grid[1, 0]))
    draw_shares(results, figure.add_subplot(grid[1, 1]))
    try:
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise ConfigError(f"--plot {path}: {error.strerror or error}") from error


def pictures(results: Results) -> dict[str, bytes]:
    """Each picture as PNG, by title."""
    drawn = {}
    drawers: dict[str, tuple[float, Callable[[Results, Any], None]]] = {
        "Cost and success": (7.5, draw_frontier),
        "Asked and realised": (6.5, draw_calibration),
        "Share per model": (6.5, draw_shares),
    }
    for title, (height, drawer) in drawers.items():
        figure = _figure(12, height)
        drawer(results, figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        drawn[title] = buffer.getvalue()
    return drawn


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install 'aios-eccos[plots]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curve(rows: Sequence[Played], grid: FloatArray) -> FloatArray:
    """Success that a cost buys, mean over splits; NaN where a split does not reach down to it."""
    splits = sorted({row.split for row in rows})
    fronts = [frontier([row for row in rows if row.split == split]) for split in splits]
    success = np.array([[front.success_at(cost) for cost in grid] for front in fronts])
    return np.asarray(success.mean(axis=0), dtype=float)


def draw_frontier(results: Results, axes: Any) -> None:
    """Success by log cost, all strategies; shaded from the hull to the clairvoyant bound."""
    groups = _groups(results)
    singles = {key: rows for key, rows in groups.items() if key[0].startswith("single:")}
    cost, success = _points(singles)
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
    ends_at = [("hull: two models mixed", "black", *_end(grid, low))]
    ends_at.append(("clairvoyant", "black", *_end(grid, seer)))
    for key, rows in groups.items():
        if key in singles or key[0] in ("hull", "clairvoyant", "cheapest", "strongest"):
            continue
        if len({row.setting for row in rows}) == 1:
            x, y = _points({key: rows})
            axes.plot(x * 1e3, y, "k+", markersize=9)
            _tag(axes, key[0], float(x[0]), float(y[0]), "black")
            continue
        color, line, width = STYLE.get(key[0], PLAIN)
        if key[0] == "eccos" and results.summary.ours != key:
            line, width = "--", 1.6
        values = curve(rows, grid)
        front = 5 if results.summary.ours == key else 2
        axes.plot(grid * 1e3, values, color=color, linestyle=line, linewidth=width, zorder=front)
        ends_at.append((_label(results, key), color, *_end(grid, values)))
    axes.plot(cost * 1e3, success, "o", color="#555555", markersize=5, zorder=6)
    _name_points(axes, [key[0].removeprefix("single:") for key in singles], cost, success)
    axes.set_xscale("log")
    axes.set_xlim(ends[0] * 1e3, ends[1] * 1e3)
    axes.set_ylim(success.min() - 0.03, max(float(np.nanmax(seer)), success.max()) + 0.02)
    _labels(axes, ends_at, ends[1] * 1e3 * 1.12)
    axes.set_xlabel("dollars per 1,000 calls (log scale)")
    axes.set_ylabel("success")
    axes.set_title("Cost and success; up and left is better", loc="left")
    _bare(axes)


def draw_calibration(results: Results, axes: Any) -> None:
    """Realised success by floor asked, with two standard errors."""
    ours = results.summary.ours
    low, high = 1.0, 0.0
    for name in PROMISING:
        at = _floors(results, name, ours)
        if not at:
            continue
        floors = np.array([point.value for point in at])
        got = np.array([point.success.mean for point in at])
        error = np.nan_to_num(np.array([point.success.error for point in at]))
        color, line, width = STYLE.get(name, PLAIN)
        axes.plot(floors, got, color=color, linestyle=line, linewidth=width)
        if name == "eccos":
            axes.fill_between(floors, got - 2 * error, got + 2 * error, color=color, alpha=0.2)
            low, high = float(floors.min()), float(floors.max())
        middle = {"eccos": 0.75, "lagrangian": 0.5, "mess_plus": 0.62, "hull": 0.3}[name]
        i = int(middle * (len(floors) - 1))
        side = {"eccos": (10, -14), "lagrangian": (10, -14), "mess_plus": (-64, 16)}.get(
            name, (-34, 14)
        )
        axes.annotate(
            name, (floors[i], got[i]), xytext=side, textcoords="offset points", color=color,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6},
        )  # fmt: skip
    if low < high:
        axes.set_xlim(low, high)
        axes.axline((low, low), (high, high), color="black", linewidth=0.8)
    axes.set_xlabel("floor asked for")
    axes.set_ylabel("success realised (band: 2 standard errors)")
    axes.set_title("Asked and realised; on the line is right", loc="left")
    _bare(axes)


def draw_shares(results: Results, axes: Any) -> None:
    """Which models serve at each floor, cheapest at the bottom."""
    from matplotlib import colormaps

    at = _floors(results, "eccos", results.summary.ours)
    axes.set_title("Share per model by floor", loc="left")
    if not at:
        axes.set_axis_off()
        return
    groups = _groups(results)
    price = {m: _points({(m, None): groups[(f"single:{m}", None)]})[0][0] for m in results.models}
    order = sorted(results.models, key=lambda model: float(price[model]))
    floors = np.array([point.value for point in at])
    shares = np.array([[point.share[model] for point in at] for model in order])
    colors = colormaps["cividis"](np.linspace(0, 1, len(order)))
    axes.stackplot(floors, shares, colors=colors, edgecolor="white", linewidth=0.5)
    base = np.cumsum(shares, axis=0) - shares
    room = np.ptp(floors) * LABEL_ROOM
    for k, model in enumerate(order):
        least = [shares[k, np.abs(floors - floor) <= room].min() for floor in floors]
        edge = np.minimum(floors - floors.min(), floors.max() - floors)
        fits = edge >= np.ptp(floors) * LABEL_HALF
        best = np.where(fits, least, -1.0)
        if best.max() < 0.04:
            continue
        wide = np.flatnonzero(best >= 0.9 * best.max())
        i = int(wide[len(wide) // 2])
        bright = float(np.dot(colors[k][:3], (0.3, 0.6, 0.1))) > 0.5
        axes.text(
            floors[i], base[k, i] + shares[k, i] / 2, model, ha="center", va="center",
            color="black" if bright else "white", fontsize=9,
        )  # fmt: skip
    axes.set_xlim(floors.min(), floors.max())
    axes.set_ylim(0, 1)
    axes.set_xlabel("floor asked for")
    axes.set_ylabel("share of calls")
    _bare(axes)


def _groups(results: Results) -> dict[tuple[str, str | None], list[Played]]:
    groups: dict[tuple[str, str | None], list[Played]] = {}
    for row in results.rows:
        groups.setdefault((row.strategy, row.predictor), []).append(row)
    return groups


def _points(groups: dict[tuple[str, str | None], list[Played]]) -> tuple[FloatArray, FloatArray]:
    """Mean cost and success of each group."""
    cost = [float(np.mean([row.cost for row in rows])) for rows in groups.values()]
    success = [float(np.mean([row.success for row in rows])) for rows in groups.values()]
    return np.array(cost), np.array(success)


def _floors(results: Results, name: str, ours: tuple[str, str | None] | None) -> list[At]:
    kind = None if name == "hull" or ours is None else ours[1]
    found = [
        at
        for at in results.summary.at
        if at.strategy == name and at.predictor == kind and at.name == "floor"
    ]
    return sorted(found, key=lambda at: at.value or 0.0)


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


def _name_points(axes: Any, names: list[str], cost: FloatArray, success: FloatArray) -> None:
    """Names below their points; above, where another's name is there already."""
    wide, tall = np.log(cost.max() / cost.min()) / 6, np.ptp(success) / 12
    placed: list[tuple[float, float]] = []
    for i in np.argsort(-success):
        x, y = float(np.log(cost[i])), float(success[i])
        taken = any(abs(x - a) < wide and abs(y - b) < tall for a, b in placed)
        late = float(cost[i]) > cost.max() / 3
        _tag(axes, names[i], float(cost[i]), y, "#555555", above=taken, left=late)
        placed.append((x, y))


def _tag(
    axes: Any, text: str, x: float, y: float, color: str, *, above: bool = False, left: bool = False
) -> None:
    axes.annotate(
        text, (x * 1e3, y), xytext=(-4 if left else 4, 6 if above else -12),
        textcoords="offset points", ha="right" if left else "left", color=color, fontsize=8,
    )  # fmt: skip


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
