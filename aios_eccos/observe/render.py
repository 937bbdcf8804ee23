"""What is shown, as plain text at 80 columns: for AIOS's terminal and for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aios_eccos.floor.alarm import Alarm
from aios_eccos.metrics import percent
from aios_eccos.observe import views
from aios_eccos.observe.money import CapView
from aios_eccos.observe.render_audits import audits
from aios_eccos.observe.text import (
    NONE,
    cut,
    moment,
    money,
    page,
    price,
    rate,
    seconds,
    table,
    wrap,
)
from aios_eccos.observe.text import load as slots
from aios_eccos.observe.trace import Trace

if TYPE_CHECKING:
    from aios_eccos.observe import call_views


NO_MODELS = "no models are configured here"
UNIT = "no price is known: u is an output token x billions of parameters"


def status(view: views.StatusView) -> str:
    """The whole state in one screen."""
    rows = load_rows(view.models, view.money)
    plans = [plan(each, view.money) for each in view.plans]
    return page([*headline(view), "", table(rows) if rows else NO_MODELS, *plans])


def headline(view: views.StatusView) -> list[str]:
    """The lines above the table of models."""
    edge = view.edge
    mode = f"mode {edge.mode}" if edge is not None else "no kernel answers, from Redis"
    goal = f"floor {view.floor}"
    if view.budget_per_call is not None:
        goal = f"budget {money(view.budget_per_call)} per call"
    kernels = f"{view.kernels} kernel" + ("s" if view.kernels != 1 else "")
    lines = [
        f"aios-eccos  {moment(view.at)} UTC  {mode}  {kernels}",
        f"{goal}; one success is worth {money(view.success_price_usd, view.money)}",
    ]
    if view.budget_per_call is not None and not view.money:
        lines.append("! no price is known, so a budget in dollars is not kept; doctor says more")
    if view.degraded:
        lines.append("! Redis is away: this kernel lends only what no other can have")
    lines += [wrap(f"! {text}") for text in view.warnings]
    if view.set_aside:
        lines.append(f"! {view.set_aside} messages for the history could not be carried out")
    flow = f"now      {view.calls_per_s:.2f} calls/s, {money(view.usd_per_h, view.money)}/h"
    if edge is not None:
        flow += f", {edge.waiting} waiting, {edge.running} running here"
    lines.append(flow)
    if not view.money:
        lines.append(f"         {UNIT}")
    lines += [window(w, view.money) for w in view.windows]
    lines += [alarm(a) for a in view.alarms] or ["floor    no verdicts yet, so not verified"]
    if view.audits is not None:
        lines += audits(view.audits)
    lines += [cap(each) for each in view.caps] + [rates(m) for m in view.models if m.rpm or m.tpm]
    if edge is not None:
        lines += edge_lines(edge, view.money)
    return lines


def window(view: views.WindowView, known: bool) -> str:
    """A window's calls, spending and success."""
    head = f"{view.name:<8} {view.calls:,} calls, {view.failures:,} failed, "
    head += money(view.cost_usd, known)
    judged = "no verdicts"
    if view.verdicts:
        judged = f"realised {rate(view.realised)} on {percent(view.verdict_share)} of calls"
    text = f"{head}\n         promised {percent(view.promised)}, {judged}"
    if view.unpriced:
        without = "without prices" if known else "with prices"
        text += f"\n         {view.unpriced:,} answers {without} are not in that cost"
    if view.far_share:
        text += f"\n         {percent(view.far_share)} of calls were far from all history"
    return text


def plan(view: views.PlanView, known: bool) -> str:
    """A plan's day."""
    judged = f"; realised {rate(view.realised)}" if view.verdicts else ""
    return wrap(
        f"plan {view.plan}: {view.calls:,} calls ({percent(view.share)}), {view.agreed:,} agreed, "
        f"{view.escaped:,} escaped; {money(view.cost_usd, known)}, "
        f"{money(view.saved_usd, known)} less than its escape alone (forecast){judged}"
    )


def alarm(view: Alarm) -> str:
    """One floor's e-process."""
    whose = f" for {view.policy}" if view.policy else ""
    state = "! BROKEN" if view.broken else "holds so far"
    ended = f"; price at its end {percent(view.at_end)} of the time" if view.at_end else ""
    return wrap(
        f"floor    {state}{whose}: asked {percent(view.floor)}, got "
        f"{percent(view.realised)} of {view.verdicts} verdicts; e {view.e_value:.3g} "
        f"(alarm {view.alarm_at:g})" + ended
    )


def cap(view: CapView) -> str:
    """One cap on spending."""
    text = (
        f"cap      {view.name}: {money(view.spent_usd)} of {money(view.usd)} spent, "
        f"{money(view.held_usd)} held by calls in flight; a new one at {moment(view.resets_at)} UTC"
    )
    if view.kept:
        text += f"; it kept {view.kept:,} calls of the day from a model"
    if view.worth:
        text += f"; $1 more would have bought success worth {money(view.worth + 1)}"
    if view.over_usd:
        text += f"; passed by {money(view.over_usd)}, as calls cost more than was forecast"
    return wrap(text)


def rates(view: views.ModelView) -> str:
    """How much of a model's minute is taken."""
    parts = [
        f"{taken:,} of {most:,} {unit}"
        for taken, most, unit in (
            (view.requests, view.rpm, "requests (rpm)"),
            (view.tokens, view.tpm, "tokens (tpm)"),
        )
        if most is not None
    ]
    if view.closed_s:
        parts.append(f"closed for {seconds(view.closed_s)} as its server has asked")
    return wrap(f"minute   {view.model}: {', '.join(parts)}")


def edge_lines(edge: views.EdgeView, known: bool) -> list[str]:
    """What the kernel's process says of itself."""
    history = edge.history_note or "not open yet"
    if edge.history is not None:
        state = edge.history_note or f"prices of success from {edge.floors_from}"
        history = f"{edge.history:,} records; {state}"
    lines = [wrap(f"history  {history}"), *(wrap(f"floor    {c}") for c in edge.certificates)]
    if edge.undecided or edge.lost_traces:
        lost = f"{edge.lost_traces} traces lost"
        lines.append(f"! {edge.undecided} decisions without forecasts, {lost}")
    if edge.fairness is not None:
        lines.append(f"fairness {edge.fairness:.3f} between agents (Jain; 1 = equal by weight)")
    if edge.canary is not None:
        lines.append(canary(edge.canary))
    if edge.observed is not None and edge.observed.calls:
        lines.append(observed(edge.observed, known))
    return lines


def canary(view: views.CanaryView) -> str:
    """How mode `canary` stands."""
    of = {"trial": percent(view.share), "promoted": "all", "rolled back": "none"}[view.stands]
    why = f": {view.why}" if view.why else ""
    return wrap(
        f"canary   {view.stands}{why}; {of} of the conversations are routed; "
        f"{view.routed_failed} of {view.routed} routed calls failed, {view.control_failed} of "
        f"{view.control} others"
    )


def observed(view: views.ObservedView, known: bool) -> str:
    """Observe mode's ledger."""
    saved = view.forecast_cost_served_usd - view.forecast_cost_routed_usd
    gain = view.forecast_successes_routed - view.forecast_successes_served
    other = view.calls - view.same_choice
    return (
        f"observed {view.calls:,} calls: routing would have chosen otherwise for {other:,},\n"
        f"         saved {money(saved, known)} and had {gain:+.1f} good answers (forecast)"
    )


def load_rows(models: list[views.ModelView], known: bool, bars: int = 10) -> list[dict[str, str]]:
    """Load against limits, drawn in so many columns, and the day, by model."""
    return [
        {
            "model (day)": m.model,
            "load": slots(m.in_use, m.limit, m.cooling_s, bars),
            "calls>": f"{m.calls:,}",
            "share>": percent(m.share),
            "failed>": f"{m.failures:,}",
            "cost>": money(m.cost_usd, known),
            "slot price>": money(m.slot_price_usd, known) if m.slot_price_usd else NONE,
        }
        for m in models
    ]


def load(view: views.ModelsView) -> str:
    """Only how busy the models are."""
    rows = [
        {"model": m.model, "load": slots(m.in_use, m.limit, m.cooling_s, 40)} for m in view.models
    ]
    return table(rows) if rows else "no models"


def models(view: views.ModelsView) -> str:
    """Prices, limits, abilities and what is known of each model's success."""
    rows = [
        {
            "model": m.model,
            "$/M in/out>": _prices(m),
            "limit>": str(m.limit),
            "window>": NONE if m.context_window is None else f"{m.context_window:,}",
            "abilities": "?" if m.abilities is None else ",".join(m.abilities) or "none",
            "forecast>": percent(m.hoped),
            "real>": percent(m.realised.value if m.realised else None),
            "n>": str(m.verdicts),
        }
        for m in view.models
    ]
    if not rows:
        return NO_MODELS
    note = "forecast: if it had served all calls of the day; real: verdicts on its own"
    found = [explored(m.model, m.explored) for m in view.models if m.explored is not None]
    return page([table(rows), note, *found])


def _prices(view: views.ModelView) -> str:
    if view.price == "priced":
        return f"{price(view.input_price)}/{price(view.output_price)}"
    return "free" if view.price == "free" else "no price"


def explored(model: str, view: views.ExploredView) -> str:
    """What calls given to a model by chance say of it."""
    return wrap(
        f"{model}: {view.calls} calls explored it, {view.judged} were judged; on all calls "
        f"it would reach {rate(view.success)} (forecast, doubly robust; worth "
        f"{view.effective:.1f} verdicts, taken to fall on explored calls by chance)"
    )


def last(view: call_views.DecisionsView) -> str:
    """Recent decisions, newest first."""
    rows = decision_rows(view)
    # The id must stay whole: it is what `explain` is asked with.
    return table(rows, give=(2, 3)) if rows else "no decisions yet"


def decision_rows(view: call_views.DecisionsView, reason: bool = False) -> list[dict[str, str]]:
    """A row a decision."""
    return [
        {
            "id": trace.id,
            "time": moment(trace.at)[11:16],
            "agent": trace.agent,
            "model": trace.model or NONE,
            "promise>": percent(trace.promised),
            "cost>": money(trace.cost_usd, trace.money),
            "waited>": seconds(trace.waited_s),
            "outcome": outcome(trace, verdict),
            **({"reason": trace.reason} if reason else {}),
        }
        for trace, verdict in zip(view.decisions, view.verdicts, strict=True)
    ]


def outcome(trace: Trace, verdict: float | None) -> str:
    """How the call ended, in a word."""
    if trace.failure is not None:
        return cut(trace.failure, 14)
    if verdict is None:
        return "ok" if trace.attempts <= 1 else f"ok (try {trace.attempts})"
    return "right" if verdict >= 1 else "wrong" if verdict <= 0 else f"{verdict:.2f}"


def events(view: views.EventsView) -> str:
    """Changes, newest first."""
    lines = [
        wrap(f"{moment(e.at)}  {e.what}: {e.before or NONE} -> {e.after or NONE}")
        for e in view.events
    ]
    return page(lines) or "no changes yet"
