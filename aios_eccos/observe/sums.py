"""Which sums a settled call and a verdict add to, by minute, hour, day and in all.

Names are `kind` or `kind:name`, the latter being a model's or a policy's, whatever is in it.
Spending of calls without a known price is in size units and has names of its own: it is no dollars.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping

from aios_eccos.observe.trace import Option, Trace
from aios_eccos.values import EXPLORED
from aios_eccos.workload.periods import add

#: Kinds of sums whose unit is that of costs: dollars, or size units with `UNITS` before the kind.
SPENDING = frozenset(
    ("cost", "wasted", "costed", "same_cost", "other_cost", "other_calls", "compared", "spent")
    + ("plan_saved", "plan_cost")
    + ("metered", "f", "a", "ff", "af", "aa")
)
UNITS = "units_"
#: What `serve.limits` says of a model that a cap keeps from a call, and the kind of sums that
#: counts such calls by the cap's name.
KEPT, CAPPED = re.compile(r"is over max_cost of (.+? a (?:day|month))\b"), "capped"
#: Upper bounds of the histograms, seconds.
WAITED_LE = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
DECIDED_LE = (0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0)


def of_call(trace: Trace) -> dict[str, float]:
    """What a settled call adds to the hour and to the total."""
    failed = float(trace.failure is not None)
    amounts = {
        "calls": 1.0,
        "failures": failed,
        "attempts": float(trace.attempts),
        "waited": trace.waited_s,
        "decided": trace.decision_s,
        f"waited_le:{_bucket(trace.waited_s, WAITED_LE)}": 1.0,
        f"decided_le:{_bucket(trace.decision_s, DECIDED_LE)}": 1.0,
    }
    if trace.model is not None:
        explored = float(trace.status == EXPLORED)
        amounts |= _of(trace.model, calls=1.0, failures=failed, explored=explored)
    amounts |= _circumstances(trace) | _voted(trace)
    if trace.cost_usd is not None:
        amounts |= _answered(trace, trace.cost_usd)
    for model, wasted in trace.wasted_usd.items():
        add(amounts, {"cost": wasted, f"cost:{model}": wasted, "wasted": wasted})
    unit = "" if trace.money else UNITS
    return {
        f"{unit}{name}" if _kind(name) in SPENDING else name: amount
        for name, amount in amounts.items()
        if amount
    }


def _of(name: str | None, **sums: float) -> dict[str, float]:
    """Sums by kind, of one model."""
    return {f"{kind}:{name}": amount for kind, amount in sums.items()}


def _kind(name: str) -> str:
    return name.split(":", 1)[0]


def spending_in(sums: Mapping[str, float], money: bool) -> Mapping[str, float]:
    """The sums with spending of one unit alone: dollars, or size units under the same names."""
    if money:
        return sums
    kept = {name: amount for name, amount in sums.items() if _kind(name) not in SPENDING}
    units = {name: amount for name, amount in sums.items() if name.startswith(UNITS)}
    return kept | {name.removeprefix(UNITS): amount for name, amount in units.items()}


def _answered(trace: Trace, spent: float) -> dict[str, float]:
    tokens = float(trace.output_tokens or 0)
    amounts = {
        "answers": 1.0,
        "costed": 1.0,
        "cost": spent,
        "unmetered": float(not trace.metered),
        "input_tokens": float(trace.input_tokens),
        "output_tokens": tokens,
    }
    amounts |= _by_model(trace, spent, tokens)
    if trace.promised is not None:
        amounts |= {"promised": trace.promised, "promises": 1.0}
    chosen = trace.chosen
    if chosen is None:
        return amounts
    if trace.metered:
        f, a = chosen.cost_usd, spent
        amounts |= _of(trace.model, metered=1.0, f=f, a=a, ff=f * f, af=a * f, aa=a * a)
    for option in trace.options:
        # A model that may not serve this call would not have had it under another policy either.
        amounts |= _beside(option.model, option if option.allowed else chosen, trace.model, spent)
        if option.chance > 0:
            p = option.success
            amounts |= _of(option.model, explore_n=1.0, explore_forecast=p, explore_forecast2=p * p)
    return amounts


def _by_model(trace: Trace, spent: float, tokens: float) -> dict[str, float]:
    """Dollars and output tokens by the model that was paid for them; a plan is paid nothing."""
    if trace.vote is None:
        return _of(trace.model, cost=spent, output_tokens=tokens)
    amounts = {f"cost:{model}": dollars for model, dollars in trace.vote.spent_usd.items()}
    for tried in trace.tries:
        if tried.failure is None:
            add(amounts, {f"output_tokens:{tried.model}": float(tried.output_tokens or 0)})
    return amounts


def _voted(trace: Trace) -> dict[str, float]:
    """What a plan's call adds: how it went, and what it saved against asking its escape alone.

    What that would have cost is a forecast.
    """
    vote = trace.vote
    if vote is None:
        return {}
    asked = float(any(tried.model == vote.escape for tried in trace.tries))
    agreed = float(vote.outcome == "agreed")
    amounts = _of(trace.model, plan_calls=1.0, plan_agreed=agreed, plan_escaped=asked)
    spent = (trace.cost_usd or 0.0) + sum(trace.wasted_usd.values())
    amounts |= _of(trace.model, plan_cost=spent)
    alone = next((o.cost_usd for o in trace.options if o.model == vote.escape), None)
    if trace.cost_usd is not None and alone is not None:
        amounts |= _of(trace.model, plan_saved=alone - spent)
    return amounts


def _beside(name: str, other: Option, served: str | None, spent: float) -> dict[str, float]:
    """What compares an answer with a model that stood to choice: the pool may change.

    Args:
        other: the model's own forecast, or that of the choice where it may not serve.
        served: the model that answered; spent: what that cost.
    """
    p = other.success
    amounts = _of(name, compared=1.0, spent=spent, hopes=1.0, hope=p, doubt=p * (1 - p))
    if other.model == served:
        return amounts | _of(name, same_cost=spent)
    # Had it served the whole conversation, it would have read that before.
    return amounts | _of(name, other_cost=other.cost_usd - other.switch_usd, other_calls=1.0)


def _circumstances(trace: Trace) -> dict[str, float]:
    """Whether a call lay far from all history, and whether a limit kept it from its model."""
    # Where calls are tallied, numpy is at hand; a look-up from a shell must not load it.
    from aios_eccos.decide import words
    from aios_eccos.forecast.hybrid import FAR

    bound = words.bound_by(words.Case.of_trace(trace), observed=trace.mode == "observe")
    amounts = {"limited": float(bound.startswith(words.LIMIT))}
    amounts |= {f"{CAPPED}:{name}": 1.0 for name in kept_by(trace)}
    if trace.novelty is not None:
        amounts |= {"placed": 1.0, "far": float(trace.novelty > FAR)}
    return amounts


def kept_by(trace: Trace) -> set[str]:
    """The names of the caps that kept a call from a model."""
    said = [option.closed for option in trace.options] + [trace.failure or ""]
    return {name for text in said for name in KEPT.findall(text)}


def _bucket(value: float, bounds: tuple[float, ...]) -> str:
    place = bisect_left(bounds, value)
    return f"{bounds[place]:g}" if place < len(bounds) else "+Inf"


def minute_of_call(trace: Trace) -> dict[str, float]:
    """The few sums that charts are drawn from."""
    wanted = ("calls", "failures", "answers", "cost", f"{UNITS}cost", "promised", "promises")
    whole = of_call(trace)
    names = [*wanted, f"calls:{trace.model}"]
    return {name: whole[name] for name in names if name in whole}


def of_verdict(trace: Trace, outcome: float, sign: float = 1.0) -> dict[str, float]:
    """What a verdict adds; with `sign` -1, what takes an earlier verdict back.

    What was given is not taken back: Prometheus' counters never fall.
    """
    chosen = trace.chosen
    amounts = {"verdicts": 1.0, "successes": outcome}
    if trace.promised is not None:
        amounts |= {"judged_promised": trace.promised, "judged_promises": 1.0}
    if chosen is not None:
        miss = outcome - chosen.success
        amounts |= _of(trace.model, verdicts=1.0, successes=outcome, miss=miss, miss2=miss * miss)
        if trace.status == EXPLORED and chosen.chance > 0:
            amounts |= _of(trace.model, told=1.0, **_explored(miss, 1 / chosen.chance))
    given = _of(trace.model, given=1.0, given_successes=outcome)
    return {name: sign * amount for name, amount in amounts.items()} | (given if sign > 0 else {})


def _explored(miss: float, weight: float) -> dict[str, float]:
    """What a verdict on an explored call adds to `floor.explore.Sums`."""
    return {
        "explore_weight": weight,
        "explore_weight2": weight**2,
        "explore_miss": weight * miss,
        "explore_cross": weight**2 * miss,
        "explore_miss2": (weight * miss) ** 2,
    }
