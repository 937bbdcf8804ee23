"""`python -m integration.hostile`: whatever may come from outside, thousands of times.

Foreign values under every Redis key, any value at every door, model servers that mean harm, and,
where schemathesis is installed, requests to /eccos/ made from its OpenAPI. The tests try a part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ..faults.page import put
from ..report import Report, Row
from .inputs import DOORS, knock
from .redis_values import fill, look_at_all, serve_under_all
from .servers import SERVERS, asked
from .world import redis_server


def add(report: Report, case: str, work: Callable[[], tuple[int, list[str]]]) -> None:
    """A row: so many values, so many of them taken or refused as they should be."""
    begun = time.monotonic()
    tried, faults = work()
    report.add(
        Row(
            case,
            not faults,
            sent=tried,
            answered=tried - len(faults),
            lost=len(faults),
            value=round(time.monotonic() - begun, 1),
            unit="s",
            note="; ".join(faults[:3])[:400],
        )
    )


def servers() -> tuple[int, list[str]]:
    """Every model server that means harm."""
    faults = [f"{name}: {fault}" for name, says in SERVERS.items() for fault in asked(says)]
    return len(SERVERS), faults


def rows(report: Report, examples: int, every: int) -> None:
    """All cases."""
    for name, door in DOORS.items():
        add(report, f"any value: {name}", lambda door=door: knock(door, examples))  # type: ignore[misc]
    add(report, "model servers that mean harm", servers)
    with tempfile.TemporaryDirectory() as made, redis_server() as port:
        folder = Path(made)
        dumps = fill(port, folder / "a")
        add(report, "foreign values in Redis, looked at", lambda: look_at_all(port, dumps, every))
        add(
            report,
            "foreign values in Redis, calls answered",
            lambda: serve_under_all(port, dumps, folder / "b", every * 10),
        )
        if find_spec("schemathesis") is None:
            print("no schemathesis: pip install schemathesis", file=sys.stderr)
            return
        from .http import requests

        add(report, "requests to /eccos/", lambda: requests(folder / "c", examples // 10))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m integration.hostile", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000, help="values at each door")
    parser.add_argument("--every", type=int, default=1, help="each n-th foreign value in Redis")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table there")
    given = parser.parse_args()
    report = Report("hostile")
    rows(report, given.examples, given.every)
    if given.write:
        put(given.write, "hostile", [("what", "tried", "fell short", "s"), *report.counts()])
    return report.finish(given.json, examples=given.examples)


if __name__ == "__main__":
    raise SystemExit(main())
