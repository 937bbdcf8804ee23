"""Every sentence that says why a call went where it did.

In few words when it is made (`reason`, kept with the decision), and in full when somebody asks
(`sentence`, and `why` of each model). Both go by `bound_by`, the constraint that decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.metrics import percent
from aios_eccos.observe.trace import Trace
from aios_eccos.values import (
    EXPLORED,
    HELD,
    NOT_ALLOWED,
    BoolArray,
    Candidate,
    FloatArray,
    IntArray,
    Lease,
    Model,
    Query,
)

#: Status of a choice that was made without a decision.
FALLBACK = "fallback"
#: What decided, beside `limit of NAME`.
OBSERVED, UNDECIDED, PINNED = "AIOS's own choice", "no decision", "allowed models"
EXPLORATION, WHOLE, NO_HISTORY = "exploration", "whole batch", "no history"
EARNING = "earning"
FLOOR, NOTHING = "floor", "nothing"
LIMIT = "limit of "
#: Effective records like a call from which on there is a history of it.
SOME_SUPPORT = 1.0
#: Models named one by one where they were closed to a call.
NAMED_MOST = 3

UNDECIDED_REASON = "no model was chosen"
FALLBACK_REASON = "no decision could be made; the first allowed model with a slot serves"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A decision as its words see it. All arrays are (m,), in the order of `models`.

    Attributes:
        cost: forecast dollars.
        success, support: forecast, and the effective number of records behind it.
        allowed, free: models that could be chosen, and their slots at the decision.
        price: dollars that a success is worth; infinite where none is known.
        column: of the model that serves; None = none does.
        status: the optimizer's, `EXPLORED` or `FALLBACK`.
        whole: calls that were assigned as one under their floors; 0 = this one by its own price.
        rule: the column that the rule chooses among all allowed, where that is known.
    """

    models: tuple[str, ...]
    cost: FloatArray
    success: FloatArray
    support: FloatArray
    allowed: BoolArray
    free: IntArray
    price: float
    column: int | None
    status: str = ""
    whole: int = 0
    rule: int | None = None

    @classmethod
    def of_trace(cls, trace: Trace) -> Case:
        """Of a decision that was kept."""
        options, price = trace.options, trace.success_price_usd
        names = tuple(option.model for option in options)
        return cls(
            models=names,
            cost=np.array([option.cost_usd for option in options]),
            success=np.array([option.success for option in options]),
            support=np.array([option.support for option in options]),
            allowed=np.array([option.allowed for option in options], dtype=bool),
            free=np.array([option.free for option in options], dtype=np.int64),
            price=math.inf if price is None else price,
            column=names.index(trace.model) if trace.model in names else None,
            status=trace.status,
            whole=trace.batch if trace.whole else 0,
        )

    @classmethod
    def of(
        cls,
        candidate: Candidate,
        column: int | None,
        free: IntArray,
        whole: int = 0,
        rule: int | None = None,
    ) -> Case:
        """Of a decision that is being made: the column that has a slot, None = none has."""
        same = ("models", "cost", "success", "support", "allowed", "price")
        kept = {name: getattr(candidate, name) for name in same}
        return cls(**kept, free=free, column=column, whole=whole, rule=rule)

    def best(self, columns: BoolArray | None = None) -> int:
        """The column that the rule chooses among some (m,), else all allowed; -1 without any."""
        if columns is None and self.rule is not None:
            return self.rule
        among = self.allowed if columns is None else columns
        return int(choose(self.cost[None], self.success[None], self.price, among)[0])

    @property
    def known(self) -> bool:
        """Whether a price of success is known."""
        return math.isfinite(self.price)


def reason(
    candidate: Candidate,
    column: int,
    lease: Lease | None,
    free: IntArray,
    whole: int = 0,
    rule: int | None = None,
) -> str:
    """Why this model, in one sentence; `column` is the optimizer's choice, -1 = waits."""
    case = Case.of(candidate, None if lease is None else column, free, whole, rule)
    if lease is None:
        return _waits(case)
    bound = bound_by(case)
    if bound.startswith(LIMIT):
        full = free[case.best()] <= 0
        lack = "is at its limit" if full else "its few slots are lent to calls that gain more"
        return f"the best left: {bound.removeprefix(LIMIT)} would be chosen but {lack}"
    return {
        PINNED: "the only model that may serve this call",
        WHOLE: f"{whole} calls were assigned as one, under the floors and all limits",
        NO_HISTORY: f"the strongest: {_no_price(case)}",
    }.get(bound, "the cheapest way to keep the floor: cost less the worth of its success is least")


def explored(name: str, chance: float) -> str:
    """Why a model serves that was asked to learn about it, with that chance."""
    return f"explored: {name} has few verdicts ({chance:.2%} of calls are spent on that)"


def held(shadow: str, share: float) -> str:
    """Why the reference serves where the price would have chosen the shadow."""
    if share <= 0:
        return f"the reference: that {shadow} keeps the floor has yet to be shown by audits"
    return f"the reference: it serves {1 - share:.0%} of the calls for which {shadow} is chosen"


def closed(query: Query, model: Model, own: Collection[str] | None, failed: bool) -> str:
    """Why a model could not be chosen, in words that follow its name.

    `own` are the models that the settings leave to the query's agent, None = all.
    """
    if query.allowed is None and own is not None and model.name not in own:
        return NOT_ALLOWED
    if failed:
        return "has just failed on it"
    return query.obstacle(model) or "rests after an error"


def bound_by(case: Case, *, observed: bool = False) -> str:
    """The constraint that decided; `observed` = AIOS's own choice was served."""
    if observed:
        return OBSERVED
    if case.column is None or not case.allowed.any() or case.status == FALLBACK:
        return UNDECIDED
    if int(case.allowed.sum()) == 1:
        return PINNED
    if case.status == EXPLORED:
        return EXPLORATION
    if case.status == HELD:
        return EARNING
    if case.whole and case.known:
        return WHOLE
    best = case.best()
    if best != case.column:
        return f"{LIMIT}{case.models[best]}"
    if not case.known:
        return NO_HISTORY
    least = case.cost[case.allowed].min()
    return FLOOR if case.cost[case.column] > least else NOTHING


def why(case: Case, column: int, closed: str = "") -> str:
    """Why this model was chosen, or why it was not (`closed`, if known), in a few words."""
    chosen = case.column
    if column == chosen:
        return "chosen"
    if not case.allowed[column]:
        return closed or "closed to this call"
    if chosen is None:
        return "at its limit" if case.free[column] <= 0 else ""
    if case.status == EXPLORED:
        return "chance chose another"
    if case.status == HELD:
        return "the reference is held"
    full = case.free[column] <= 0
    two = np.isin(np.arange(len(case.models)), (column, chosen)) & case.allowed
    if case.best(two) == column:
        if case.whole and case.known:
            return "the batch as a whole gains more"
        return "at its limit" if full else "slots lent to calls that gain more"
    if full:
        return "at its limit, and not preferred"
    stronger = case.success[column] > case.success[chosen]
    cheaper = case.cost[column] < case.cost[chosen]
    if stronger:
        return "dearer than its gain in success is worth"
    return "cheaper, but loses too much success" if cheaper else "dearer and no better"


def sentence(
    case: Case,
    bound: str,
    reason: str,
    *,
    promised: float | None,
    floor: float | None,
    only: str,
    money: Callable[[float], str],
) -> str:
    """Why the model that serves does so, in full.

    Args:
        bound: as `bound_by` gives it; reason: what was said at the decision.
        promised: success to be expected of the choice; floor: that is asked for; None = unknown.
        only: why no other model could be chosen.
        money: shows a cost.
    """
    if case.column is None:
        return f"No model served this call: {reason}."
    text = f"{case.models[case.column]} was chosen"
    if promised is not None:
        text += f" for {percent(promised)} success at {money(float(case.cost[case.column]))}"
    if bound == OBSERVED:
        return f"{text}, by AIOS itself: the plugin only observes."
    if bound == FLOOR:
        return text + _floor(case, case.column, floor, money)
    return f"{text}: {only if bound == PINNED else reason}."


def only(case: Case, closed: list[str], named: int) -> str:
    """Why no other model could be chosen.

    `closed` (m,) says why each closed model is, "" = not known; the agent named so many models.
    """
    shut = np.flatnonzero(~case.allowed).tolist()
    words = [closed[column] for column in shut]
    if named == 1 or (words and all(word == NOT_ALLOWED for word in words)):
        return "its agent allows no other"
    if not words or not all(words):
        return "the others may not serve it, or rest after errors"
    some = [f"{case.models[column]} {closed[column]}" for column in shut[:NAMED_MOST]]
    more = len(shut) - len(some)
    return "; ".join(some) + (f"; {more} more could not serve it" if more else "")


def _waits(case: Case) -> str:
    if not case.allowed.any():
        return "no configured model may serve this call"
    if (case.free[case.allowed] > 0).any():
        return "waits: the models that it would take are at their limit"
    return "waits: every model that may serve it is at its limit"


def _no_price(case: Case) -> str:
    if case.support[case.allowed].max() < SOME_SUPPORT:
        return "no history like it yet to save money by"
    return "what a success is worth is not known yet, history is too short or still being read"


def _floor(case: Case, chosen: int, floor: float | None, money: Callable[[float], str]) -> str:
    """What the floor bought over the best of the cheaper models."""
    best = case.best(case.allowed & (case.cost < case.cost[chosen]))
    extra = money(float(case.cost[chosen] - case.cost[best]))
    gain = float(case.success[chosen] - case.success[best])
    asked = "" if floor is None else f" of {percent(floor)}"
    return (
        f": to keep the floor{asked} on average, its {gain * 100:.1f} points of success over "
        f"{case.models[best]} are worth the extra {extra}."
    )
