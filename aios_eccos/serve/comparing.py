"""How a copy's answer is against the reference's: by normal forms, else by the judge."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field, replace

from aios_eccos.errors import EccosError
from aios_eccos.serve.spare import SpareRequests
from aios_eccos.values import Answer, CallResult, Candidate, Failure, Query, Repeat
from aios_eccos.verdicts.judge import (
    MAX_INSTRUCTION,
    MAX_SHOWN,
    REPLY_TOKENS,
    Comparison,
    Consistency,
    comparison,
    repeated,
    shown,
)
from aios_eccos.verdicts.normal import normal_form
from aios_eccos.verdicts.relative import Grade, compare
from aios_eccos.workload.periods import TOTAL
from aios_eccos.workload.store import Ledger

#: Share of judged answers that are judged once more, in the other order; and repeats of a judge
#: before which all are, as one that goes by the order would praise a bad model half the time.
REPEATS, FIRST_REPEATS = 0.1, 20
#: Characters of a prompt that make a token, about.
TOKEN_CHARS = 4


#: Failures of a judge that has answered, but said nothing.
NO_REPLY = ("empty answer", "truncated")
#: HTTP status of a server that is busy.
TOO_MANY = 429
#: Characters of the judge's own words.
WORDS_CHARS = 900
#: Seconds for which a busy judge is waited for, and between two requests if it does not say.
BUSY_S, AGAIN_S = 60.0, 2.0


class Unjudged(EccosError):
    """The judge was busy all the time, or has failed; `usd` is what that has cost."""

    def __init__(self, judge: str, usd: float, *, busy: bool) -> None:
        super().__init__(f"the judge {judge} cannot be asked")
        self.usd, self.busy = usd, busy


@dataclass(frozen=True, slots=True)
class Compared:
    """A copy's verdict.

    Attributes:
        verdict: 1 = better than the reference, 0 = as good, -1 = worse.
        judged: whether a judge said so; else equal forms, or differing ones without a judge.
        usd: dollars that the judge has cost. counts: what is added to the sums.
        forms: the normal forms of the copy's answer and of the reference's.
    """

    verdict: Grade
    judged: bool = False
    usd: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    forms: tuple[str | None, str | None] = (None, None)


class Comparing:
    """Compares answers; keeps nothing of them.

    Args:
        requests: asks the judge that the settings in force name.
    """

    def __init__(self, requests: SpareRequests) -> None:
        self._requests = requests
        #: The most tokens that a reply has had; a judge that thinks says more than a word.
        self._longest: int | None = None
        #: `time.monotonic()` until which the judge has asked to be left alone.
        self._again = 0.0
        self._lock = threading.Lock()
        #: What a judge's repeats tell of it, by its name.
        self._seen: dict[str, Consistency] = {}

    def expected_usd(self, result: CallResult, repeat: Repeat) -> float:
        """Dollars that the judge may cost for one copy of a call."""
        judge = self._judge_of(result.query)
        if judge is None:
            return 0.0
        answers = 2 * min(len(shown(*repeat.said(result.answer.value))), MAX_SHOWN)
        asked = WORDS_CHARS + answers + min(len(repeat.instruction()), MAX_INSTRUCTION)
        reply = REPLY_TOKENS if self._longest is None else self._longest
        usd = self._requests.router().prices.paid(judge, asked / TOKEN_CHARS, reply)
        return usd * (2 if self._repeats(judge, result.query.id) else 1)

    def compared(self, result: CallResult, repeat: Repeat, copy: Answer) -> Compared:
        """The verdict on a copy's answer against that of the settled call.

        Raises:
            Unjudged: they differ, and the judge named cannot be asked.
        """
        mine, theirs = repeat.said(copy.value), repeat.said(result.answer.value)
        forms = normal_form(*mine), normal_form(*theirs)
        if compare(*forms) == 0:
            return Compared(0, counts={"audit_agreed": 1}, forms=forms)
        judge = self._judge_of(result.query)
        if judge is None:
            # Were it left out, agreement would be the only evidence.
            return Compared(-1, counts={"audit_differed": 1}, forms=forms)
        call, asked = result.query.id, repeat.instruction()
        texts = call, asked, shown(*mine), shown(*theirs)
        candidate = None if result.decision is None else result.decision.candidate
        verdict, usd = self._judged(judge, repeat, texts, candidate, swapped=False)
        counts = {"audit_judged": 1, "audit_ungraded": int(verdict is None)}
        if verdict is not None and self._repeats(judge, call):
            again, more = self._judged(judge, repeat, texts, candidate, swapped=True)
            usd += more
            if again is not None:
                counts |= {"audit_repeats": 1, "audit_same": int(again == verdict)}
            if self._by_order(judge, verdict, again) and again != verdict:
                verdict = None
        # A reply that is no grade may be an answer's doing: that must not pay. Nor must an order.
        return Compared(-1 if verdict is None else verdict, True, usd, counts, forms)

    def _repeats(self, judge: str, call: str) -> bool:
        """Whether a call's answers are judged in both orders."""
        with self._lock:
            seen = self._seen.get(judge, Consistency())
        return seen.by_order or seen.repeats < FIRST_REPEATS or repeated(call, REPEATS)

    def _by_order(self, judge: str, verdict: Grade, again: Grade | None) -> bool:
        """Whether the judge goes by the order, with one more repeat."""
        with self._lock:
            seen = self._seen.get(judge, Consistency()).seen(verdict, again)
            self._seen[judge] = seen
        return seen.by_order

    def _judge_of(self, query: Query) -> str | None:
        """The judge, if the call may reach it: none reads what its agent lets others read only."""
        router = self._requests.router()
        query, judge = router.settings.tightened(query), router.settings.judge
        own = router.settings.policy(query.agent)[1].models
        may = own if query.allowed is None else query.allowed
        if may is not None and judge not in may:
            return None
        local = any(model.local for model in router.models if model.name == judge)
        return judge if local or not query.private else None

    def _judged(
        self,
        judge: str,
        repeat: Repeat,
        texts: tuple[str, str, str, str],
        candidate: Candidate | None,
        *,
        swapped: bool,
    ) -> tuple[Grade | None, float]:
        """The judge's verdict, None where its reply is no grade; and its cost."""
        question = comparison(*texts, swapped=swapped)
        answer, usd = self._reply(judge, repeat, question, candidate)
        if answer.failure is not None:
            return None, usd
        text, _ = repeat.said(answer.value)
        return question.verdict(text or ""), usd

    def _reply(
        self, judge: str, repeat: Repeat, question: Comparison, candidate: Candidate | None
    ) -> tuple[Answer, float]:
        """The judge's answer, or none that it owes to what it read, and what it has cost.

        One that is busy is waited for.

        Raises:
            Unjudged: it was busy for `BUSY_S`, or has failed.
        """
        prompt = sum(len(message["content"]) for message in question.messages) / TOKEN_CHARS
        expected = self._requests.router().prices.paid(judge, prompt, 1)
        if candidate is not None:
            query = replace(candidate.query, input_tokens=math.ceil(prompt))
            candidate = replace(candidate, query=query)
        usd, end = 0.0, time.monotonic() + BUSY_S
        while (left_s := end - time.monotonic()) > 0:
            if self._requests.stopped.wait(min(max(self._again - time.monotonic(), 0.0), left_s)):
                break
            paid = self._requests.make(
                judge,
                expected,
                lambda left: repeat.plain(judge, question.messages, left),
                candidate,
                left_s,
            )
            if paid is None:
                break
            usd += paid.usd
            failure = paid.answer.failure
            if failure is None or _no_grade(failure):
                self._longest = max(self._longest or 1, paid.answer.output_tokens or 1)
                return paid.answer, usd
            if failure.status_code != TOO_MANY:
                raise Unjudged(judge, usd, busy=False)
            self._again = time.monotonic() + (failure.retry_after_s or AGAIN_S)
        raise Unjudged(judge, usd, busy=True)


def _no_grade(failure: Failure) -> bool:
    """Whether what a judge read may have kept it from a grade; that must not let a call off."""
    return failure.refused in ("filter", "context") or failure.reason in NO_REPLY


def judge_error(ledger: Ledger) -> float:
    """The judge's error rate, by its repeats so far.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    (sums,) = ledger.sums([TOTAL])
    repeats, same = sums.get("audit_repeats", 0.0), sums.get("audit_same", 0.0)
    return Consistency(round(repeats), round(same)).error
