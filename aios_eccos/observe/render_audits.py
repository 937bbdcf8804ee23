"""What is shown of audits, as plain text at 80 columns."""

from __future__ import annotations

from aios_eccos.metrics import percent
from aios_eccos.observe.audit_views import AuditsView, PolicyView
from aios_eccos.observe.text import money, wrap
from aios_eccos.verdicts.judge import CONSISTENT, TELLING


def audits(view: AuditsView) -> list[str]:
    """Where each policy stands, and what audits have cost and paid back."""
    spent = money(view.audit_usd + view.judge_usd)
    paid = f"audits   cost {spent} ({money(view.judge_usd)} of it the judge), saved so far "
    paid += f"{money(view.saved_usd)}; {break_even(view.break_even_calls)}"
    compared = f"{view.agreed:,} agreed, {view.judged:,} were judged"
    if view.ungraded:
        compared += f" ({view.ungraded:,} without a grade, they count as worse)"
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
    standing = [line for each in view.policies for line in (policy(each), *models(each))]
    return [*standing, wrap(paid), wrap(counts), *judge(view)]


def models(view: PolicyView) -> list[str]:
    """What audits say of each model, over all calls of a policy."""
    return [
        wrap(
            f"audited  {each.model}: loss {percent(each.loss)} over all calls, by {each.audits:,} "
            f"audits that tell as much as {each.effective:.0f} drawn with equal chances"
        )
        for each in view.models
        if each.loss is not None
    ]


def judge(view: AuditsView) -> list[str]:
    """How far the judge can be believed: by its repeats, and by people."""
    lines = []
    if view.judge_repeats:
        same = f"{percent(view.judge_consistency)} of {view.judge_repeats:,} verdicts"
        lines.append(wrap(f"judge    said the same again in {same}, asked in the other order"))
    if view.judge_repeats >= TELLING and (view.judge_consistency or 0.0) < CONSISTENT:
        lines.append(
            wrap(
                "judge    which goes by the order, not by the answers, so a copy counts as worse "
                "unless both orders say otherwise: name a stronger one"
            )
        )
    people = view.people
    if people is None:
        return lines
    wrong = f"{people.worse_wrong:,} of {people.worse:,} times that it found an answer worse, "
    wrong += f"{people.better_wrong:,} of {people.better:,} that it found one better"
    lines.append(wrap(f"judge    refuted by people {wrong}"))
    for each in people.models:
        if each.corrected is not None:
            span = f"{percent(each.low)} to {percent(each.high)}"
            text = f"judge    {each.model}: loss {percent(each.loss)}, by people's verdicts on "
            lines.append(wrap(f"{text}{each.labeled:,} {percent(each.corrected)} ({span})"))
    return lines


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
