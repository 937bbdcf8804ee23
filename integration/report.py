"""Rows of the integration runs: collected, printed as a table, written as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aios_eccos.lab.dataset import Dataset, load_dataset, load_prices

from .kernel import homes
from .load import Reply, median, percentile


def options(name: str, about: str | None, quick: str) -> argparse.ArgumentParser:
    """What every measurement on AIOS may be asked for; `quick` says what that leaves out."""
    parser = argparse.ArgumentParser(prog=f"python -m integration.{name}", description=about)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs AIOS")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--keep", action="store_true", help="keep the copies and logs")
    return parser


def data_folder() -> Path:
    """Where the recorded answers lie; `SystemExit` where they or the two checkouts are missing."""
    data = os.environ.get("AIOS_ECCOS_DATA")
    if homes() is None or not data:
        raise SystemExit("set AIOS_HOME, CEREBRUM_HOME and AIOS_ECCOS_DATA")
    return Path(data)


def recorded(name: str) -> tuple[Dataset, dict[str, tuple[float, float]]]:
    """A file of recorded answers, and the prices beside it."""
    folder = data_folder()
    return load_dataset([folder / name]), load_prices(folder / "prices.json")


@dataclass(frozen=True, slots=True)
class Row:
    """One case.

    Attributes:
        sent, answered, lost, doubled: calls; `doubled` were settled more than once.
        overshoot: calls above a limit that a server saw at once.
        value: the case's own figure, with `unit`.
        note: what else is worth knowing, or why it failed.
    """

    case: str
    ok: bool
    sent: int = 0
    answered: int = 0
    lost: int = 0
    doubled: int = 0
    overshoot: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    value: float | None = None
    unit: str = ""
    note: str = ""


@dataclass(slots=True)
class Report:
    """Collects rows; every row is printed when it is known."""

    name: str
    judges: bool = True
    rows: list[Row] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def add(self, row: Row) -> Row:
        """Keep and print a row."""
        self.rows.append(row)
        figures = [
            f"{row.answered}/{row.sent}" if row.sent else "",
            f"p50 {row.p50_s:.3f}" if row.p50_s is not None else "",
            f"p95 {row.p95_s:.3f}" if row.p95_s is not None else "",
            f"{row.value:.4g} {row.unit}" if row.value is not None else "",
            f"over {row.overshoot}" if row.overshoot else "",
            row.note,
        ]
        mark = ("ok  " if row.ok else "FAIL") if self.judges else "    "
        line = f"{mark} {row.case:44} {'  '.join(part for part in figures if part)}"
        print(line, file=sys.stderr, flush=True)
        return row

    def check(self, case: str, ok: bool, note: str = "") -> Row:
        """A case that is only right or wrong."""
        return self.add(Row(case, ok, note=note))

    def calls(
        self, case: str, replies: Sequence[Reply], ok: bool | None = None, **more: Any
    ) -> Row:
        """A case of calls; right if none is lost, unless `ok` says otherwise."""
        lost = sum(reply.response is None for reply in replies)
        times = [reply.seconds for reply in replies]
        return self.add(
            Row(
                case,
                lost == 0 if ok is None else ok,
                sent=len(replies),
                answered=len(replies) - lost,
                lost=lost,
                p50_s=round(median(times), 4),
                p95_s=round(percentile(times, 0.95), 4),
                **more,
            )
        )

    def counts(self) -> list[tuple[str, int, int, float | None]]:
        """Each row as a table says it: the case, how many, how many fell short, its own figure."""
        return [(row.case, row.sent, row.lost, row.value) for row in self.rows]

    def finish(self, target: str | None, **more: Any) -> int:
        """Print the sum, write the JSON; the exit code."""
        failed = [row.case for row in self.rows if not row.ok]
        took = time.monotonic() - self.begun
        sum_line = f"{len(self.rows)} cases, {len(failed)} failed, {took:.0f} s"
        print(sum_line + (f": {', '.join(failed)}" if failed else ""), file=sys.stderr)
        document = {
            "schema": f"aios-eccos/{self.name}/1",
            "seconds": round(took, 1),
            **more,
            "rows": [asdict(row) for row in self.rows],
        }
        if target == "-":
            print(json.dumps(document, indent=2))
        elif target:
            Path(target).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        return 1 if failed else 0
