"""The whole decision: recall, forecast, price, assign, lend.

    queries -> embeddings -> Forecast -> Prospects -> AssignmentProblem -> leases -> Assignment

This module alone joins the stages. It is free of AIOS, and of threads: the dispatcher calls
`forecast` once per call and `assign` until the call has a slot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aios_eccos.config import Settings
from aios_eccos.decide.assign import assigned, slots_of
from aios_eccos.decide.problem import Solution
from aios_eccos.decide.rule import preferred
from aios_eccos.decide.slot_prices import SharedPrices
from aios_eccos.decide.words import FALLBACK, FALLBACK_REASON, explored, reason
from aios_eccos.errors import EccosError
from aios_eccos.floor.explore import Trial, chance_of, explore_batch
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.worth import shift_name, success_worth, switch_cost
from aios_eccos.forecast.pricing import Prices
from aios_eccos.forecast.priors import PriorPredictor
from aios_eccos.values import (
    EXPLORED,
    Assignment,
    BoolArray,
    Candidate,
    Decision,
    FloatArray,
    Forecast,
    Lease,
    Model,
    Query,
    Slots,
)
from aios_eccos.workload.store import WorkloadStore

log = logging.getLogger("aios_eccos.serve.router")

#: Pairs of agent pattern and model set that are remembered, so that their prices are at hand.
SERVED_MOST = 64


class Router:
    """Decides for all waiting queries together.

    Args:
        models: the pool, prices filled in as far as they are known.
        settings: floors, policies.
        prices: the pool's price table.
        workload: lends slots.

    Attributes:
        learned: may be replaced at any time, from any thread.
        controlled: policies whose price of success is moved by their outcomes.
        shared: prices that all kernels share.
        failures: decisions that had to do without forecasts or without a decision.
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        prices: Prices,
        workload: WorkloadStore,
        learned: Learned | None = None,
    ) -> None:
        self.models = tuple(models)
        self.settings = settings
        self.learned = learned or Learned(PriorPredictor())
        self.controlled: frozenset[str] = frozenset()
        self.alarmed: frozenset[str] = frozenset()
        self.explores = False
        self.failures = 0
        self._names = tuple(model.name for model in models)
        self._by_name = {model.name: model for model in models}
        self._limits = {model.slot: model.limit for model in models}
        self._prices = prices
        self._workload = workload
        self.shared = SharedPrices(models, workload)

    @property
    def spills(self) -> bool:
        """Whether a call takes another model when its best is at its limit."""
        return self.settings.over_capacity == "spill"

    def route(self, queries: Sequence[Query]) -> Assignment:
        """Forecast and assign in one go; the leases in the decisions are the caller's to release.

        The paper's whole step (ECCOS, section 3): predictor, then constrained assignment.
        """
        return self.assign(self.forecast(queries), self.slots())

    def forecast(self, queries: Sequence[Query]) -> list[Candidate]:
        """What every model would do on each query, what it costs, and what success is worth."""
        begun = time.perf_counter()
        allowed = np.array([self._allowed(query) for query in queries])
        forecast, embeddings = self._forecast(queries, allowed)
        cost = self._prices.cost(
            np.array([q.input_tokens for q in queries], dtype=float), forecast.output_tokens
        )
        shifts = self._shifts()
        candidates = [
            self._candidate(query, row, forecast, cost[row], allowed[row], shifts)
            for row, query in enumerate(queries)
        ]
        share_s = (time.perf_counter() - begun) / max(len(queries), 1)
        # Copies: a view would keep the whole batch's embeddings for as long as its slowest call.
        vectors = [None] * len(queries) if embeddings is None else [v.copy() for v in embeddings]
        return [
            replace(candidate, forecast_s=share_s, embedding=vector)
            for candidate, vector in zip(candidates, vectors, strict=True)
        ]

    def slots(self) -> Slots:
        """What is free now, over all kernels."""
        return slots_of(self.models, self._workload.loads(self._limits))

    def assign(self, candidates: Sequence[Candidate], slots: Slots) -> Assignment:
        """Choose a model for each candidate and lend the slots, the whole batch in one request.

        Earlier candidates go first where slots are short. A decision without a model means: wait.
        """
        begun = time.perf_counter()
        free = np.array([slots.free[name] for name in self._names], dtype=np.int64)
        trials = explore_batch(candidates, free, self._share(), self.learned.judged or {})
        opened = [trial.limited(p) for trial, p in zip(trials, candidates, strict=True)]
        solution = assigned(opened, free, self.settings, self.shared)
        wanted = [
            Lease(candidate.query.id, self._by_name[self._names[column]].slot)
            for candidate, column in zip(candidates, solution.choice, strict=True)
            if column >= 0
        ]
        granted = self._workload.acquire(wanted, self._limits) if wanted else []
        held = {lease.call_id: lease for lease, ok in zip(wanted, granted, strict=True) if ok}
        try:
            return self._assignment(candidates, trials, solution, held, free, begun)
        except BaseException:
            self._workload.release([*held.values()])
            raise

    def _assignment(
        self,
        candidates: Sequence[Candidate],
        trials: Sequence[Trial],
        solution: Solution,
        held: Mapping[str, Lease],
        free: NDArray[np.int64],
        begun: float,
    ) -> Assignment:
        leases = [held.get(candidate.query.id) for candidate in candidates]
        share_s = (time.perf_counter() - begun) / max(len(candidates), 1)
        now = time.time()
        decisions = tuple(
            Decision(
                candidate=candidate,
                model=self._names[column] if lease is not None else None,
                lease=lease,
                free=free,
                slot_prices=solution.slot_prices,
                status=EXPLORED if trial.column is not None else solution.status.value,
                reason=reason(candidate, int(column), lease, free)
                if lease is None or trial.column is None
                else explored(self._names[trial.column], trial.chance),
                batch=len(candidates),
                decision_s=candidate.forecast_s + share_s,
                at=now,
                chances=trial.chances,
            )
            for candidate, trial, column, lease in zip(
                candidates, trials, solution.choice, leases, strict=True
            )
        )
        return Assignment(
            decisions=decisions,
            status=solution.status.value,
            cost=solution.cost,
            success=solution.success,
            lower_bound=solution.lower_bound,
            gap=solution.gap,
            binding=solution.binding,
        )

    def preferred(self, candidate: Candidate) -> str | None:
        """The model that would be chosen if every slot were free; None if none may serve."""
        return candidate.models[preferred(candidate)] if candidate.allowed.any() else None

    def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision:
        """AIOS's own choice (the first allowed model), for when deciding itself has failed.

        Those that the call has failed on come last. The next one where that has no slot, if calls
        may spill. Without a model where none is allowed, or none has a slot: then it waits.
        """
        self.failures += 1
        order = [n for n in query.allowed or () if n in self._by_name] or [*self._names]
        allowed = self._allowed(query)
        able = [name for name in order if allowed[self._names.index(name)]]
        chosen, lease = None, None
        able.sort(key=lambda name: name in failed_on)
        for name in able if self.spills else able[:1]:
            asked = Lease(query.id, self._by_name[name].slot)
            if self._workload.acquire([asked], self._limits)[0]:
                chosen, lease = name, asked
                break
        nothing = np.zeros(len(self.models))
        forecast = PriorPredictor().forecast([query], None, self.models)
        return Decision(
            candidate=self._candidate(query, 0, forecast, nothing, allowed, {}),
            model=chosen,
            lease=lease,
            free=nothing.astype(np.int64),
            slot_prices=nothing,
            status=FALLBACK,
            reason=FALLBACK_REASON,
            batch=1,
            decision_s=0.0,
            at=time.time(),
        )

    def release(self, decision: Decision) -> None:
        """Give the decision's slot back; harmless when it has none or is given back already."""
        if decision.lease is not None:
            self._workload.release([decision.lease])

    def rest(self, model: str, seconds: float | None) -> None:
        """Let a model cool down after an error of its server, in every kernel."""
        pause = self.settings.cooldown_s if seconds is None else seconds
        if pause > 0:
            self._workload.cool_down(self._by_name[model].slot, pause)

    def on_release(self, callback: Callable[[], None]) -> None:
        """Call back (from any thread) whenever a slot may have come free, in any kernel."""
        self._workload.on_release(callback)

    def _forecast(
        self, queries: Sequence[Query], allowed: BoolArray
    ) -> tuple[Forecast, NDArray[np.float32] | None]:
        """The predictor's forecast; priors where it fails, or where there is nothing to choose.

        With the embeddings that it took, if any.
        """
        if int(allowed.sum(axis=1).max(initial=0)) > 1:
            knows = self.learned
            texts = [query.text for query in queries]
            try:
                embeddings, layers = knows.embed(texts)
                found = knows.predictor.forecast(queries, embeddings, self.models, layers)
                return found, embeddings
            except EccosError as error:
                self.failures += 1
                log.warning("forecasting on priors: %s", error)
        return PriorPredictor().forecast(queries, None, self.models), None

    def _allowed(self, query: Query) -> BoolArray:
        """(m,) models that may serve: those the caller names, else those of its agent's policy."""
        _, policy = self.settings.policy(query.agent)
        own = policy.models if query.allowed is None else None
        return np.array([query.may_use(m) and (own is None or m.name in own) for m in self.models])

    def _candidate(
        self,
        query: Query,
        row: int,
        forecast: Forecast,
        cost: FloatArray,
        allowed: BoolArray,
        shifts: Mapping[str, float],
    ) -> Candidate:
        names = [name for name, ok in zip(self._names, allowed, strict=True) if ok]
        support = float(forecast.support[row][allowed].max(initial=0.0))
        knows = self.learned
        worth = success_worth(
            query, names, support, knows.book, self.settings, shifts, knows.certifier
        )
        if query.floor is None and len(knows.served) < SERVED_MOST:
            knows.served[worth.policy, frozenset(names)] = query.agent
        chosen = [worth.models is None or name in worth.models for name in self._names]
        return Candidate(
            query=query,
            models=self._names,
            success=forecast.success[row],
            output_tokens=forecast.output_tokens[row],
            support=forecast.support[row],
            cost=cost,
            allowed=allowed & np.array(chosen),
            asked=allowed,
            novelty=float(forecast.novelty[row]),
            policy=worth.policy,
            floor=worth.floor,
            price=worth.price,
            aim=worth.aim,
            optimism=worth.optimism,
            switch=switch_cost(query, self._names, self._prices, self.settings),
            draw=chance_of(query.id) if query.floor is None and len(names) > 1 else None,
        )

    def _share(self) -> float:
        """Share of calls that may explore now: none before verdicts come that tell what of it."""
        told = self.explores and self.learned.judged is not None
        return self.settings.exploration if told else 0.0

    def _shifts(self) -> dict[str, float]:
        """What outcomes have made of history's prices, for the policies under control."""
        if not (self.controlled or self.spills):
            return {}
        return self.shared.read(shift_name(policy, self.settings) for policy in self.controlled)
