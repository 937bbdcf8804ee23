"""The rows as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Part of the rows, the axis below, and the curves drawn of it.
PANELS = (
    ("batch", "calls at once", (("decision_cpu_ms", "a decision"), ("call_cpu_ms", "a whole call"),
                                ("redis_cpu_ms", "Redis, for it"))),
    ("records", "records in the history", (("decision_cpu_ms", "a decision"),)),
    ("models", "models", (("decision_cpu_ms", "a decision"), ("call_cpu_ms", "a whole call"),
                          ("redis_cpu_ms", "Redis, for it"))),
    ("kernels", "kernels on one Redis", (("redis_cpu_ms", "Redis, for a call"),
                                         ("call_cpu_ms", "a kernel, for a call"))),
)  # fmt: skip


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Processor time against what varies, as SVG or PNG by the file's name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    for place, (part, below, curves) in enumerate(PANELS):
        mine = [row for row in rows if row["part"] == part]
        axes = figure.add_subplot(2, 2, place + 1)
        for name, label in curves:
            axes.plot([r["size"] for r in mine], [r[name] for r in mine], marker="o", label=label)
        if part == "records":
            other = axes.twinx()
            other.plot(
                [r["size"] for r in mine], [r["memory_mb"] for r in mine], "s--", color="0.5"
            )
            other.set_ylabel("megabytes (dashed)")
        axes.set_xscale("log")
        sizes = [row["size"] for row in mine]
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel(below)
        axes.set_ylabel("milliseconds of processor")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left" if part in ("models", "kernels") else "best")
    figure.savefig(path)
