"""The tables of docs/reliability.md, each between two marks of its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from integration.faults.ground import Row
from integration.faults.many import Case

HEAD = (
    *("fault", "on", "sent", "answered", "with an error", "doubled", "lost", "over a limit"),
    *("p99 wait, s more", "`status` says", "normal after, s"),
)


def put(page: Path, section: str, table: Sequence[Sequence[object]]) -> None:
    """Replace a section's table; its first row is its head."""
    head, *rows = [[str(cell).replace("|", "/") for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {section} -->\n")
    _, end, after = rest.partition(f"<!-- /{section} -->")
    if not mark or not end:
        raise ValueError(f"{page} has no section {section!r}")
    page.write_text(f"{before}{mark}{text}\n{end}{after}", encoding="utf-8")


def of_rows(rows: Sequence[Row]) -> list[Sequence[object]]:
    """Faults, one a row."""
    return [HEAD, *(_cells(row) for row in rows)]


def _cells(row: Row) -> list[object]:
    causes = ", ".join(f"{cause} ({count})" for cause, count in row.causes.items())
    said = "; ".join(part for part in (row.status, row.note) if part)
    return [
        *(row.fault, row.on, row.sent, row.answered),
        f"{row.errors}: {causes}" if row.errors else 0,
        *(row.doubled, row.lost, f"{row.over} ({row.peaks})"),
        f"{max(row.added_s, 0.0):.2f}",
        said,
        "never" if row.normal_s is None else f"{row.normal_s:.1f}",
    ]


def of_cases(cases: Sequence[Case]) -> list[Sequence[object]]:
    """Cases, one a row."""
    rows = [(case.what, case.figures, "yes" if case.ok else "**no**") for case in cases]
    return [("what", "figures", "as promised"), *rows]
