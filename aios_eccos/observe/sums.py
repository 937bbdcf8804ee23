"""Which sums a settled call and a verdict add to, by minute, hour, day and in all.

Names are `kind` or `kind:name`, the latter being a model's or a policy's, whatever is in it.
Spending of calls without a known price is in size units and has names of its own: it is no dollars.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from aios_eccos.observe.trace import Option, Trace
from aios_eccos.values import EXPLORED

#: Kinds of sums whose unit is that of costs: dollars, or size units with `UNITS` before the kind.
SPENDING = frozenset(
    ("cost", "wasted", "costed", "same_cost", "other_cost", "other_calls", "compared", "spent")
    + ("metered", "f", "a", "ff", "af", "aa")
)
UNITS = "units_"
#: Upper bounds of the histograms, seconds.
WAITED_LE = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
DECIDED_LE = (0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0)


def of_call(trace: Trace) -> dict[str, float]:
    """What a settled call adds to the hour and to the total."""
    amounts = {
        "calls": 1.0,
        "failures": float(trace.failure is not None),
        "attempts": float(trace.attempts),
        "waited": trace.waited_s,
        "decided": trace.decision_s,
        f"waited_le:{_bucket(trace.waited_s, WAITED_LE)}": 1.0,
        f"decided_le:{_bucket(trace.decision_s, DECIDED_LE)}": 1.0,
    }
    if trace.model is not None:
        amounts[f"calls:{trace.model}"] = 1.0
        amounts[f"failures:{trace.model}"] = float(trace.failure is not None)
        amounts[f"explored:{trace.model}"] = float(trace.status == EXPLORED)
    amounts |= _circumstances(trace)
    if trace.cost_usd is not None:
        amounts |= _answered(trace, trace.cost_usd)
    for model, wasted in trace.wasted_usd.items():
        for name in ("cost", f"cost:{model}", "wasted"):
            amounts[name] = amounts.get(name, 0.0) + wasted
    unit = "" if trace.money else UNITS
    return {
        f"{unit}{name}" if _kind(name) in SPENDING else name: amount
        for name, amount in amounts.items()
        if amount
    }


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
    amounts = {
        "answers": 1.0,
        "costed": 1.0,
        "cost": spent,
        "unmetered": float(not trace.metered),
        "input_tokens": float(trace.input_tokens),
        "output_tokens": float(trace.output_tokens or 0),
        f"cost:{trace.model}": spent,
        f"output_tokens:{trace.model}": float(trace.output_tokens or 0),
    }
    if trace.promised is not None:
        amounts |= {"promised": trace.promised, "promises": 1.0}
    chosen = trace.chosen
    if chosen is None:
        return amounts
    if trace.metered:
        f = chosen.cost_usd
        amounts |= {
            f"metered:{trace.model}": 1.0,
            f"f:{trace.model}": f,
            f"a:{trace.model}": spent,
            f"ff:{trace.model}": f * f,
            f"af:{trace.model}": spent * f,
            f"aa:{trace.model}": spent * spent,
        }
    for option in trace.options:
        # A model that may not serve this call would not have had it under another policy either.
        amounts |= _beside(option.model, option if option.allowed else chosen, trace.model, spent)
        if option.chance > 0:
            forecast = option.success
            amounts |= _explorable(option.model, n=1.0, forecast=forecast, forecast2=forecast**2)
    return amounts


def _beside(name: str, other: Option, served: str | None, spent: float) -> dict[str, float]:
    """What compares an answer with a model that stood to choice: the pool may change.

    Args:
        other: the model's own forecast, or that of the choice where it may not serve.
        served: the model that answered; spent: what that cost.
    """
    amounts = {f"compared:{name}": 1.0, f"spent:{name}": spent, f"hopes:{name}": 1.0}
    amounts[f"hope:{name}"] = other.success
    amounts[f"doubt:{name}"] = other.success * (1 - other.success)
    if other.model == served:
        return amounts | {f"same_cost:{name}": spent}
    return amounts | {f"other_cost:{name}": other.cost_usd, f"other_calls:{name}": 1.0}


def _explorable(model: str, **sums: float) -> dict[str, float]:
    """What adds to a model's `floor.explore.Sums`, field by field."""
    return {f"explore_{name}:{model}": amount for name, amount in sums.items()}


def _circumstances(trace: Trace) -> dict[str, float]:
    """Whether a call lay far from all history, and whether a limit kept it from its model."""
    # Where calls are tallied, numpy is at hand; a look-up from a shell must not load it.
    from aios_eccos.forecast.hybrid import FAR
    from aios_eccos.observe.bound import bound_by

    amounts = {"limited": float(bound_by(trace).startswith("limit of "))}
    if trace.novelty is not None:
        amounts |= {"placed": 1.0, "far": float(trace.novelty > FAR)}
    return amounts


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
        amounts |= {
            f"verdicts:{trace.model}": 1.0,
            f"successes:{trace.model}": outcome,
            f"miss:{trace.model}": miss,
            f"miss2:{trace.model}": miss * miss,
        }
        if trace.status == EXPLORED and chosen.chance > 0:
            weight = 1 / chosen.chance
            amounts[f"told:{trace.model}"] = 1.0
            amounts |= _explorable(
                chosen.model,
                weight=weight,
                weight2=weight**2,
                miss=weight * miss,
                cross=weight**2 * miss,
                miss2=(weight * miss) ** 2,
            )
    given = {f"given:{trace.model}": 1.0, f"given_successes:{trace.model}": outcome}
    return {name: sign * amount for name, amount in amounts.items()} | (given if sign > 0 else {})
