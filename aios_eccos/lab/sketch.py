"""Success against cost, drawn in text: for a terminal, a pipe or a log, with or without color."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from aios_eccos.config import Floor
from aios_eccos.lab.outlook import Outlook, Point
from aios_eccos.metrics import percent
from aios_eccos.observe.text import money

#: Columns and lines of the picture in all, and columns of the scale on its left.
WIDTH, HEIGHT, LEFT = 78, 13, 7
CURVE, MODEL, HERE = ".", "o", "#"
STYLES = {CURVE: "green", MODEL: "cyan", HERE: "bold green"}
NAME_MOST = 28
LEGEND = Text.assemble(
    *(" " * LEFT, (CURVE * 4, STYLES[CURVE]), " eccos at any floor   ", (HERE, STYLES[HERE])),
    *(" at the floor asked   ", (MODEL, STYLES[MODEL]), " one model alone"),
)
#: Steps that a scale of success may have.
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(slots=True)
class Canvas:
    """Cells of a picture by (line, column), each a sign and its style."""

    lines: int
    columns: int
    cells: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)

    def put(self, line: int, column: int, text: str, style: str = "") -> None:
        for offset, sign in enumerate(text):
            self.cells[line, column + offset] = sign, style

    def free(self, line: int, column: int, width: int) -> bool:
        """Whether a text would fit there with a blank on both sides."""
        inside = 0 <= line < self.lines and column >= 0 and column + width <= self.columns
        around = range(column - 1, column + width + 1)
        return inside and not any((line, place) in self.cells for place in around)

    def line(self, number: int) -> Text:
        drawn = Text()
        for column in range(self.columns):
            drawn.append(*self.cells.get((number, column), (" ", "")))
        return drawn


@dataclass(frozen=True, slots=True)
class Scale:
    """Where success and cost lie in a picture: success evenly, cost by its logarithm."""

    low: float
    high: float
    step: float
    cheap: float
    dear: float
    lines: int
    columns: int

    @classmethod
    def of(cls, points: Sequence[Point], lines: int, columns: int) -> Scale:
        success = [point.success for point in points]
        cost = [max(point.cost, 1e-12) for point in points]
        step = _step(max(success) - min(success))
        low, high = min(success) // step * step, math.ceil(max(success) / step) * step
        high = max(high, low + step)
        return cls(low, high, step, min(cost), max(*cost, 2 * min(cost)), lines, columns)

    def place(self, success: float, cost: float) -> tuple[int, int]:
        """Line and column."""
        up = (self.high - success) / (self.high - self.low)
        along = math.log(max(cost, self.cheap) / self.cheap) / math.log(self.dear / self.cheap)
        return round(up * (self.lines - 1)), round(along * (self.columns - 1))


def _step(span: float) -> float:
    return next((step for step in STEPS if span / step <= 6), STEPS[-1])


def sketch(view: Outlook) -> list[Text]:
    """The frontier, the single models, and where the floor that is asked for puts the router."""
    canvas = Canvas(HEIGHT, WIDTH - LEFT)
    curve = [
        Point("", float(success), float(cost))
        for cost, success in zip(view.frontier.cost, view.frontier.success, strict=True)
    ]
    scale = Scale.of([*view.models, view.ours, *curve], HEIGHT, canvas.columns)
    _draw_curve(canvas, scale, view)
    for point in view.models:
        canvas.put(*scale.place(point.success, point.cost), MODEL, STYLES[MODEL])
    canvas.put(*scale.place(view.ours.success, view.ours.cost), HERE, STYLES[HERE])
    for point in (view.strongest, view.ours):
        _name(canvas, scale, point, point.name[:NAME_MOST], "bold")
    others = [point for point in view.models if point != view.strongest]
    for point in sorted(others, key=lambda point: -point.success):
        _name(canvas, scale, point, point.name[:NAME_MOST], "")
    heads = [Text(f"{_percent(scale, line):>{LEFT - 2}} |") for line in range(HEIGHT)]
    rows = [head + canvas.line(line) for line, head in enumerate(heads)]
    return [*rows, *_costs(scale, view.money), LEGEND]


def _draw_curve(canvas: Canvas, scale: Scale, view: Outlook) -> None:
    """The frontier from its cheapest point to its dearest, a sign a column."""
    _, first = scale.place(0.0, float(view.frontier.cost[0]))
    _, last = scale.place(0.0, float(view.frontier.cost[-1]))
    for column in range(first, last + 1):
        cost = scale.cheap * (scale.dear / scale.cheap) ** (column / (scale.columns - 1))
        cost = min(max(cost, float(view.frontier.cost[0])), float(view.frontier.cost[-1]))
        line, _ = scale.place(view.frontier.success_at(cost), cost)
        canvas.put(line, column, CURVE, STYLES[CURVE])


def _name(canvas: Canvas, scale: Scale, point: Point, name: str, style: str) -> None:
    """A name beside its point, wherever there is room; none where there is not."""
    line, column = scale.place(point.success, point.cost)
    apart = [column + 2, column - len(name) - 1]
    places = [(line, start) for start in apart]
    for beside in (line + 1, line - 1, line + 2, line - 2):
        places += [(beside, start) for start in (*apart, column - len(name) + 1)]
    for place in places:
        if canvas.free(*place, len(name)):
            canvas.put(*place, name, style)
            return


def _percent(scale: Scale, line: int) -> str:
    """What stands beside the line that is nearest to a step of the scale."""
    steps = round((scale.high - scale.low) / scale.step)
    marks = [scale.low + i * scale.step for i in range(steps + 1)]
    return next((f"{m * 100:.0f} %" for m in marks if scale.place(m, scale.cheap)[0] == line), "")


def _costs(scale: Scale, money: bool) -> list[Text]:
    """The axis of cost: powers of ten per 1,000 calls."""
    axis, marks = list("-" * scale.columns), [" "] * scale.columns
    low, high = math.log10(scale.cheap * 1e3), math.log10(scale.dear * 1e3)
    ends = range(math.ceil(low), math.floor(high) + 1)
    for power in ends:
        _, column = scale.place(0.0, 10.0**power / 1e3)
        text = f"${10.0**power:g}" if money else f"{10.0**power:g}u"
        start = min(column, scale.columns - len(text))
        axis[column] = "+"
        marks[start : start + len(text)] = text
    return [Text(" " * (LEFT - 1) + "+" + "".join(axis)), Text(" " * LEFT + "".join(marks))]


def words(view: Outlook, floor: Floor) -> list[Text]:
    """The floor beside what was had on the same calls, and what is saved, at 80 columns."""
    ours, best = view.ours, view.strongest
    had = f"{percent(ours.success)}"
    if floor.relative:
        share = ours.success / best.success if best.success else 1.0
        had += f", {percent(share)} of that (± {view.ratio_error * 100:.1f})"
    else:
        had += f" (± {view.error * 100:.1f})"
    spent, theirs = (money(1e3 * point.cost, view.money) for point in (ours, best))
    unit = "" if view.money else " (u: an output token x billions of parameters; --prices)"
    return [
        Text(line)
        for said in (
            f"Floor: {floor} asked. On the same {view.calls} calls {best.name}, the strongest, "
            f"succeeded in {percent(best.success)}, eccos in {had}.",
            f"Money: {spent} instead of {theirs} per 1,000 calls, "
            f"{percent(view.saved)} saved{unit}.",
        )
        for line in textwrap.wrap(said, WIDTH)
    ]
