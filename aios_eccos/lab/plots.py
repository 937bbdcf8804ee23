"""Pictures of an evaluation, 1200 px wide: frontier, calibration, shares; labels on the lines.

Colors are Okabe and Ito's, which color-blind readers can tell apart; shares go by cividis.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.errors import ConfigError
from aios_eccos.lab.plot_frontier import PLAIN, STYLE, bare, draw_frontier, groups_of, points_of
from aios_eccos.lab.report import Results
from aios_eccos.lab.summary import At
from aios_eccos.values import FloatArray

#: Pixels per inch; figures are 12 inches wide.
DPI = 100
#: Width of a letter, and height of a line, as shares of the picture of shares.
LETTER, LINE = 0.017, 0.03
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
    bare(axes)


def draw_shares(results: Results, axes: Any) -> None:
    """Which models serve at each floor, cheapest at the bottom."""
    from matplotlib import colormaps

    at = _floors(results, "eccos", results.summary.ours)
    axes.set_title("Share per model by floor", loc="left")
    if not at:
        axes.set_axis_off()
        return
    groups = groups_of(results)
    price = {m: points_of({(m, None): groups[(f"single:{m}", None)]})[0][0] for m in results.models}
    order = sorted(results.models, key=lambda model: float(price[model]))
    floors = np.array([point.value for point in at])
    shares = np.array([[point.share[model] for point in at] for model in order])
    colors = colormaps["cividis"](np.linspace(0, 1, len(order)))
    axes.stackplot(floors, shares, colors=colors, edgecolor="white", linewidth=0.5)
    base = np.cumsum(shares, axis=0) - shares
    thin: list[str] = []
    for k, model in enumerate(order):
        band = base[k], base[k] + shares[k]
        long, wide = LETTER * len(model), float(np.ptp(floors))
        place, turn = _room(floors, *band, wide * long / 2, LINE), 0
        if place is None:
            place, turn = _room(floors, *band, wide * LINE / 2, long), 90
        if place is None:
            if shares[k].max() > LINE:
                thin.append(model)
            continue
        bright = float(np.dot(colors[k][:3], (0.3, 0.6, 0.1))) > 0.5
        color = "black" if bright else "white"
        axes.text(*place, model, ha="center", va="center", color=color, fontsize=9, rotation=turn)
    axes.set_xlim(floors.min(), floors.max())
    axes.set_ylim(0, 1)
    note = f"\nnarrow, from below: {', '.join(thin)}" if thin else ""
    axes.set_xlabel(f"floor asked for{note}")
    axes.set_ylabel("share of calls")
    bare(axes)


def _room(
    x: FloatArray, low: FloatArray, high: FloatArray, half: float, least: float
) -> tuple[float, float] | None:
    """The middle of the tallest level strip of width 2 `half` in a band; None below `least`."""
    grid = np.linspace(x.min() + half, x.max() - half, 60)
    best, place = least, None
    for middle in grid:
        at = np.linspace(middle - half, middle + half, 9)
        bottom = float(np.interp(at, x, low).max())
        top = float(np.interp(at, x, high).min())
        if top - bottom > best:
            best, place = top - bottom, (float(middle), (bottom + top) / 2)
    return place


def _floors(results: Results, name: str, ours: tuple[str, str | None] | None) -> list[At]:
    kind = None if name == "hull" or ours is None else ours[1]
    found = [
        at
        for at in results.summary.at
        if at.strategy == name and at.predictor == kind and at.name == "floor"
    ]
    return sorted(found, key=lambda at: at.value or 0.0)
