"""What is shown of audits, as plain text at 80 columns."""

from __future__ import annotations

from aios_eccos.metrics import percent
from aios_eccos.observe.audit_views import AuditsView, PolicyView
from aios_eccos.observe.text import money, wrap


def audits(view: AuditsView) -> list[str]:
    """Where each policy stands, and what audits have cost and paid back."""
    spent = money(view.audit_usd + view.judge_usd)
    paid = f"audits   cost {spent} ({money(view.judge_usd)} of it the judge), saved so far "
    paid += f"{money(view.saved_usd)}; {break_even(view.break_even_calls)}"
    compared = f"{view.agreed:,} agreed, {view.judged:,} were judged"
    if view.differed:
        compared += f", {view.differed:,} differed without a judge and count as worse"
    lost = {
        "copies failed": view.failed,
        "found no spare slot": view.missed,
        "calls came too fast": view.dropped,
        "calls found no judge": view.unjudged,
    }
    some = "".join(f"; {count:,} {what}" for what, count in lost.items() if count)
    counts = f"audits   {view.copies:,} copies of {view.calls:,} calls: {compared}{some}"
    return [*(policy(each) for each in view.policies), wrap(paid), wrap(counts)]


def policy(view: PolicyView) -> str:
    """One policy's standing, and what it needs."""
    whose = f" agents {view.policy}:" if view.policy else ""
    text = f"earning {whose} {view.state}"
    text += ", the strongest serves" if not view.share else f", {percent(view.share)} routed"
    if view.needs_calls is not None:
        text += f"; needs about {view.needs_calls:,} more calls"
    elif view.state != "served":
        text += "; how many calls it needs cannot be told yet"
    if view.loss is not None:
        allowed = "" if view.allowed is None else f" of {percent(view.allowed)} allowed"
        text += f"; loss {percent(view.loss)}{allowed} on {view.shadowed:,} choices"
    if view.suspects:
        text += f"; {', '.join(view.suspects)} may have become worse"
    return wrap(text)


def break_even(calls: int | None) -> str:
    """Whether audits have paid for themselves."""
    if calls is None:
        return "when that pays for them cannot be told yet"
    return "paid back" if calls == 0 else f"about {calls:,} more calls until that pays for them"
