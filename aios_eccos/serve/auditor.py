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
from functools import partial

from aios_eccos.errors import EccosError, WorkloadError, raised
from aios_eccos.floor.course import Turn
from aios_eccos.floor.earn import Audited, Earning
from aios_eccos.records import Record
from aios_eccos.serve.attempt import Refusals
from aios_eccos.serve.audit import Found, Sample, Settled, auditable, audited
from aios_eccos.serve.audit_money import Purse
from aios_eccos.serve.audit_queue import AuditQueue
from aios_eccos.serve.comparing import Comparing, Unjudged
from aios_eccos.serve.observers import Kept
from aios_eccos.serve.spare import SpareRequests
from aios_eccos.values import CallResult, Failure, Float32Array, Query, Repeat
from aios_eccos.verdicts.audits import copies_of, record_of
from aios_eccos.workload.store import Ledger

log = logging.getLogger("aios_eccos.serve.auditor")

#: Calls that are audited at once, as far as slots are spare.
THREADS = 16
#: Seconds without audits after the judge has failed: what it did not see must not count as equal.
#: Twice as many each time, as copies made in vain cost money, at most the last.
REST_S, REST_MOST_S = 30.0, 600.0
#: Seconds between two looks at whether the shared store is back, and findings kept until then.
LOOK_S, LATER_MOST = 1.0, 1000


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
        self._purse = Purse(ledger, requests.router, requests.stopped)
        self._earning = earning
        self._refusals, self._teach, self._turned, self._key = refusals, teach, turned, key
        self._queue = AuditQueue()
        #: Found while the shared store was away.
        self._later: deque[Audited] = deque(maxlen=LATER_MOST)
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._rest_until, self._rest_s = 0.0, REST_S
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
            if (given_up := self._queue.put(settled)) is not None:
                self._sample.missed(given_up)
                self._dropped += 1
            self._changed.notify()
            if len(self._threads) < THREADS:
                name = f"eccos-audit-{len(self._threads)}"
                thread = threading.Thread(target=self._loop, name=name, daemon=True)
                thread.start()  # which may fail: the process may have no more threads
                self._threads.append(thread)

    def settled(self, calls: Sequence[Kept]) -> None:
        """Count what calls have cost, of which audits get a share, and what was saved.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        if self.on:
            self._purse.note_calls(calls)

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
                pause_s = LOOK_S if self._later else None
                self._changed.wait_for(lambda: self._queue or stopped.is_set(), pause_s)
                while (pause_s := self._pause_s()) > 0 and not stopped.is_set():
                    self._changed.wait(pause_s)
                if stopped.is_set():
                    return
                settled = self._queue.take() if self._queue else None
                self._busy += 1
            try:
                self._hand_in()
                if settled is not None:
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

    def _pause_s(self) -> float:
        """Seconds for which nothing can be audited: calls wait for that, as far as they can."""
        if self._requests.away():  # neither what may be spent nor where policies stand is known
            return LOOK_S
        return self._rest_until - time.monotonic()

    def _audit(self, settled: Settled) -> None:
        """Ask the copies of one call, compare them, and keep what they tell."""
        if not self.on:
            self._sample.missed(settled)
            return
        repeat, found = settled.repeat, Found()
        if repeat is None:
            self._keep(settled, {}, found)
            return
        judged, cost = self._comparing.expected_usd(settled.result, repeat), settled.cost
        drawn = partial(self._drawn, settled)
        with self._purse.promised(drawn, lambda name: cost[name] + judged) as copies:
            if self._requests.away():  # then what is left was not read from it
                with self._changed:
                    self._queue.put_back(settled)
                return
            try:
                for name in copies:
                    self._copy(settled, repeat, name, found)
                self._keep(settled, copies, found)
            except Unjudged as error:
                self._unjudged(settled, error, found)
            finally:
                with self._changed:
                    dropped, self._dropped = self._dropped, 0
                self._purse.note(settled.result.query.id, copies, found, dropped)

    def _unjudged(self, settled: Settled, error: Unjudged, found: Found) -> None:
        """Leave a call out; audits rest while the judge fails, not while it is busy."""
        self._sample.judged(False)
        self._sample.missed(settled)
        found.judge_usd += error.usd
        found.counts["audit_unjudged"] += 1
        if not error.busy and time.monotonic() >= self._rest_until:
            self._rest_until = time.monotonic() + self._rest_s
            self._rest_s = min(2 * self._rest_s, REST_MOST_S)

    def _drawn(self, settled: Settled, left_usd: float) -> dict[str, float]:
        """The models that get a copy, each with its chance, for the money that is left."""
        gate = settled.gate
        standing = self._earning.standing(settled.policy, gate.asked, gate.allowed, gate.reference)
        copies = copies_of(settled.candidate, gate.reference, gate.shadow, standing, left_usd)
        closed = self._closed(settled.result.query)
        return {name: chance for name, chance in copies.items() if name not in closed}

    def _copy(self, settled: Settled, repeat: Repeat, model: str, found: Found) -> None:
        """Ask one model, and compare its answer with the reference's.

        Raises:
            Unjudged: the answers differ, and the judge cannot be asked.
        """
        expected, candidate = settled.cost[model], settled.candidate
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
            self._rest_s = REST_S
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
        self._later.append(audit)
        if found.relative:
            tokens = {gate.reference: settled.result.answer.output_tokens, **found.outcomes}
            record = record_of(audit, settled.result.query, tokens, found.answers)
            self._teach(record, settled.candidate.embedding)
        self._hand_in()

    def _hand_in(self) -> None:
        """Let policies' courses take what was found, unless the store that keeps them is away.

        Raises:
            WorkloadError: the ledger cannot be used; what was not taken is kept.
        """
        while not self._requests.away():
            try:
                audit = self._later.popleft()
            except IndexError:
                return
            try:
                turns = self._earning.taken(audit)
            except WorkloadError:
                self._later.appendleft(audit)
                raise
            if self._requests.away():  # lost on the way: nothing but this process took it
                self._later.appendleft(audit)
            elif turns:
                self._turned(audit.policy, turns)
