"""`python -m integration.plans`: two cheap models and an escape, behind the real kernel.

A history with answer keys; recorded final answers behind replay servers; a floor at which plans
pay; 32 agents. First with slots for all, so that a plan takes as long as its slower pair and its
escape; then with few slots and every tenth request failing. Wants `AIOS_HOME`, `CEREBRUM_HOME` and
`AIOS_ECCOS_DATA`; under three minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aios_eccos.history.open import open_embedder
from aios_eccos.lab.dataset import load_dataset, load_prices
from aios_eccos.lab.replay_server import ReplayServers, seconds_per_token
from aios_eccos.locate import cache_dir
from aios_eccos.records import Record

from . import load
from .judge_server import answering
from .kernel import Kernel, base_config, copy_aios, free_port, homes, wait_ready, within, workplace
from .report import Report
from .routed import ask_all, entries_of, fill_ours

DATA, ANSWERS = "math10.jsonl.gz", "math10-answers.json.gz"
FLOOR = "0.82"
AGENTS, CALLS = 32, 320
#: Mean time of a recorded answer, seconds; slots of each model in the two phases.
MEAN_S, ROOMY, TIGHT = 0.3, 40, 8
#: Shares of requests that fail.
FAULTS = {"429": 0.03, "500": 0.03, "503": 0.02, "close": 0.02}
COOLDOWN_S = 0.05
#: What a plan may take beyond its slower member and its escape, seconds.
BEYOND_S = 0.05
#: Calls of a tool, and what each tool takes.
TOOLS = 20
PARAMETERS = {"type": "object", "properties": {}}
#: Decisions in one answer of the kernel.
SHOWN = 500


def with_keys(
    records: Sequence[Record], answers: Mapping[str, Mapping[str, str | None]]
) -> list[Record]:
    """The records with their recorded final answers, which the history compares."""

    def key(identity: str, model: str) -> str | None:
        answer = answers[identity][model]
        return None if answer is None else str(answer)

    return [
        replace(
            record,
            outcomes=tuple(
                replace(outcome, answer=key(record.id, outcome.model))
                for outcome in record.outcomes
            ),
        )
        for record in records
    ]


def measured(
    report: Report, phase: str, kernel: Kernel, servers: ReplayServers, texts: Sequence[str]
) -> list[dict[str, Any]]:
    """Ask all texts and judge what can be judged in any phase; the decisions."""
    assert kernel.config is not None
    limits = {e["name"]: e["concurrency"] for e in kernel.config["llms"]["models"]}
    settled = kernel.get("/eccos/kernel")["settled"]
    servers.reset()
    replies = load.run(ask_all(kernel.url, texts, AGENTS))
    found: list[dict[str, Any]] = []

    def kept() -> bool:
        found[:] = kernel.get(f"/eccos/decisions?n={SHOWN}")["decisions"][: len(texts)]
        agents = sum(str(each["agent"]).startswith("agent") for each in found)
        asked = sum(stats.requests for stats in servers.stats().values())
        return agents == len(texts) and asked == sum(int(each["attempts"]) for each in found)

    accounted = within(20.0, kept)
    # Where every tenth request fails, one call of a hundred has failed twice, and says so.
    good = sum(reply.good for reply in replies)
    report.calls(f"{phase}: every call is answered", replies, note=f"{good} without an error")
    once = kernel.get("/eccos/kernel")["settled"] - settled
    calls = len({each["call"] for each in found})
    report.check(
        f"{phase}: every call is settled once",
        once == calls == len(texts),
        f"{once} settled, {calls} decisions of different calls, {len(texts)} asked",
    )
    report.check(f"{phase}: no request is unaccounted for", accounted)
    peaks = {name: stats.peak_in_flight for name, stats in servers.stats().items()}
    over = {name: peak for name, peak in peaks.items() if peak > limits[name]}
    report.check(f"{phase}: no model is asked above its limit", not over, f"peaks {peaks}, {over=}")
    status = kernel.get("/eccos/status")
    held = {model["model"]: model["in_use"] for model in status["models"] if model["in_use"]}
    report.check(f"{phase}: every slot has come back", not held, str(held))
    return found


def judge_plans(report: Report, phase: str, found: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What plans did: each asked its members once, and its escape where they did not agree."""
    plans = [each for each in found if each["vote"] is not None]
    outcomes = Counter(each["vote"]["outcome"] for each in plans)
    report.check(f"{phase}: plans serve", bool(outcomes["agreed"]), f"{dict(outcomes)}")
    wrong = []
    for each in plans:
        vote, asked = each["vote"], Counter(tried["model"] for tried in each["tries"])
        once = all(asked[name] == 1 for name in vote["members"])
        agreed = vote["outcome"] == "agreed"
        given = vote["answered_by"] in (vote["members"][:1] if agreed else asked)
        if not once or (agreed and asked[vote["escape"]]) or not given:
            wrong.append(each)
    report.check(f"{phase}: a vote asks each member once", not wrong, f"{len(plans)} votes")
    return plans


def judge_times(report: Report, plans: Sequence[Mapping[str, Any]]) -> None:
    """A plan takes no longer than its slower member and its escape."""
    beyond, took, due = [], [], []
    for each in plans:
        members = each["vote"]["members"]
        slower = max(t["seconds"] for t in each["tries"] if t["model"] in members)
        escape = sum(t["seconds"] for t in each["tries"] if t["model"] not in members)
        beyond.append(each["served_s"] - slower - escape)
        took.append(each["served_s"])
        due.append(slower + escape)
    late = load.percentile(took, 0.95) - load.percentile(due, 0.95)
    report.check(
        f"p95 of a plan is at most {BEYOND_S * 1000:.0f} ms beyond its slower pair and its escape",
        late <= BEYOND_S,
        f"p95 {load.percentile(took, 0.95):.3f} s against {load.percentile(due, 0.95):.3f} s; "
        f"each call {load.median(beyond):.4f} s beyond, p95 {load.percentile(beyond, 0.95):.4f} s",
    )


def judge_shown(report: Report, kernel: Kernel, plans: Sequence[Mapping[str, Any]]) -> None:
    """What the operator sees of plans."""
    view = kernel.get(f"/eccos/decisions/{plans[0]['id']}")
    report.check("explain shows the vote", view["decision"]["vote"] == plans[0]["vote"])
    shown = kernel.get("/eccos/status")["plans"]
    summed = {
        each["plan"]: [each["calls"], each["agreed"], each["escaped"], each["saved_usd"]]
        for each in shown
    }
    report.check(
        "status counts what each plan chose, agreed, escaped and saved",
        bool(summed) and all(calls >= agreed for calls, agreed, _, _ in summed.values()),
        str(summed),
    )


def judge_tools(
    report: Report, kernel: Kernel, servers: ReplayServers, texts: Sequence[str]
) -> None:
    """Calls of a tool: both members call it, and it runs once."""
    # Each a tool of its own: of one that has failed, AIOS says nothing more.
    tools = {text: f"demo/tool{number}" for number, text in enumerate(texts)}
    for name in servers.models:
        servers.inject(name, {})
        servers.call_tools(name, {text: tool.replace("/", "__") for text, tool in tools.items()})
    ran = []
    for text, tool in tools.items():
        offered = {"type": "function", "function": {"name": tool, "parameters": PARAMETERS}}
        said = kernel.ask(text, agent="tools", action_type="call_tool", tools=[offered])
        # AIOS has no such tool, and says so each time that it is to run it.
        ran.append(json.dumps(said).count(f"{tool} not found"))
    found: list[dict[str, Any]] = []

    def kept() -> bool:
        last = kernel.get(f"/eccos/decisions?n={SHOWN}")["decisions"]
        found[:] = [each for each in last if each["agent"] == "tools"]
        return len(found) == len(texts)

    within(10.0, kept)
    votes = Counter(each["vote"]["outcome"] for each in found if each["vote"] is not None)
    report.check(
        "a tool that two members call runs once",
        set(ran) == {1} and votes["agreed"] > 0,
        f"{dict(votes)} of {len(found)}; runs by call {dict(Counter(ran))}",
    )


def main() -> int:
    """Run; 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m integration.plans", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs AIOS")
    parser.add_argument("--plans", default="auto", help="auto, or plans with a semicolon between")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--keep", action="store_true", help="keep the copies and logs")
    given = parser.parse_args()
    found, data = homes(), os.environ.get("AIOS_ECCOS_DATA")
    if found is None or not data:
        raise SystemExit("set AIOS_HOME, CEREBRUM_HOME and AIOS_ECCOS_DATA")
    dataset, prices = load_dataset([Path(data) / DATA]), load_prices(Path(data) / "prices.json")
    with gzip.open(Path(data) / ANSWERS, "rt", encoding="utf-8") as file:
        answers = json.load(file)
    history = with_keys(dataset.split("train", "val"), answers)
    tests = answering(dataset.split("test"), answers)
    random.Random(0).shuffle(tests)
    texts = list(dict.fromkeys(record.text for record in tests))[: given.calls]
    plans = given.plans if given.plans == "auto" else given.plans.split(";")
    report, pace = Report("integration-plans"), seconds_per_token(tests, dataset.models, MEAN_S)
    with (
        workplace(given.keep) as folder,
        ReplayServers(tests, dataset.models, pace) as servers,
        contextlib.ExitStack() as running,
    ):
        entries = entries_of(servers, prices)
        for entry in entries:
            entry["concurrency"] = ROOMY
        # A model that rests closes its plans: here it is to be asked again soon.
        settings = {"quality_floor": FLOOR, "plans": plans, "cooldown_s": COOLDOWN_S}
        router = {"strategy": "eccos", "eccos": settings}
        home, state = copy_aios(found[0], folder / "aios"), folder / "state"
        config = base_config(entries, free_port(), router)
        kernel = Kernel(home, found[1], config, state=state, python=given.python)
        vectors = open_embedder(cache_dir=cache_dir()).embed([record.text for record in history])
        fill_ours(home, state, history, vectors)
        running.enter_context(kernel)
        wait_ready(kernel)
        kernel.ask(texts[0])
        decisions = measured(report, "room for all", kernel, servers, texts)
        voted = judge_plans(report, "room for all", decisions)
        if voted:
            judge_times(report, voted)
            judge_shown(report, kernel, voted)
        for entry in entries:
            entry["concurrency"] = TIGHT
        kernel.write(config)
        kernel.post("/core/refresh")
        for name in servers.models:
            servers.inject(name, FAULTS)
        decisions = measured(report, "few slots, faults", kernel, servers, texts)
        judge_plans(report, "few slots, faults", decisions)
        used = Counter(each["model"] for each in decisions)
        judge_tools(report, kernel, servers, texts[:TOOLS])
    return report.finish(given.json, data_hash=dataset.hash, served=used.most_common(10))


if __name__ == "__main__":
    sys.exit(main())
