"""`python -m integration.unlabeled`: no label and no history; savings are earned by audits.

A kernel with `audit: 5 %` and a `judge` is asked recorded questions; its model servers return the
recorded final answers, and the judge errs in one verdict of ten. Nobody gives a verdict. At
half-time the cheap model that is used most begins to answer 30 points worse. Wants `AIOS_HOME`,
`CEREBRUM_HOME` and `AIOS_ECCOS_DATA`; under ten minutes on two idle cores, `--quick` (no change)
under two.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aios_eccos.lab.replay_server import ReplayServers, answers_of
from aios_eccos.records import Record

from .floors import DATA, SETTLED
from .judge_server import SPOILED, Judge, answering, grades_of, serve, spoiled
from .kernel import Kernel, base_config, copy_aios, free_port, homes, within, workplace
from .report import Report, data_folder, options, recorded
from .routed import entries_of
from .stream import Call, Worth, stream, strongest_of

ANSWERS = "math10-answers.json.gz"
JUDGE, JUDGE_ERROR = "gpt-4o-mini", 0.1
CALLS, CALLS_QUICK = 1600, 400
#: Agents that ask side by side, and how long each works on between two calls, seconds.
AGENTS, PAUSE_S = 3, 0.3
#: Calls between two rows, and before now over which a share is taken.
EVERY = 100
#: Share routed, and cost against the strongest's, of the last calls before the change.
ROUTED, SAVED = 0.05, 0.8
#: What a floor of 95 % allows to be lost of the strongest's success.
ALLOWED = 0.05
#: Room for the judge's errors, and for what is not yet noticed.
WITHIN = 0.03


@dataclass(slots=True)
class Watching:
    """Follows the calls, and makes the cheap model worse when its time comes.

    Attributes:
        spoil: makes a model worse.
        paid: dollars up to the last row, with audits and the judge; and with the strongest alone.
        status: asks for `/eccos/status`.
    """

    worth: Worth
    strongest: str
    spoil: Callable[[str], None]
    status: Callable[[], Any]
    spoil_at: int | None
    models: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    success: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    paid: tuple[float, float] = (0.0, 0.0)
    lost: int = 0
    spoiled: str = ""

    def __call__(self, call: Call) -> None:
        if call.said is None or not call.decision:
            self.lost += 1
            return
        self.texts.append(call.text)
        self.models.append(call.model)
        gone = call.model == self.spoiled and call.said == SPOILED
        self.success.append(0.0 if gone else self.worth.success(call.text, call.model))
        if len(self.texts) % EVERY == 0:
            self.rows.append(self.row())
            print("     " + json.dumps(self.rows[-1]), file=sys.stderr, flush=True)
        if len(self.texts) == self.spoil_at:
            used = Counter(name for name in self.models[-EVERY:] if name != self.strongest)
            self.spoiled = used.most_common(1)[0][0] if used else ""
            if self.spoiled:
                self.spoil(self.spoiled)

    def lag(self, start: int = 0) -> float:
        """Success less the strongest's on the same calls, from a call on."""
        theirs = [self.worth.success(text, self.strongest) for text in self.texts[start:]]
        return (sum(self.success[start:]) - sum(theirs)) / max(len(theirs), 1)

    def row(self) -> dict[str, Any]:
        """Where it stands; `share` are of the last calls, the rest is since the start."""
        audits = self.status()["audits"]
        spent = audits["audit_usd"] + audits["judge_usd"]
        spent += sum(map(self.worth.cost, self.texts, self.models))
        alone = sum(self.worth.cost(text, self.strongest) for text in self.texts)
        before, before_alone = self.paid
        self.paid = spent, alone
        last = Counter(self.models[-EVERY:])
        policy: dict[str, Any] = next((p for p in audits["policies"] if p["policy"] == ""), {})
        standing = {
            key: policy.get(key)
            for key in ("state", "share", "loss", "allowed", "needs_calls", "suspects")
        }
        return {
            "calls": len(self.texts),
            "routed": round(1 - last[self.strongest] / sum(last.values()), 3),
            "share_of_spoiled": round(last[self.spoiled] / sum(last.values()), 3),
            "cost_share": round(spent / alone, 4),
            "cost_share_of_last": round((spent - before) / (alone - before_alone), 4),
            "audit_usd": round(audits["audit_usd"], 5),
            "judge_usd": round(audits["judge_usd"], 5),
            "success_less_strongest": round(self.lag(), 4),
            **standing,
            "copies": audits["copies"],
            "judged": audits["judged"],
            "missed": audits["missed"],
            "dropped": audits["dropped"],
            "unjudged": audits["unjudged"],
            "saved_usd": round(audits["saved_usd"], 5),
            "break_even_calls": audits["break_even_calls"],
        }


def measured(
    folder: Path,
    python: str,
    records: list[Record],
    worth: Worth,
    strongest: str,
    spoil_at: int | None,
    load: tuple[int, float],
) -> tuple[Watching, Judge, tuple[int, int], Any]:
    """Stream all records through a kernel that knows nothing.

    Args:
        load: agents side by side, and seconds between two calls of each.

    Returns:
        What was seen; the judge; how many requests reached the servers, and how many the kernel
        has accounted for; and the last events.
    """
    found = homes()
    assert found is not None
    models = tuple(outcome.model for outcome in records[0].outcomes)
    judge = Judge(JUDGE, answers_of(records, [JUDGE])[JUDGE], JUDGE_ERROR)
    judge.grades = grades_of(records)

    with ReplayServers(records, models, 0.0) as servers:

        def spoil(model: str) -> None:
            if model == JUDGE:
                judge.answers = answers_of(spoiled(records, model), [model])[model]
            else:
                servers.replace(model, spoiled(records, model))

        entries = entries_of(servers, worth.prices)
        next(entry for entry in entries if entry["name"] == JUDGE)["hostname"] = serve(judge)
        settings = {"audit": "5 %", "judge": JUDGE}
        router = {"strategy": "eccos", "eccos": settings}
        home, state = copy_aios(found[0], folder / "aios"), folder / "state"
        config = base_config(entries, free_port(), router)
        with Kernel(home, found[1], config, state=state, python=python) as kernel:

            def status() -> Any:
                return kernel.get("/eccos/status")

            watching = Watching(worth, strongest, spoil, status, spoil_at)
            stream(kernel, [record.text for record in records], watching, *load)
            # Audits of the last calls come after them.
            within(10.0, lambda: _requests(servers, judge) == _counted(status(), watching, judge))
            counted = _counted(status(), watching, judge)
            events = kernel.get("/eccos/events?n=50")["events"]
        asked = _requests(servers, judge)
    return watching, judge, (asked, counted), events


def _requests(servers: ReplayServers, judge: Judge) -> int:
    """That have reached the servers."""
    return judge.requests + sum(stats.requests for stats in servers.stats().values())


def _counted(status: Any, seen: Watching, judge: Judge) -> int:
    """Requests that the kernel has accounted for: calls, copies, and the judge's."""
    return len(seen.texts) + int(status["audits"]["copies"]) + judge.judged


def judged(report: Report, seen: Watching, quick: bool) -> None:
    """What is asked of the run."""
    report.check("every call is answered", not seen.lost, f"{seen.lost} lost")
    half = [row for row in seen.rows if row["calls"] <= (seen.spoil_at or len(seen.texts))]
    last = half[-1]
    report.check(
        "savings appear without labels",
        last["routed"] >= ROUTED and (quick or last["cost_share_of_last"] <= SAVED),
        f"at call {last['calls']}: {last['state']}, {last['routed']} routed; with audits and judge "
        f"{last['cost_share']} of the cost of the strongest alone, {last['cost_share_of_last']} "
        f"in the last {EVERY} calls",
    )
    allowed = (
        ALLOWED
        * sum(seen.worth.success(text, seen.strongest) for text in seen.texts)
        / len(seen.texts)
    )
    report.check(
        "the floor is kept meanwhile",
        last["success_less_strongest"] >= -allowed - WITHIN,
        f"{last['success_less_strongest']} against the strongest, allowed {-allowed:.4f}",
    )
    if seen.spoil_at is None:
        return
    after = [row for row in seen.rows if row["calls"] > seen.spoil_at]
    lowest = min(after, key=lambda row: row["share_of_spoiled"])
    report.check(
        "a cheap model that became worse loses its calls",
        bool(seen.spoiled) and lowest["share_of_spoiled"] <= last_share(seen) / 2,
        f"{seen.spoiled}: {last_share(seen)} of the calls before, {lowest['share_of_spoiled']} at "
        f"call {lowest['calls']}; {lowest['routed']} routed then, {lowest['state']}",
    )
    late = seen.lag(seen.spoil_at + SETTLED)
    report.check(
        f"the floor is kept from {SETTLED} calls after",
        late >= -allowed - WITHIN,
        f"{late:.4f} against the strongest, allowed {-allowed:.4f}",
    )


def last_share(seen: Watching) -> float:
    """The share of the calls that the model had before it became worse."""
    before = seen.models[: seen.spoil_at][-EVERY:]
    return before.count(seen.spoiled) / len(before)


def main() -> int:
    """Run; 1 if a check failed."""
    parser = options("unlabeled", __doc__, f"{CALLS_QUICK} calls, no change")
    parser.add_argument("--calls", type=int, help=f"{CALLS} by default")
    parser.add_argument("--agents", type=int, default=AGENTS, help="that ask side by side")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="between two calls, seconds")
    given = parser.parse_args()
    dataset, prices = recorded(DATA)
    with gzip.open(data_folder() / ANSWERS, "rt", encoding="utf-8") as file:
        records = answering(dataset.records, json.load(file))
    random.Random(0).shuffle(records)
    calls = given.calls or (CALLS_QUICK if given.quick else CALLS)
    report = Report("integration-unlabeled")
    with workplace(given.keep) as folder:
        spoil_at = None if given.quick else calls // 2
        worth = Worth({record.text: record for record in records}, prices)
        strongest = strongest_of(records)
        seen, judge, (asked, counted), events = measured(
            folder,
            given.python,
            records[:calls],
            worth,
            strongest,
            spoil_at,
            (given.agents, given.pause),
        )
    judged(report, seen, given.quick)
    report.check(
        "the judge knew every answer",
        judge.unknown_answers == 0,
        f"{judge.judged} comparisons, {judge.unknown_answers} unknown answers",
    )
    report.check(
        "nothing is asked that is not accounted for",
        asked == counted,
        f"{asked} requests reached the servers; calls, copies and comparisons: {counted}",
    )
    return report.finish(
        given.json, data_hash=dataset.hash, requests=asked, table=seen.rows, events=events
    )


if __name__ == "__main__":
    sys.exit(main())
