"""Slots, and what requests need beside them, lent to calls and taken back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from aios_eccos.serve.limits import Limits
from aios_eccos.values import Answer, Candidate, Lease, Model
from aios_eccos.workload.store import WorkloadStore

#: No model was asked.
NEVER_ASKED: Mapping[str, Answer] = {}


class Lending:
    """Lends what calls want of models.

    Args:
        models: the pool.
        workload: where it is lent.
        limits: what calls need beside slots.
    """

    def __init__(self, models: Sequence[Model], workload: WorkloadStore, limits: Limits) -> None:
        self._slots = {model.name: model.slot for model in models}
        self._names = {model.slot: model.name for model in models}
        self._most = {model.slot: model.limit for model in models}
        self._workload, self._limits = workload, limits

    def lend(self, chosen: Sequence[tuple[Candidate, int]]) -> list[tuple[Lease, ...]]:
        """What calls want that are to start on a column, in one request: each has all, or nothing.

        A column of -1 wants nothing.
        """
        wanted = [self._wanted(candidate, column) for candidate, column in chosen]
        flat = [lease for leases in wanted for lease in leases]
        if not flat:
            return wanted
        granted = self._workload.acquire(flat, self._most, self._limits.rates)
        held = {lease for lease, ok in zip(flat, granted, strict=True) if ok}
        lent = [leases if held.issuperset(leases) else () for leases in wanted]
        # Of a plan's slots, another kernel may have taken one in the meantime.
        self.give_back(held.difference(*lent))
        return lent

    def give_back(
        self,
        leases: Collection[Lease],
        candidate: Candidate | None = None,
        answers: Mapping[str, Answer] = NEVER_ASKED,
    ) -> None:
        """Settle what leases needed, then give their slots back.

        Args:
            answers: by model; a model that is not among them was never asked.
        """
        try:
            used = [
                (lease, self._limits.used(candidate, self._names[lease.slot], lease.need, answers))
                for lease in leases
                if lease.need is not None
            ]
            if used:
                self._workload.settle(used)
        finally:
            if leases:
                self._workload.release([*leases])

    def _wanted(self, candidate: Candidate, column: int) -> tuple[Lease, ...]:
        """A slot of the column's model, of a plan one of each member, with what the call needs."""
        if column < 0:
            return ()
        name, call = candidate.models[column], candidate.query.id
        plan = candidate.plan(name)
        models = (name,) if plan is None else plan.members
        needs = [(self._slots[each], self._limits.need(candidate, each)) for each in models]
        return tuple(Lease(call, slot, need) for slot, need in needs)
