"""The floor's one home: what a success is worth, and what moves that.

value = base on history x factor that outcomes (or spending) moved, within the price's ends
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aios_eccos.config import Floor, Settings
from aios_eccos.errors import WorkloadError
from aios_eccos.floor.alarm import Alarm, of_verdict, read_alarms
from aios_eccos.floor.control import BOOST, START_AT, outcome_step, spending_step
from aios_eccos.floor.curve import PriceCurve
from aios_eccos.floor.earn import Earning
from aios_eccos.floor.gate import gate_for, price_of_audits
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.modes import BUDGETED, EXPECTED, Asked, Expected, Made, mode_of
from aios_eccos.observe.trace import Trace
from aios_eccos.values import Control, Gate, Model, Price, Query
from aios_eccos.workload.periods import TOTAL, add, period_sums
from aios_eccos.workload.store import Ledger, PriceStore

log = logging.getLogger("aios_eccos.floor")

#: Effective records behind a forecast below which the strongest is taken rather than a gamble.
MIN_SUPPORT = 1.0
#: Pairs of agent pattern and models that are remembered, so that their curves are made beforehand.
SERVED_MOST = 64


class Floors:
    """Prices of success under the settings in force, and what moves them.

    Whatever moves a price moves the stored factor of that very price: `settled` by what was
    promised of a call, `judged` by its verdict. Factors and sums lie in the workload store.

    Args:
        settings: floors, budgets, agents' policies.
        prices: keeps the factors.
        ledger: keeps the sums of verdicts.

    Attributes:
        earning: how far each policy may be routed; None: policies need not earn it.
        controlled: policies with verdicts enough for their price to be moved by outcomes.
        alarmed: policies whose floor is known not to be kept.
    """

    def __init__(self, settings: Settings, prices: PriceStore, ledger: Ledger) -> None:
        self._settings = settings
        self._prices = prices
        self._ledger = ledger
        self.earning: Earning | None = None
        self.controlled: frozenset[str] = frozenset()
        self.alarmed: frozenset[str] = frozenset()
        self._told = False
        self._served: dict[tuple[str, frozenset[str]], str] = {}

    def use(self, settings: Settings) -> None:
        """Go by other settings; what was seen so far stays."""
        self._settings = settings

    @property
    def mode(self) -> Expected:
        """How floors of the configuration are kept."""
        return mode_of(self._settings)

    @property
    def exploration(self) -> float:
        """Share of calls that may explore now: none before verdicts come that could teach."""
        return self._settings.exploration if self._told else 0.0

    def price(
        self,
        query: Query,
        names: Sequence[str],
        support: float,
        learned: Learned,
        factors: Mapping[str, float],
        gate: Gate | None = None,
    ) -> Price:
        """What a success of this call is worth, and what may move that.

        The call's own floor goes before its agent's, that before the general one; a budget stands
        in for the general one only. With one model there is nothing to choose, so no floor applies.

        Args:
            names: the models that may serve the call.
            support: effective records behind the best supported forecast.
            learned: what history taught.
            factors: the stored factors, by key.
            gate: how far the call may be routed, where that is limited.
        """
        asked = self._asked(query)
        if len(names) < 2:
            return Price(asked.policy)
        if gate is not None and learned.losses:
            losses = learned.losses.get(asked.policy)
            if support < MIN_SUPPORT or losses is None:
                return Price(asked.policy)
            return price_of_audits(asked.policy, losses, names, gate)
        mode = EXPECTED if asked.own else BUDGETED if asked.budget is not None else self.mode
        models = mode.models(names, learned.certifier)
        curve = learned.book.curve(models) if learned.book is not None else None
        if curve is None or support < MIN_SUPPORT:
            return _unpriced(asked)
        if not asked.own and len(self._served) < SERVED_MOST:
            self._served[asked.policy, frozenset(names)] = query.agent
        floor = _absolute(asked.floor, names, learned)
        if math.isnan(floor) and asked.budget is None:
            return Price(asked.policy, own=asked.own)
        span = mode.span(asked, curve, names, Made(floor, learned.certifier))
        key = mode.key(asked)
        moves = asked.budget is not None or asked.policy in self.controlled
        factor = factors.get(key, 1.0) if moves else 1.0
        value = min(max(span.base * factor, span.least), span.greatest)
        optimism = curve.optimism(value)
        worth = Price(
            policy=asked.policy,
            floor=floor,
            value=value,
            **span._asdict(),
            key=key,
            own=asked.own,
            budget=asked.budget,
            batch_floor=curve.floor_for(value) + optimism,
            optimism=optimism,
            models=tuple(models),
        )
        # Where outcomes have lowered the price, the floor is kept after all.
        beyond = floor > curve.reachable and factor >= 1 and not mode.calibrates
        return _at_top(worth, curve) if beyond else worth

    def gate(self, query: Query, pool: Sequence[Model], learned: Learned) -> Gate | None:
        """How far a call may be routed that these models may serve; None: nothing limits it."""
        _, policy = self._settings.policy(query.agent)
        if self.earning is None or not policy.audit:
            return None
        return gate_for(query.id, self._asked(query), pool, learned, self.earning)

    def prepare(self, learned: Learned, pool: Sequence[str]) -> None:
        """Make the curves that calls will ask for, so that no call waits for them."""
        names = frozenset(pool)
        served = {("", learned.columns(names)): ""}
        for pattern, policy in self._settings.agents.items():
            served[pattern, learned.columns(names & frozenset(policy.models or names))] = pattern
        for (pattern, columns), agent in (served | self._served).items():
            if pattern in {"", *self._settings.agents} and columns <= learned.columns(names):
                self.price(Query("", agent=agent), sorted(columns), math.inf, learned, {})

    def _asked(self, query: Query) -> Asked:
        pattern, policy = self._settings.policy(query.agent)
        if query.floor is not None:
            return Asked(pattern, Floor(query.floor, relative=False), own=True)
        if policy.quality_floor is None and self._settings.budget_per_call is not None:
            return Asked(pattern, budget=self._settings.budget_per_call)
        return Asked(pattern, policy.quality_floor or self._settings.quality_floor)

    def settled(self, traces: Sequence[Trace]) -> list[Trace]:
        """Move the prices by settled calls.

        Under a floor, by what was promised of the answer, until its verdict is there; under a
        budget, by what was spent.

        Returns:
            The traces, each with what it has added to its price.
        """
        found = [*traces]
        groups: dict[Control, list[int]] = {}
        for row, trace in enumerate(found):
            if trace.control is not None and self._first_step(trace):
                groups.setdefault(trace.control, []).append(row)
        for control, rows in groups.items():
            steps = [self._first_step(found[row]) for row in rows]
            try:
                self._move(found[rows[0]].policy, control, math.fsum(steps), len(rows))
            except WorkloadError as error:
                # Nothing was added, so a verdict that comes later adds the whole.
                log.warning("the price of success is not moved: %s", error)
                continue
            for row, step in zip(rows, steps, strict=True):
                found[row] = replace(found[row], control=replace(control, step=step))
        return found

    def _first_step(self, trace: Trace) -> float:
        """What a settled call adds to its price before anybody has judged it."""
        control, answered = trace.control, trace.failure is None
        if control is None:
            return 0.0
        if control.budget is not None:
            spent = (trace.cost_usd or 0.0) + math.fsum(trace.wasted_usd.values())
            return spending_step(control.budget, spent, answered) if trace.money else 0.0
        if not answered or trace.floor is None or trace.promised is None:
            return 0.0
        return self._step(trace, trace.promised)

    def verdict_step(self, trace: Trace, outcome: float) -> float:
        """What a verdict (0..1) adds beside what its call added when it settled."""
        if trace.control is None or trace.control.budget is not None or trace.floor is None:
            return 0.0
        whole = self._step(trace, outcome)
        return whole - trace.control.step if whole or trace.control.step else 0.0

    def _step(self, trace: Trace, success: float) -> float:
        if trace.control is None or not trace.control.key or trace.policy not in self.controlled:
            return 0.0
        eta = self._settings.floor_step * (BOOST if trace.policy in self.alarmed else 1.0)
        return outcome_step(trace.floor or 0.0, success, eta)

    def judged(self, trace: Trace, outcome: float, before: float | None, step: float) -> None:
        """Take a verdict (0..1) into the alarm's sums and into the price.

        Args:
            before: the verdict that it replaces, if there was one.
            step: what it adds to the price, less what the verdict before it had added.

        Raises:
            WorkloadError: the store cannot be used.
        """
        bets = of_verdict(trace, outcome)
        if before is not None:
            add(bets, of_verdict(trace, before, -1.0))
        if bets:
            self._ledger.add_sums([period_sums("d", time.time(), bets)])
        if step and trace.control is not None:
            self._move(trace.policy, trace.control, step, 1)

    def _move(self, policy: str, control: Control, step: float, moves: int) -> None:
        """Move a factor, and count the moves that left it at an end: no bound holds of them."""
        once, low, high = uuid.uuid4().hex, control.low, control.high
        factor = self._prices.move_price(control.key, step, 1.0, (low, high), once=once)
        ended = moves * (factor <= low or factor >= high)
        amounts = {f"moves:{policy}": float(moves), f"ended:{policy}": float(ended)}
        self._ledger.add_sums([period_sums("d", time.time(), amounts)])

    def look(self) -> list[Alarm]:
        """Read every policy's alarm; which are controlled, and alarmed, follows from it.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        alarms = read_alarms(self._ledger, time.time())
        known = {alarm.policy for alarm in alarms if alarm.verdicts >= START_AT}
        self.controlled = frozenset(known)
        self.alarmed = frozenset(alarm.policy for alarm in alarms if alarm.broken)
        (total,) = self._ledger.sums([TOTAL])
        # Asking a model that nobody will judge teaches nothing.
        self._told = total.get("verdicts", 0.0) > 0
        return alarms


def _unpriced(asked: Asked) -> Price:
    """No price; the floor where that is known all the same."""
    known = asked.floor is not None and not asked.floor.relative
    floor = asked.floor.value if asked.floor is not None and known else math.nan
    return Price(asked.policy, floor, own=asked.own)


def _at_top(worth: Price, curve: PriceCurve) -> Price:
    """The price under a floor that none keeps: see `floor.top`."""
    if curve.top is None:
        return worth
    value = float(curve.prices[-1])
    kept = curve.floor_for(value)
    return replace(worth, value=value, batch_floor=kept, optimism=0.0, levels=curve.top.success)


def _absolute(floor: Floor | None, names: Sequence[str], learned: Learned) -> float:
    """A floor as success, 0..1; NaN without one, and where nothing is known of the strongest."""
    if floor is None:
        return math.nan
    if not floor.relative:
        return floor.value
    strongest = learned.book.strongest(names) if learned.book is not None else None
    return math.nan if strongest is None else floor.of(strongest[1])
