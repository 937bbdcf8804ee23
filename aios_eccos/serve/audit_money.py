"""The audits' money in one process: promised to copies under way, spent, and earned by calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from aios_eccos.serve.audit import Found, draws_of
from aios_eccos.serve.observers import Kept
from aios_eccos.serve.router import Router
from aios_eccos.verdicts.audits import AuditMoney
from aios_eccos.verdicts.draws import keep_draws
from aios_eccos.workload.periods import TOTAL, PeriodSums, period_sums
from aios_eccos.workload.store import Ledger

#: Seconds between two looks at what is left, while all of it is promised.
LOOK_S = 1.0


class Purse:
    """What audits may spend, so that audits at the same time do not spend the same money.

    Args:
        ledger: keeps the sums, of which what is left is told.
        router: gives the one in force, whose settings say how much that is.
        stopped: set when audits are to end.
    """

    def __init__(
        self, ledger: Ledger, router: Callable[[], Router], stopped: threading.Event
    ) -> None:
        self._ledger, self._router, self._stopped = ledger, router, stopped
        self._changed = threading.Condition()
        self._promised, self._promises = 0.0, 0

    @contextmanager
    def promised(
        self, drawn: Callable[[float], dict[str, float]], usd: Callable[[str], float]
    ) -> Iterator[dict[str, float]]:
        """What is drawn for the dollars left; its cost is promised until the block ends.

        Where others' promises take all that is left, waits for what they really spend.

        Args:
            drawn: gives copies for so many dollars; usd: what each may cost.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        with self._changed:
            while self._promises and 0 < self._money().left() <= self._promised:
                if self._stopped.is_set():
                    break
                self._changed.wait(LOOK_S)
            copies = drawn(self._money().left() - self._promised)
            expected = sum(map(usd, copies))
            self._promised += expected
            self._promises += 1
        try:
            yield copies
        finally:
            with self._changed:
                self._promises -= 1
                self._promised = self._promised - expected if self._promises else 0.0
                self._changed.notify_all()

    def note(self, call: str, copies: Mapping[str, float], found: Found, dropped: int) -> None:
        """Keep what an audit drew, found and cost, and count calls dropped since the last one.

        Args:
            copies: models with the chance of their draw.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        found.counts["audit_dropped"] += dropped
        if found.copies_usd or found.judge_usd or found.counts["audit_copies"]:
            self._money().note_audit(found.copies_usd, found.judge_usd)
        if found.counts.total():
            amounts = {name: float(amount) for name, amount in found.counts.items()}
            self._ledger.add_sums([PeriodSums(TOTAL, 0.0, amounts)])
        if copies:
            keep_draws(self._ledger, call, draws_of(copies, found))

    def note_calls(self, calls: Sequence[Kept]) -> None:
        """Count what calls have cost, of which audits get a share, and what was saved.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        spent = saved = 0.0
        for call in calls:
            decision, cost = call.result.decision, call.trace.cost_usd
            if decision is None or cost is None or not call.trace.money:
                continue
            spent += cost
            candidate, gate = decision.candidate, decision.gate
            if gate is not None and decision.model != gate.reference:
                saved += float(candidate.cost[candidate.models.index(gate.reference)]) - cost
        self._money().note_spent(spent)
        if saved:
            amounts = {"audit_saved": saved}
            hour = period_sums("h", time.time(), amounts)
            self._ledger.add_sums([hour, PeriodSums(TOTAL, 0.0, amounts)])

    def _money(self) -> AuditMoney:
        settings = self._router().settings
        return AuditMoney(self._ledger, settings.audit, settings.audit_first_usd)
