"""Audits: after a call is settled, other models are asked the same, and their answers compared.

A call only puts what it has into a bounded queue. A few threads ask the copies in spare slots, for
the audits' own money, compare them with the reference's answer and keep the verdicts alone.
Nothing reaches the agent, and no tool is executed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from aios_eccos.errors import EccosError, raised
from aios_eccos.floor.course import Turn
from aios_eccos.floor.earn import Earning
from aios_eccos.records import Record
from aios_eccos.serve.attempt import Refusals
from aios_eccos.serve.audit import Found, Sample, Settled, auditable, audited
from aios_eccos.serve.comparing import Comparing, Unjudged
from aios_eccos.serve.observers import Kept
from aios_eccos.serve.spare import SpareRequests
from aios_eccos.values import CallResult, Failure, Float32Array, Query
from aios_eccos.verdicts.audits import AuditMoney, copies_of, record_of
from aios_eccos.workload.periods import TOTAL, PeriodSums, period_sums
from aios_eccos.workload.store import Ledger

log = logging.getLogger("aios_eccos.serve.auditor")

#: Settled calls whose messages may wait to be audited.
QUEUE_MOST = 200
#: Calls that are audited at once.
THREADS = 4
#: Seconds without audits after the judge has failed: what it did not see must not count as equal.
REST_S = 30.0


class Auditor:
    """Audits settled calls, while the settings want that.

    Args:
        requests: asks models in spare slots.
        ledger: keeps the sums; earning: takes what is found.
        refusals: what models' servers have refused lately.
        teach: puts a record, and its text's embedding if there is one, into the history.
        turned: told when a policy's standing has changed by an audit.
        key: gives what is kept of an answer's normal form.
    """

    def __init__(
        self,
        requests: SpareRequests,
        ledger: Ledger,
        earning: Earning,
        refusals: Callable[[], Refusals],
        teach: Callable[[Record, Float32Array | None], None],
        turned: Callable[[str, Sequence[Turn]], None],
        key: Callable[[str | None], str | None],
    ) -> None:
        self._dropped = 0
        self._requests, self._comparing = requests, Comparing(requests)
        self._ledger, self._earning = ledger, earning
        self._refusals, self._teach, self._turned, self._key = refusals, teach, turned, key
        self._queue: deque[Settled] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        # Not the queue's, for which agents' calls wait.
        self._paying = threading.Lock()
        self._busy = 0
        self._promised = 0.0
        self._rest_until = 0.0
        #: Until when models that have failed a copy get no more, by `time.monotonic()`.
        self._resting: dict[str, float] = {}
        self._sample = Sample()

    @property
    def on(self) -> bool:
        """Whether audits are wanted, and can be paid in dollars."""
        router = self._requests.router()
        return router.settings.audit > 0 and router.prices.money

    def offer(self, result: CallResult) -> None:
        """Take a call that settles now, if it may be audited; takes microseconds."""
        _, policy = self._requests.router().settings.policy(result.query.agent)
        if result.decision is None or result.repeat is None or not (self.on and policy.audit):
            return
        gate = result.decision.gate
        if gate is None or not auditable(result, gate):
            return
        settled = Settled(result, result.decision.candidate, gate, result.repeat())
        with self._changed:
            if self._requests.stopped.is_set():
                return
            if len(self._queue) >= QUEUE_MOST:
                self._sample.missed(self._queue.popleft())
                self._dropped += 1
            self._queue.append(settled)
            self._changed.notify()
            if len(self._threads) < THREADS:
                name = f"eccos-audit-{len(self._threads)}"
                thread = threading.Thread(target=self._loop, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def settled(self, calls: Sequence[Kept]) -> None:
        """Count what calls have cost, of which audits get a share, and what was saved.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        if not self.on:
            return
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

    def wait_idle(self, timeout_s: float = 10.0) -> bool:
        """Wait until nothing waits to be audited and nothing is being audited; False on timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._queue or self._busy), timeout_s)

    def close(self) -> None:
        """Audit no more, at once: a copy that hangs is left to its thread."""
        self._requests.stop()
        with self._changed:
            self._queue.clear()
            self._changed.notify_all()

    # The audits' threads.

    def _loop(self) -> None:
        stopped = self._requests.stopped
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or stopped.is_set())
                if stopped.is_set():
                    return
                settled = self._queue.popleft()
                self._busy += 1
            try:
                self._audit(settled)
            except EccosError as error:
                log.debug("not audited: %s", error)
            except BaseException as error:  # noqa: BLE001 - the thread must outlive whatever is raised
                # The stores are closed under an audit that the engine's end leaves behind.
                level = logging.DEBUG if stopped.is_set() else logging.ERROR
                log.log(level, "an audit failed: %s", raised(error))
            finally:
                del settled  # the messages
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _money(self) -> AuditMoney:
        settings = self._requests.router().settings
        return AuditMoney(self._ledger, settings.audit, settings.audit_first_usd)

    def _audit(self, settled: Settled) -> None:
        """Ask the copies of one call, compare them, and keep what they tell."""
        gate = settled.gate
        if not self.on or time.monotonic() < self._rest_until:
            self._sample.missed(settled)
            return
        money, candidate = self._money(), settled.candidate
        with self._paying:  # so that audits at the same time do not spend the same money
            left = money.left() - self._promised
            standing = self._earning.standing(settled.policy, gate.asked, gate.allowed)
            copies = copies_of(candidate, gate.reference, gate.shadow, standing, left)
            closed = self._closed(settled.result.query)
            copies = {name: chance for name, chance in copies.items() if name not in closed}
            cost = dict(zip(candidate.models, candidate.cost.tolist(), strict=True))
            expected = sum(cost[name] for name in copies)
            self._promised += expected
        found = Found()
        try:
            for name in copies:
                self._copy(settled, name, cost[name], found)
            self._keep(settled, copies, found)
        except Unjudged as error:
            self._sample.judged(False)
            found.judge_usd += error.usd
            self._rest_until = time.monotonic() + REST_S
            found.counts["audit_unjudged"] += 1
            self._sample.missed(settled)
        finally:
            try:
                self._note(money, found)
            finally:
                with self._paying:
                    self._promised -= expected

    def _copy(self, settled: Settled, model: str, expected: float, found: Found) -> None:
        """Ask one model, and compare its answer with the reference's.

        Raises:
            Unjudged: the answers differ, and the judge cannot be asked.
        """
        repeat = settled.repeat
        candidate = settled.candidate
        paid = self._requests.make(model, expected, lambda left: repeat.ask(model, left), candidate)
        if paid is None:
            found.counts["audit_missed"] += 1
            return
        found.copies_usd += paid.usd
        found.counts["audit_copies"] += 1
        if paid.answer.failure is not None:
            found.counts["audit_failed"] += 1
            self._failed(model, settled.result.query, paid.answer.failure)
            return
        compared = self._comparing.compared(settled.result, repeat, paid.answer)
        found.judge_usd += compared.usd
        found.counts.update(compared.counts)
        if compared.judged:
            self._sample.judged(True)
            found.judged.add(model)
        elif compared.verdict == 0 and not self._sample.takes_equal():
            return
        found.relative[model] = compared.verdict
        found.outcomes[model] = paid.answer.output_tokens
        for name, form in zip((model, settled.gate.reference), compared.forms, strict=True):
            found.answers[name] = self._key(form)

    def _failed(self, model: str, query: Query, failure: Failure) -> None:
        """Let a model rest from audits alone, and note what its server refuses for all calls."""
        self._refusals().note(model, query, failure)
        if failure.refused is None:
            usual = self._requests.router().settings.cooldown_s
            self._resting[model] = time.monotonic() + (failure.retry_after_s or usual)

    def _closed(self, query: Query) -> set[str]:
        """Models that get no copy: they may not read it, would refuse it, or have just failed."""
        now, router = time.monotonic(), self._requests.router()
        query = router.settings.tightened(query)
        outside = {m.name for m in router.models if query.private and not m.local}
        resting = {model for model, until in self._resting.items() if until > now}
        return outside | resting.union(self._refusals().of(query))

    def _keep(self, settled: Settled, copies: dict[str, float], found: Found) -> None:
        """Hand what was found to the policy's course and to the history."""
        gate = settled.gate
        if gate.shadow == gate.reference:
            fair = self._sample.takes_zero(settled)
        elif gate.shadow is not None:
            fair = self._sample.seen(settled, gate.shadow in found.relative)
        else:
            fair = True
        shadow = gate.shadow if fair else None
        if shadow is None and not found.relative:
            return
        audit = audited(settled, copies, found, shadow)
        turns = self._earning.taken(audit)
        if turns:
            self._turned(settled.policy, turns)
        if found.relative:
            tokens = {gate.reference: settled.result.answer.output_tokens, **found.outcomes}
            record = record_of(audit, settled.result.query, tokens, found.answers)
            self._teach(record, settled.candidate.embedding)

    def _note(self, money: AuditMoney, found: Found) -> None:
        """Count the copies and what they have cost."""
        with self._changed:
            found.counts["audit_dropped"] += self._dropped
            self._dropped = 0
        if found.copies_usd or found.judge_usd or found.counts["audit_copies"]:
            money.note_audit(found.copies_usd, found.judge_usd)
        if found.counts.total():
            amounts = {name: float(amount) for name, amount in found.counts.items()}
            self._ledger.add_sums([PeriodSums(TOTAL, 0.0, amounts)])
