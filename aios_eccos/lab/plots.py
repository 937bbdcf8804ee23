"""Pictures of an evaluation, 1200 px wide, and one self-contained HTML page without scripts.

Colors are Okabe and Ito's, which color-blind readers can tell apart; shares go by cividis."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.errors import ConfigError
from aios_eccos.lab.fitted import Kind
from aios_eccos.lab.metrics import Frontier, hull_cost, reliability
from aios_eccos.lab.onboarding import Stream
from aios_eccos.lab.report import Results, Table
from aios_eccos.lab.strategy import Played
from aios_eccos.lab.summary import At, Key, frontier
from aios_eccos.values import FloatArray

#: Pixels per inch; figures are 12 inches wide.
DPI = 100
#: Color, line and width by strategy.
STYLE = {
    "eccos": ("#D55E00", "-", 3.2),
    "clairvoyant": ("black", "-", 1.2),
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
#: Strategies that promise a floor, in the calibration picture.
PROMISING = ("eccos", "lagrangian", "mess_plus", "hull")
#: Points of the curves that are averaged over splits.
GRID = 160


def draw(results: Results, path: Path) -> None:
    """All pictures in one PNG."""
    figure = _figure(12, 14)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.3, 1))
    for drawer, place in zip(PICTURES.values(), (grid[0, :], grid[1, 0], grid[1, 1]), strict=True):
        drawer(results, figure.add_subplot(place))
    _save(figure, path)


def pictures(results: Results) -> dict[str, bytes]:
    drawn = {}
    for title, drawer in PICTURES.items():
        figure, buffer = _figure(12, 7), io.BytesIO()
        drawer(results, figure.add_subplot())
        figure.savefig(buffer, format="png", dpi=DPI)
        drawn[title] = buffer.getvalue()
    return drawn


def draw_onboarding(found: Sequence[Stream], path: Path) -> None:
    """Of each order, cost of everything and success against the strongest alone, by calls."""
    spent, success = (figure := _figure(12, 5)).subplots(1, 2)
    for one in found:
        calls = np.arange(1, len(one.cost) + 1)
        spent.plot(calls, np.cumsum(one.spent) / np.cumsum(one.strongest_cost), lw=1)
        success.plot(calls, np.cumsum(one.success - one.strongest_success) / calls, lw=1)
    spent.set(title="Cost with audits and judge, of strongest's", xlabel="calls")
    success.set(title="Mean success less the strongest's", xlabel="calls", ylim=(-0.2, 0.1))
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install 'aios-eccos[plots]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=DPI, format="png")
    except OSError as error:
        raise ConfigError(f"--plot {path}: {error.strerror or error}") from error


def draw_frontier(results: Results, axes: Any) -> None:
    """Success by log cost, all strategies; shaded from the hull to the clairvoyant bound."""
    groups: dict[Key, list[Played]] = {}
    for row in results.rows:
        groups.setdefault((row.strategy, row.predictor), []).append(row)
    points = {key: _point(rows) for key, rows in groups.items()}
    single = {key: points[key] for key in groups if key[0].startswith("single:")}
    cost, success = np.array([*single.values()]).T
    ends = max(cost.min(), 1e-9) * 0.75, cost.max() * 1.35
    grid = np.geomspace(*ends, GRID)
    # The hull in success by cost: invert its cost by success.
    reach = np.linspace(success.min(), success.max(), GRID)
    mixed = Frontier.of([hull_cost(cost, success, level) for level in reach], reach)
    low = np.array([mixed.success_at(value) for value in grid])
    axes.plot(grid * 1e3, low, color="black", linewidth=1.2, linestyle=(0, (1, 1)), label="hull")
    for key, rows in groups.items():
        if key in single or key[0] in ("hull", "cheapest", "strongest"):
            continue
        if len({row.setting for row in rows}) == 1:
            x, y = points[key]
            axes.plot(x * 1e3, y, "k+", markersize=9)
            _name(axes, key[0], x, y)
            continue
        values = curve(rows, grid)
        ours = results.summary.ours == key
        color, line, width = STYLE.get(key[0], PLAIN)
        if key[0] == "eccos" and not ours:
            line, width = "--", 1.6
        if key[0] == "clairvoyant":
            axes.fill_between(grid * 1e3, low, values, color="#eeeeee", zorder=0)
        label = key[0] if key[1] is None else f"{key[0]} ({key[1]})"
        style = {"color": color, "linestyle": line, "linewidth": width, "zorder": 5 if ours else 2}
        axes.plot(grid * 1e3, values, label=label, **style)
    for (name, _), (x, y) in single.items():
        axes.plot(x * 1e3, y, "o", color="#555555", markersize=5, zorder=6)
        _name(axes, name.removeprefix("single:"), x, y)
    axes.set(xscale="log", xlim=(ends[0] * 1e3, ends[1] * 1e3), ylim=(success.min() - 0.03, None))
    _finish(axes, "Cost and success; up and left is better", "dollars per 1,000 calls", "success")


def _point(rows: Sequence[Played]) -> tuple[float, float]:
    return float(np.mean([r.cost for r in rows])), float(np.mean([r.success for r in rows]))


def curve(rows: Sequence[Played], grid: FloatArray) -> FloatArray:
    """(k,) success that each cost of a grid buys, mean over splits.

    NaN where a split does not reach down to it.
    """
    splits = {row.split for row in rows}
    fronts = [frontier([row for row in rows if row.split == split]) for split in splits]
    success = np.array([[front.success_at(cost) for cost in grid] for front in fronts])
    return np.asarray(success.mean(axis=0), dtype=float)


def draw_calibration(results: Results, axes: Any) -> None:
    """Realised success by floor asked, with two standard errors."""
    low, high = 1.0, 0.0
    for name in PROMISING:
        at = _floors(results, name)
        if not at:
            continue
        floors = np.array([point.value for point in at])
        got = np.array([point.success.mean for point in at])
        error = np.nan_to_num(np.array([point.success.error for point in at]))
        color, line, width = STYLE.get(name, PLAIN)
        axes.plot(floors, got, color=color, linestyle=line, linewidth=width, label=name)
        if name == "eccos":
            axes.fill_between(floors, got - 2 * error, got + 2 * error, color=color, alpha=0.2)
            low, high = float(floors.min()), float(floors.max())
    if low < high:
        axes.set_xlim(low, high)
        axes.axline((low, low), (high, high), color="black", linewidth=0.8)
    title = "Asked and realised; on the line is right"
    _finish(axes, title, "floor asked for", "success realised (band: 2 standard errors)")


def draw_shares(results: Results, axes: Any) -> None:
    """Which models serve at each floor, cheapest at the bottom."""
    from matplotlib import colormaps

    at = _floors(results, "eccos")
    axes.set_title("Share per model by floor", loc="left")
    if not at:
        axes.set_axis_off()
        return
    price = {
        model: _point([row for row in results.rows if row.strategy == f"single:{model}"])[0]
        for model in results.models
    }
    order = sorted(results.models, key=lambda model: price[model])
    floors = np.array([point.value for point in at])
    shares = np.array([[point.share[model] for point in at] for model in order])
    colors = colormaps["cividis"](np.linspace(0, 1, len(order)))
    axes.stackplot(floors, shares, colors=colors, labels=order, edgecolor="white", linewidth=0.5)
    axes.set(xlim=(floors.min(), floors.max()), ylim=(0, 1))
    _finish(axes, "Share per model by floor", "floor asked for", "share of calls")


PICTURES: dict[str, Callable[[Results, Any], None]] = {
    "Cost and success": draw_frontier,
    "Asked and realised": draw_calibration,
    "Share per model": draw_shares,
}


def draw_reliability(told: Mapping[Kind, tuple[FloatArray, FloatArray]], path: Path) -> None:
    """Success forecast and had by every predictor, all splits together, as a PNG."""
    figure = _figure(5, 5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for (name, (forecast, outcome)), mark in zip(told.items(), "s^o", strict=True):
        said, had, _ = reliability(forecast, outcome, bins=20)
        axes.plot(said, had, marker=mark, markersize=4, linewidth=1, label=name)
    title = "20 equally filled bins, test rows of all splits"
    _finish(axes, title, "success forecast", "success had")
    _save(figure, path)


def _floors(results: Results, name: str) -> list[At]:
    ours = results.summary.ours
    kind = None if name == "hull" or ours is None else ours[1]
    found = [
        at
        for at in results.summary.at
        if at.strategy == name and at.predictor == kind and at.name == "floor"
    ]
    return sorted(found, key=lambda at: at.value or 0.0)


def _name(axes: Any, text: str, cost: float, success: float) -> None:
    axes.annotate(
        text, (cost * 1e3, success), xytext=(4, -10), textcoords="offset points", fontsize=8
    )


def _finish(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, framealpha=0.8)


PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; color: #222; }
img { max-width: 100%; } h2 { margin-top: 2em; } .note { color: #666; font-size: 13px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
tr.ours td { font-weight: bold; } .wide { overflow-x: auto; }
"""


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    tables: Sequence[Table],
) -> None:
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(facts)]
    for name, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        parts.append(f"<h2>{html.escape(name)}</h2>")
        parts.append(f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
    parts += [_table(table) for table in tables]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{PAGE_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--report {path}: {error.strerror or error}") from error


def _facts(facts: Mapping[str, Any]) -> str:
    items = (f"{html.escape(str(k))}: {html.escape(str(v))}" for k, v in facts.items())
    return f'<p class="note">{"; ".join(items)}</p>'


def _table(table: Table) -> str:
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in (*table.rows, {})[0])
    rows = "\n".join(
        f"<tr{' class=ours' if next(iter(row.values())).startswith('eccos') else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.values())
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="wide"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
        f'<p class="note">{html.escape(table.note)}</p>'
    )
