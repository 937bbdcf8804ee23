"""Money and success beside a named baseline: one model for every call.

What the baseline would have cost is known where it was asked anyway, and a forecast elsewhere,
scaled by how real costs stood to forecasts. A call that may not use the baseline counts the same on
both sides; an answer from before the baseline was configured counts on neither.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from aios_eccos import metrics
from aios_eccos.observe.call_views import SavedView, SavingsView
from aios_eccos.observe.summary import Sums, amounts
from aios_eccos.observe.views import ObservedView
from aios_eccos.workload.periods import names_of

NOTE = "a forecast wherever the baseline was not asked; 95 % intervals"


def savings(
    at: float,
    money: bool,
    windows: Sequence[tuple[str, float | None, Sums]],
    baseline: str | None = None,
    observed: ObservedView | None = None,
    pool: Collection[str] = (),
) -> SavingsView:
    """`GET /eccos/savings`.

    Args:
        windows: name, beginning and sums of each, spending in one unit; the first is the longest.
        baseline: a model's name; None takes the strongest of `pool`.
        pool: the models that are configured now; empty: whatever served.
    """
    name = baseline or strongest(windows[0][2], pool)
    note, found = "no answers yet", []
    if name is not None:
        note = f"no forecasts of {name!r} yet"
        if any(f"compared:{name}" in sums for _, _, sums in windows):
            note, found = NOTE, [_saved(*window, name) for window in windows]
    return SavingsView(
        at=at,
        money=money,
        baseline=name,
        chosen_as="named" if baseline else "the strongest model for all calls",
        note=note,
        windows=found,
        observed=observed,
    )


def strongest(sums: Sums, pool: Collection[str] = ()) -> str | None:
    """The model that is surely strongest, of `pool` or of all; ties by name.

    By the success forecast on the calls that each was compared on, corrected by its verdicts.
    """
    names = [name for name in names_of("hopes", sums) if not pool or name in pool]
    if not names:
        return None
    from aios_eccos.floor.curve import strongest_of

    found = [_success(sums, name) for name in names]
    calls = np.array([sums[f"hopes:{name}"] for name in names])
    share = np.array([0.0 if rate is None else rate.value for rate in found])
    best = strongest_of(share * calls, calls, names)
    return None if best is None else names[best]


def _saved(title: str, since: float | None, sums: Sums, name: str) -> SavedView:
    """A window's answers that the baseline could have been asked for, beside what it would cost."""
    # A baseline's requests would have failed as well: what they wasted counts on neither side.
    of, its = amounts(sums), amounts(sums, name)
    spent, compared, others = its("spent"), its("compared"), its("other_calls")
    known = [_errors(sums, model) for model in names_of("metered", sums)]
    ahead = metrics.forecast_total(its("other_cost"), others, _errors(sums, name), known)
    cost = ahead.moved(its("same_cost"))
    return SavedView(
        name=title,
        since=since,
        answers=round(of("answers")),
        compared=round(compared),
        asked_baseline=round(compared - others),
        cost_usd=spent,
        baseline_cost_usd=cost,
        saved_usd=cost.moved(-spent),
        saved_share=metrics.saved_share(spent, cost.value),
        promised=metrics.mean(of("promised"), of("promises")),
        realised=metrics.success_rate(of("successes"), of("verdicts")),
        verdict_share=metrics.mean(of("verdicts"), of("calls")),
        baseline_success=_success(sums, name),
    )


def _success(sums: Sums, name: str) -> metrics.Interval | None:
    """What the model would reach on the answered calls that it was compared on."""
    kinds = ("hope", "doubt", "hopes", "verdicts", "miss", "miss2")
    return metrics.forecast_success(*map(amounts(sums, name), kinds))


def _errors(sums: Sums, model: str) -> metrics.Errors:
    return metrics.Errors(*map(amounts(sums, model), ("metered", "f", "a", "ff", "af", "aa")))
