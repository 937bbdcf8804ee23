"""What the steps of a day with real models share: the day itself, calls, and what they came to."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .kernel import Kernel, within
from .load import median, percentile
from .models_real import SLOTS, Server
from .real_calls import Agents, Asked, Job, Reply, mean
from .report import Report
from .typed import Shell

#: Agents that ask side by side: fewer than the strongest model has slots, or calls would spill.
AGENTS = 2
#: Seconds between two looks at the servers' own figures.
LOOK_S = 1.0


@dataclass(slots=True)
class Day:
    """What the steps share.

    Attributes:
        before: sha256 of AIOS's files before anything. tables: what goes into the JSON, by step.
        enabled: the configuration as `enable` has written it.
        answers: by model, the texts of its answers to the routed questions.
    """

    folder: Path
    report: Report
    size: Any
    shell: Shell
    kernel: Kernel
    agents: Agents
    servers: dict[str, Server]
    before: dict[str, str]
    tables: dict[str, Any] = field(default_factory=dict)
    enabled: str = ""
    answers: dict[str, list[str | None]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.kernel.home / "aios/config/config.yaml"

    @property
    def at(self) -> tuple[str, str]:
        return ("--aios-home", str(self.kernel.home))

    def say(self, line: str) -> None:
        print(f"   {line}", file=sys.stderr, flush=True)

    def set(self, **settings: str) -> None:
        """Write settings into AIOS's configuration as an operator does: the rest stays as it is."""
        text = self.config.read_text(encoding="utf-8")
        self.enabled = self.enabled or text
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.split(":")[0].strip() not in settings]
        at = next(n for n, line in enumerate(kept) if line.strip().startswith("eccos:"))
        indent = kept[at][: len(kept[at]) - len(kept[at].lstrip())] + "  "
        kept[at + 1 : at + 1] = [f"{indent}{key}: {value}\n" for key, value in settings.items()]
        self.config.write_text("".join(kept), encoding="utf-8")

    def unset(self) -> None:
        """Take these out again: `disable` leaves to the operator what is his."""
        self.config.write_text(self.enabled, encoding="utf-8")


def asked(
    day: Day,
    case: str,
    jobs: Sequence[Job],
    side_by_side: int = AGENTS,
    each: Callable[[int], None] | None = None,
) -> list[Reply]:
    """Ask, and check what holds of all calls: none is lost or doubled, no limit is passed."""
    if not jobs:
        return []
    before = day.kernel.get("/eccos/kernel")["settled"]
    with Peaks(day.servers) as peaks:
        replies = day.agents.ask(jobs, side_by_side, each)
    answered = sum(reply.good for reply in replies)
    lost = sum(reply.lost for reply in replies)
    within(10.0, lambda: day.kernel.get("/eccos/kernel")["settled"] - before >= len(jobs))
    settled = day.kernel.get("/eccos/kernel")["settled"] - before
    times = [reply.seconds for reply in replies]
    over = {name: peak for name, peak in peaks.seen.items() if peak > SLOTS}
    day.report.check(
        f"{case}: every call ends once, within the limits",
        not lost and settled == len(jobs) and not over,
        f"{len(jobs)} calls, {answered} answered, {lost} lost, {settled} settled; "
        f"p50 {median(times):.1f} s, p95 {percentile(times, 0.95):.1f} s; "
        f"most at once {dict(peaks.seen)} of {SLOTS}",
    )
    return replies


class Peaks:
    """Watches how many requests the servers have at once, by their own figures."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self.seen = dict.fromkeys(servers, 0)
        self._servers, self._over = servers, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            for name, server in self._servers.items():
                self.seen[name] = max(self.seen[name], server.in_flight())


def row(texts: Sequence[Asked], replies: Sequence[Reply]) -> dict[str, Any]:
    """Success, cost and time of calls, and how answers ended."""
    right = [each.right(reply.text) for each, reply in zip(texts, replies, strict=True)]
    kinds = sorted({each.kind for each in texts})
    by_kind = {
        kind: round(mean(r for r, each in zip(right, texts, strict=True) if each.kind == kind), 3)
        for kind in kinds
    }
    cut = sum((reply.response or {}).get("finish_reason") == "length" for reply in replies)
    served = Counter(reply.model for reply in replies)
    return {
        "success": round(mean(right), 4),
        **by_kind,
        "usd_per_1000": round(1000 * mean(reply.cost for reply in replies), 5),
        "cut_off": cut,
        "p50_s": round(median([reply.seconds for reply in replies]), 2),
        "served": dict(served.most_common()),
    }


def ready(day: Day) -> None:
    """Let the kernel read its configuration anew, and learn from the history."""
    day.kernel.post("/core/refresh")

    def source() -> str:
        found: str = day.kernel.get("/eccos/status")["edge"]["floors_from"]
        return found

    within(20.0, lambda: source() == "verdicts")
    day.say(f"floors rest on {source()}")
