"""What is shown of calls, as plain text at 80 columns: explanations, savings, another floor."""

from __future__ import annotations

from collections.abc import Sequence

from aios_eccos.metrics import percent
from aios_eccos.observe import call_views
from aios_eccos.observe.render import UNIT, observed, outcome
from aios_eccos.observe.text import NONE, cut, moment, money, page, rate, seconds, table, wrap
from aios_eccos.observe.trace import Trace
from aios_eccos.records import Signals
from aios_eccos.values import Attempt, Reading, Vote

#: Neighbors shown.
NEAREST = 5


def _wasted(trace: Trace) -> str:
    spent = sum(trace.wasted_usd.values())
    return f" and {money(spent, trace.money)} without an answer" if spent else ""


def explain(view: call_views.ExplainView) -> str:
    """One decision: the sentence, the alternatives, the neighbors."""
    trace = view.decision
    known = trace.money
    parts = [wrap(view.sentence), ""]
    if not view.dry:
        parts += [
            f"id {trace.id}  {moment(trace.at)} UTC  agent {trace.agent or NONE}"[:80],
            f"cost {money(trace.cost_usd, known)}{_wasted(trace)}, waited "
            f"{seconds(trace.waited_s)}, served in {seconds(trace.served_s)}, decided in "
            f"{seconds(trace.decision_s)}",
            f"outcome {outcome(trace, view.verdict)}, requests {trace.attempts}, "
            f"batch of {trace.batch}, bound by: {view.bound_by}",
            *([wrap(voted(trace.vote))] if trace.vote is not None else []),
            *(wrap(tried(t)) for t in trace.tries if len(trace.tries) > 1 or shown(t.signals)),
        ]
    whose = f" of agents {trace.policy}" if trace.policy else ""
    if trace.floor is None or trace.success_price_usd is None:
        parts.append(f"the floor{whose} has no price yet: too few verdicts, or none near this call")
    else:
        worth = money(trace.success_price_usd, known)
        parts.append(f"floor{whose} {percent(trace.floor)}; one success is worth {worth} there")
    if view.audited:
        parts.append(wrap(audited(view.audited)))
    if not known:
        parts.append(UNIT)
    if trace.reading is not None:
        parts.append(wrap(read(trace.reading)))
    if trace.novelty is not None:
        parts.append(f"farther from the history than {percent(trace.novelty)} of its own records")
    parts += ["", choices(view)]
    parts += ["", neighbors(view.neighbors, view.neighbors_note)]
    return page(parts)


def read(reading: Reading) -> str:
    """Which part of the prompt the forecast is made on."""
    if reading.rule == "whole":
        return f"read: the {reading.source}, {reading.of:,} characters"
    part = f"characters {reading.start:,} to {reading.end:,} of {reading.of:,}"
    return f"read: {part} of the {reading.source} ({reading.rule})"


def audited(draws: Sequence[call_views.DrawView]) -> str:
    """What the copies of an audit came to."""
    words = {1: "better", 0: "as good", -1: "worse", None: "not compared"}
    said = [
        f"{draw.model} {words[draw.verdict]}{f' ({draw.source})' if draw.source else ''}"
        for draw in draws
    ]
    return f"audited against the reference: {', '.join(said)}"


def tried(attempt: Attempt) -> str:
    """One request: which model, how long, and what its answer showed of itself."""
    parts = [attempt.failure or "answered", *shown(attempt.signals)]
    return f"{attempt.model}: {', '.join(parts)} after {seconds(attempt.seconds)}"


def voted(vote: Vote) -> str:
    """What a plan's members said, and whose answer was given for that."""
    what = {
        "agreed": "gave the same answer",
        "differed": "gave different answers",
        "no form": "gave answers that cannot be compared",
        "failed": "did not both answer",
    }[vote.outcome]
    given = f"{vote.answered_by}'s answer was given" if vote.answered_by else "no answer was given"
    return f"vote: {' and '.join(vote.members)} {what}; {given}"


def shown(signals: Signals) -> list[str]:
    """What is worth a word; an answer of its whole length goes without saying."""
    words = []
    if signals.valid_json is not None:
        words.append("valid JSON" if signals.valid_json else "no valid JSON, though asked for")
    if signals.tool_calls is not None:
        words.append("tool calls well formed" if signals.tool_calls else "malformed tool calls")
    if signals.truncated:
        words.append("cut off at its token limit")
    if signals.empty:
        words.append("empty")
    return words


def choices(view: call_views.ExplainView) -> str:
    """The alternatives and what each would have cost (forecast)."""
    known = view.decision.money
    rows = [
        {
            "  model (forecasts)": ("> " if c.chosen else "  ") + cut(c.model, 18),
            "success>": percent(c.success),
            "cost>": money(c.cost_usd, known),
            "extra>": NONE if c.extra_usd is None or c.chosen else money(c.extra_usd, known),
            "support>": f"{c.support:.0f}",
            "free>": str(c.free),
            "slot price>": money(c.slot_price_usd, known) if c.slot_price_usd else NONE,
        }
        for c in view.choices
    ]
    reasons = [wrap(f"{c.model}: {c.why}", "  ") for c in view.choices if c.why and not c.chosen]
    return page([table(rows), *reasons]) if rows else "no forecasts were made"


def neighbors(found: list[call_views.NeighborView], note: str | None) -> str:
    """The nearest past queries and what came of them."""
    if not found:
        return f"neighbors: {note or 'none'}"
    rows = []
    for neighbor in found[:NEAREST]:
        judged = ", ".join(f"{m} {c:.2g}" for m, c in neighbor.correctness.items())
        distance, task = f"{1 - neighbor.similarity:.3f}", cut(neighbor.task or NONE, 14)
        rows.append({"distance>": distance, "task": task, "outcomes": judged or "no verdict"})
    texts = [
        wrap(f"{n.similarity:.3f} {cut(n.text, 150)}", "  ") for n in found[:NEAREST] if n.text
    ]
    return page(["nearest past calls:", table(rows), *texts, *([note] if note else [])])


def savings(view: call_views.SavingsView) -> str:
    """Spending beside the baseline's forecast."""
    if not view.windows:
        return f"savings: {view.note}"
    lines = [wrap(f"beside {view.baseline} ({view.chosen_as}); {view.note}"), ""]
    lines.append(table([_saved(row, view.money) for row in view.windows]))
    for row in view.windows:
        lines.append(
            f"{row.name}: promised {percent(row.promised)}, realised {rate(row.realised)} on "
            f"{percent(row.verdict_share)} of calls"
        )
        lines.append(f"  {view.baseline}: success {rate(row.baseline_success)} (forecast)"[:80])
        if row.compared < row.answers:
            left = row.answers - row.compared
            lines.append(wrap(f"{left:,} answers left out: no choice or no price then", "  "))
    if view.observed is not None and view.observed.calls:
        lines.append(observed(view.observed, view.money))
    return page(lines)


def _saved(row: call_views.SavedView, known: bool) -> dict[str, str]:
    saved = row.saved_usd
    spread = f"{money(saved.low, known)} to {money(saved.high, known)}"
    return {
        "": row.name,
        "answers>": f"{row.compared:,}",
        "cost>": money(row.cost_usd, known),
        "baseline>": money(row.baseline_cost_usd.value, known),
        "saved>": money(saved.value, known),
        "95 %>": "too little known" if saved.low is None else spread,
        "share>": percent(row.saved_share),
    }


def what_if(view: call_views.WhatIfView | None) -> str:
    """Another floor, by forecast."""
    if view is None:
        return "whatif: no answered calls yet to decide again"
    sides = (
        ("now", view.cost_now_usd, view.promised_now),
        (f"floor {view.floor:.3f}", view.cost_then_usd, view.promised_then),
    )
    costs = [
        {"": name, "cost/call>": money(cost, view.money), "success>": percent(promised)}
        for name, cost, promised in sides
    ]
    shares = [
        {
            "model": name,
            "now>": percent(view.shares_now.get(name, 0.0)),
            "then>": percent(view.shares_then.get(name, 0.0)),
        }
        for name in sorted({*view.shares_now, *view.shares_then})
    ]
    lines = [f"forecast over the last {view.calls} calls, decided again without limits", ""]
    lines += [table(costs), "", table(shares)]
    if view.floor > view.reachable:
        lines.append(f"! history says that {percent(view.reachable)} is the most that can be kept")
    return page(lines)
