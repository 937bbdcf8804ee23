"""The whole decision: forecast, price, choose, lend.

    queries -> embeddings -> Forecast -> Candidates -> Round -> leases -> Assignment

This module alone joins the stages. It is free of AIOS, and of threads.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide.assign import assigned, slots_of
from aios_eccos.decide.rule import preferred, rule_of
from aios_eccos.decide.slot_prices import SlotPrices
from aios_eccos.decide.words import FALLBACK, FALLBACK_REASON
from aios_eccos.errors import EccosError
from aios_eccos.floor.explore import chance_of, explore_batch
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.gate import gate_of, limited, seen_by
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.forecast.pricing import cached_tokens, price_table
from aios_eccos.serve.columns import Table, alike
from aios_eccos.serve.decisions import Round
from aios_eccos.serve.lending import NEVER_ASKED, Lending
from aios_eccos.serve.limits import Lengths, Limits
from aios_eccos.values import (
    Answer,
    Assignment,
    Bar,
    BoolArray,
    Candidate,
    Decision,
    Float32Array,
    Forecast,
    Gate,
    Lease,
    Model,
    Query,
    Slots,
)
from aios_eccos.workload.store import WorkloadStore

log = logging.getLogger("aios_eccos.serve.router")


class Router:
    """Decides for all waiting queries together.

    Args:
        models: the pool, prices filled in as far as they are known.
        settings: floors, policies. workload: lends slots.
        others: requests of others on a model's server, by model, where that is known.
        loading: for models not loaded, output tokens that they could write in the time it takes.

    Attributes:
        prices: the pool's price table.
        learned: may be replaced at any time, from any thread.
        floors: what a success is worth.
        slot_prices: what a slot is worth, shared by all kernels.
        limits: what calls need beside slots.
        failures: decisions that had to do without forecasts or without a decision.
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        workload: WorkloadStore,
        learned: Learned | None = None,
        floors: Floors | None = None,
        lengths: Lengths | None = None,
        others: Callable[[], Mapping[str, int]] = dict,
        loading: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.models = tuple(models)
        self.settings = settings
        self.prices = price_table(models)
        self.learned = learned or Learned(PriorPredictor())
        self.floors = floors or Floors(settings, workload, workload)
        self.failures = 0
        self.slot_prices = SlotPrices(models, workload)
        self._names = self.prices.models
        self._by_name = {model.name: model for model in models}
        self._limits = {model.slot: model.limit for model in models}
        self._workload, self._others, self._loading = workload, others, loading
        self.limits = Limits(models, settings, self.prices, lengths or Lengths())
        self._lending = Lending(models, workload, self.limits)

    @property
    def spills(self) -> bool:
        """Whether a call takes another model when its best is at its limit."""
        return self.settings.over_capacity == "spill"

    def route(self, queries: Sequence[Query]) -> Assignment:
        """The paper's whole step (ECCOS, section 3); the leases are the caller's to release."""
        return self.assign(self.forecast(queries), self.slots(len(queries)))

    def forecast(self, queries: Sequence[Query]) -> list[Candidate]:
        """What every model would do on each query, what it costs, and what success is worth."""
        begun = time.perf_counter()
        knows = self.learned  # what is learned meanwhile has forecasts of another kind
        queries = [self.settings.tightened(query) for query in queries]
        allowed = np.array([self._allowed(query) for query in queries])
        forecast, embeddings = self._forecast(queries, allowed, knows)
        tokens = np.array([query.input_tokens for query in queries], dtype=float)
        keeps = self.settings.session_affinity and self.floors.mode.keeps_sessions
        cached = cached_tokens(queries, self.models) * keeps
        loading = self.prices.loading(self._loading())
        cost = self.prices.cost(tokens, forecast.output_tokens, cached) + loading
        reread = self.prices.spared(cached.max(axis=1, initial=0)[:, None] - cached) + loading
        table, stored = Table.of(forecast, cost, reread, allowed), self.slot_prices.read()
        if knows.plans is not None and knows.plans.plans:
            table = table.with_plans(knows.plans.forecast(queries, forecast, embeddings))
        candidates = [
            self._candidate(query, row, table, stored, knows) for row, query in enumerate(queries)
        ]
        share_s = (time.perf_counter() - begun) / max(len(queries), 1)
        # Copies: a view would keep the whole batch's embeddings for as long as its slowest call.
        vectors = [None] * len(queries) if embeddings is None else [v.copy() for v in embeddings]
        return [
            replace(candidate, forecast_s=share_s, embedding=vector)
            for candidate, vector in zip(candidates, vectors, strict=True)
        ]

    def slots(self, calls: int | None = None) -> Slots:
        """What is free now, over all kernels; if it is enough for so many calls, as of late."""
        asked, caps, others = (self._limits, self.limits.rates), self.limits.caps(), self._others()
        known = None if calls is None or others else self._workload.recall(asked, calls)
        loads = known or self._workload.loads(*asked)
        spent = dict(zip((cap.key for cap in caps), self._workload.spent(caps), strict=True))
        self.limits.hold({model.name: loads[model.slot].rates for model in self.models})
        return replace(slots_of(self.models, loads, spent, others), recalled=bool(known))

    def bars(self, candidate: Candidate, slots: Slots) -> Mapping[str, Bar]:
        """What limits beside slots keep a call from models that may serve it, by name."""
        return self.limits.bars(candidate, slots)

    def decide(self, candidates: Sequence[Candidate], slots: Slots) -> Round:
        """Choose a model for each candidate; nothing is lent, and nothing is remembered."""
        begun, candidates = time.perf_counter(), alike(candidates)
        free = self.limits.free(candidates, slots)
        share = self.floors.exploration if self.learned.judged is not None else 0.0
        trials = explore_batch(candidates, free, share, self.learned.judged or {})
        gates = [self._gate(candidate, slots) for candidate in candidates]
        opened = [
            limited(trial.limited(candidate), gate)
            for candidate, trial, gate in zip(candidates, trials, gates, strict=True)
        ]
        # A budget is kept by its price: a batch has no floor that would spend just as much. Nor has
        # it a floor where only a share of it may be routed, or none can be kept.
        priced = any(c.worth.budget is not None or c.gate or c.worth.levels for c in candidates)
        whole = self.floors.mode.whole_batches and not priced
        found = assigned(opened, free, self.settings, self.slot_prices, whole_batches=whole)
        rule = rule_of(candidates)
        share_s = (time.perf_counter() - begun) / max(len(candidates), 1)
        return Round(tuple(candidates), tuple(trials), tuple(gates), found, rule, free, share_s)

    def assign(self, candidates: Sequence[Candidate], slots: Slots) -> Assignment:
        """Choose a model for each candidate and lend the slots, the whole batch in one request.

        Earlier candidates go first where slots are short. A decision without a model means: wait.
        """
        made = self.decide(candidates, slots)
        chosen = zip(made.candidates, made.found.solution.choice.tolist(), strict=True)
        lent = self._lending.lend([*chosen])
        try:
            if made.found.lost is not None:
                self.slot_prices.note_losses(made.found.lost, made.found.usual)
            decisions = tuple(made.decision(row, leases) for row, leases in enumerate(lent))
            return Assignment(decisions, made.found.solution.status.value)
        except BaseException:
            self._lending.give_back([lease for leases in lent for lease in leases])
            raise

    def preferred(self, candidate: Candidate) -> str | None:
        """The model that would be chosen if every slot were free; None if none may serve."""
        return candidate.models[preferred(candidate)] if candidate.allowed.any() else None

    def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision:
        """AIOS's own choice (the first allowed model), for when deciding itself has failed.

        Those that the call has failed on come last. The next one where that has no slot, if calls
        may spill. Without a model where none is allowed, or none has a slot: then it waits.
        """
        self.failures += 1
        query = self.settings.tightened(query)
        order = [n for n in query.allowed or () if n in self._by_name] or [*self._names]
        allowed = self._allowed(query)
        able = [name for name in order if allowed[self._names.index(name)]]
        able.sort(key=lambda name: name in failed_on)
        stay = query.session.stay if query.session is not None else None
        if stay in able and stay not in failed_on:
            able = [stay]
        nothing = np.zeros(len(self.models))
        forecast = PriorPredictor().forecast([query], None, self.models)
        table = Table.of(forecast, nothing[None], nothing[None], allowed[None])
        candidate = self._candidate(query, 0, table, {}, self.learned)
        chosen, leases = self._first(candidate, able if self.spills else able[:1])
        return Decision(
            candidate=candidate,
            model=chosen,
            leases=leases,
            free=nothing.astype(np.int64),
            slot_prices=nothing,
            status=FALLBACK,
            reason=FALLBACK_REASON,
            batch=1,
            decision_s=0.0,
            at=time.time(),
        )

    def _first(
        self, candidate: Candidate, names: Sequence[str]
    ) -> tuple[str | None, tuple[Lease, ...]]:
        """The first of some models that has a slot, and that; None if none has."""
        for name in names:
            (leases,) = self._lending.lend([(candidate, self._names.index(name))])
            if leases:
                return name, leases
        return None, ()

    def release(self, decision: Decision, answers: Mapping[str, Answer] = NEVER_ASKED) -> None:
        """Give the decision's slots back; harmless when it has none or they are given back.

        Args:
            answers: by model; a model that is not among them was never asked.
        """
        try:
            self.limits.learn(decision.candidate, answers)
        finally:
            self._lending.give_back(decision.leases, decision.candidate, answers)

    def rest(self, model: str, seconds: float | None) -> None:
        """Let a model cool down after an error of its server, in every kernel."""
        pause = self.settings.cooldown_s if seconds is None else seconds
        if pause > 0:
            closed = seconds is not None  # its server has asked for that
            self._workload.cool_down(self._by_name[model].slot, pause, closed=closed)

    def on_release(self, callback: Callable[[], None]) -> None:
        """Call back (from any thread) whenever a slot may have come free, in any kernel."""
        self._workload.on_release(callback)

    def _gate(self, candidate: Candidate, slots: Slots) -> Gate | None:
        """The call's gate; none while the reference is at its limit, and calls go elsewhere then.

        Else audits would make calls wait that went to the best model left before.
        """
        gate = gate_of(candidate)
        full = gate is not None and slots.free[gate.reference] <= 0
        return None if full and self.spills else gate

    def _forecast(
        self, queries: Sequence[Query], allowed: BoolArray, knows: Learned
    ) -> tuple[Forecast, Float32Array | None]:
        """The predictor's forecast; priors where it fails, or where there is nothing to choose.

        With the embeddings that it took, if any.
        """
        if int(allowed.sum(axis=1).max(initial=0)) > 1:
            try:
                embeddings, layers = knows.embed([query.text for query in queries])
                found = knows.predictor.forecast(queries, embeddings, self.models, layers)
                return found, embeddings
            except EccosError as error:
                self.failures += 1
                log.warning("forecasting on priors: %s", error)
        return PriorPredictor().forecast(queries, None, self.models), None

    def _allowed(self, query: Query) -> BoolArray:
        """(m,) models that may serve: those the caller names, else those of its agent's policy."""
        own = self.settings.policy(query.agent)[1].models if query.allowed is None else None
        return np.array([query.may_use(m) and (own is None or m.name in own) for m in self.models])

    def _candidate(
        self, query: Query, row: int, table: Table, stored: Mapping[str, float], knows: Learned
    ) -> Candidate:
        m, names, allowed = len(self.models), table.forecast.models, table.allowed[row]
        pool = [model for model, ok in zip(self.models, allowed[:m], strict=True) if ok]
        success, support = table.forecast.success[row], table.forecast.support[row]
        gate = self.floors.gate(query, pool, knows)
        # Audits ask models, so a policy that has to earn its routing earns that of models alone.
        may = allowed & ((gate is None) | (np.arange(len(names)) < m))
        most = float(support[:m][allowed[:m]].max(initial=0.0))
        open_to = [name for name, ok in zip(names, may, strict=True) if ok]
        worth = self.floors.price(query, open_to, most, knows, stored, gate)
        may &= [worth.models is None or name in worth.models for name in names]
        may[m:] &= math.isfinite(worth.value) and not query.in_tool_loop
        success = seen_by(worth, knows.losses, self._names, names, success, support)
        explores = gate is None and query.floor is None and len(pool) > 1
        found = table.candidate(row, query, success, may, worth)
        return replace(found, lot=chance_of(query.id) if explores else None, gate=gate)
