"""Numbers and tables as plain text of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence

from aios_eccos.metrics import Interval, percent

WIDTH = 80
#: What stands for a number that is not known.
NONE = "-"


def money(value: float | None, known: bool = True) -> str:
    """Dollars with three digits; `known` False: cost units, since no price is known."""
    if value is None:
        return NONE
    sign, size = ("-" if value < 0 else ""), float(f"{abs(value):.2e}")
    if size >= 1000:
        text = f"{abs(value):,.0f}"
    elif size >= 1 or size == 0:
        text = f"{abs(value):.2f}"
    elif size >= 1e-3:
        text = f"{size:.{2 - math.floor(math.log10(size))}f}"
    else:
        digits, power = f"{size:.2e}".split("e")
        text = f"{digits}e{int(power)}"
    return f"{sign}${text}" if known else f"{sign}{text}u"


def rate(value: Interval | None) -> str:
    """A rate with its interval: `81.2 % (78.0-84.1)`."""
    if value is None:
        return NONE
    if value.low is None or value.high is None:
        return percent(value.value)
    return f"{percent(value.value)} ({value.low * 100:.1f}-{value.high * 100:.1f})"


def seconds(value: float | None) -> str:
    """A duration with two or three digits."""
    if value is None:
        return NONE
    if value < 0.0995:
        return f"{value * 1000:.1f} ms"
    if value < 99.5:
        return f"{value:.2f} s" if value < 9.95 else f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def price(tokens: float | None) -> str:
    """Dollars per token as dollars per million."""
    return "?" if tokens is None else f"{tokens * 1e6:.3g}"


def moment(at: float) -> str:
    """A moment in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def bar(used: int, limit: int, width: int = 10) -> str:
    """Load as a bar; full from the limit on, and never empty while something runs."""
    share = used / limit if limit > 0 else 1.0
    filled = min(width, math.ceil(share * width)) if used else 0
    return "#" * filled + "." * (width - filled)


def load(used: int, limit: int, cooling_s: float, width: int = 10) -> str:
    """Load as a bar with its numbers; a model that rests shows for how long instead."""
    shown = f"rests {cooling_s:.0f} s" if cooling_s > 0 else bar(used, limit, width)
    return f"{shown:<{width}} {used}/{limit}"


def clean_line(text: str) -> str:
    """The text without control and other invisible characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def page(parts: Iterable[str]) -> str:
    """Parts of one or more lines as one text, without control characters."""
    return "\n".join(clean_line(line) for part in parts for line in part.split("\n"))


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, without control characters."""
    clean = clean_line(text)
    return clean if len(clean) <= width else clean[: max(width - 2, 0)] + ".."


def wrap(text: str, indent: str = "") -> str:
    """The text in lines of at most 80 columns."""
    return textwrap.fill(clean_line(text), WIDTH, initial_indent=indent, subsequent_indent=indent)


def table(
    rows: Sequence[Mapping[str, str]], width: int = WIDTH, give: Sequence[int] = (0, -1)
) -> str:
    """Cells by head, two blanks apart: words to the left, numbers (heads with `>`) to the right.

    Args:
        rows: at least one; all have the heads of the first.
        give: columns that give way, down to eight characters, where the table would be too wide.
    """
    heads = [*rows[0]]
    lines = [[head.removesuffix(">") for head in heads], *([*row.values()] for row in rows)]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for i in give:
        surplus = sum(wide) + 2 * (len(wide) - 1) - width
        wide[i] = max(wide[i] - max(surplus, 0), min(wide[i], 8))
    drawn = []
    for line in lines:
        cells = []
        for head, cell, size in zip(heads, line, wide, strict=True):
            text = cut(cell, size)
            cells.append(text.rjust(size) if head.endswith(">") else text.ljust(size))
        drawn.append("  ".join(cells).rstrip()[:width])
    return "\n".join(drawn)
