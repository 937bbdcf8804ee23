"""Money and success beside a named baseline: one model for every call.

What the calls cost is known. What the baseline would have cost is known where it was asked anyway,
and a forecast where it was not: the predictor's, scaled by how real costs stood to its forecasts,
with a 95 % interval for the error of that scale and of single answers. A call that may not use the
baseline (an agent named its models) counts the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aios_eccos import metrics
from aios_eccos.observe.call_views import SavedView, SavingsView
from aios_eccos.observe.summary import rate_of
from aios_eccos.observe.views import ObservedView, Rate
from aios_eccos.workload.periods import names_of

Sums = Mapping[str, float]
NOTE = "a forecast wherever the baseline was not asked; 95 % intervals"


def savings(
    at: float,
    money: bool,
    windows: Sequence[tuple[str, float | None, Sums]],
    baseline: str | None = None,
    observed: ObservedView | None = None,
) -> SavingsView:
    """`GET /eccos/savings`.

    Args:
        windows: name, beginning and sums of each.
        baseline: a model's name; None takes the strongest: of the highest mean forecast success on
            the calls since the start, ties by name.
        observed: observe mode's own ledger.
    """
    whole = windows[0][2] if windows else {}
    name = baseline or strongest(whole)
    known = name is not None and any(f"hope:{name}" in sums for _, _, sums in windows)
    if name is None or not known:
        note = "no answers yet" if name is None else f"no forecasts of {name!r} yet"
        found: list[SavedView] = []
    else:
        note, found = NOTE, [_saved(*window, name, money) for window in windows]
    return SavingsView(
        at=at,
        money=money,
        baseline=name,
        chosen_as="named" if baseline else "the strongest model for all calls",
        note=note,
        windows=found,
        observed=observed,
    )


def strongest(sums: Sums) -> str | None:
    """The model of the highest mean forecast success over all answers; ties by name."""
    names = names_of("hope", sums)
    return min(names, key=lambda name: (-sums[f"hope:{name}"], name)) if names else None


def _saved(title: str, since: float | None, sums: Sums, name: str, money: bool) -> SavedView:
    def of(key: str) -> float:
        return sums.get(key, 0.0)

    spent = of("cost") - of("wasted")  # a baseline's requests would have failed as well
    others = [_errors(sums, model) for model in names_of("metered", sums)]
    ahead = metrics.forecast_total(
        of(f"other_cost:{name}"), of(f"other_calls:{name}"), _errors(sums, name), others
    )
    cost = _moved(ahead, of(f"same_cost:{name}"))
    saved = Rate(
        value=cost.value - spent,
        low=None if cost.low is None else cost.low - spent,
        high=None if cost.high is None else cost.high - spent,
    )
    success = metrics.forecast_success(
        of(f"hope:{name}"),
        of(f"doubt:{name}"),
        of("answers"),
        of(f"verdicts:{name}"),
        of(f"miss:{name}"),
        of(f"miss2:{name}"),
    )
    return SavedView(
        name=title,
        since=since,
        answers=round(of("answers")),
        asked_baseline=round(of("answers") - of(f"other_calls:{name}")),
        cost_usd=spent,
        baseline_cost_usd=cost,
        saved_usd=saved,
        saved_share=metrics.saved_share(spent, cost.value),
        promised=metrics.mean(of("promised"), of("promises")),
        realised=rate_of(metrics.success_rate(of("successes"), of("verdicts"))),
        verdict_share=metrics.mean(of("verdicts"), of("calls")),
        baseline_success=rate_of(success),
    )


def _moved(interval: metrics.Interval, by: float) -> Rate:
    low, high = interval.low, interval.high
    return Rate(
        value=interval.value + by,
        low=None if low is None else low + by,
        high=None if high is None else high + by,
    )


def _errors(sums: Sums, model: str) -> metrics.Errors:
    kinds = ("metered", "f", "a", "ff", "af", "aa")
    return metrics.Errors(*(sums.get(f"{kind}:{model}", 0.0) for kind in kinds))
