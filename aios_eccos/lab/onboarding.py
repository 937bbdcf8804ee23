"""What a first day without labels costs: recorded answers through router, floors and audits.

Verdicts come from equal answers and from a judge that errs as often as it is told to; copies and
judge are paid. Nothing of the rule, the price or the earning is written here a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aios_eccos.config import Floor, Settings
from aios_eccos.floor.earn import Audited, Earning
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.learn import AuditFacts, learn_from
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.lab.answers import Answers
from aios_eccos.serve.router import Router
from aios_eccos.values import (
    BoolArray,
    Decision,
    Float32Array,
    FloatArray,
    Gate,
    IntArray,
    Query,
)
from aios_eccos.verdicts.audits import AuditMoney, copies_of, record_of
from aios_eccos.workload.memory import MemoryWorkload

#: Share of new audits from which on they are learned from. A kernel learns once a minute, too.
GROWN = 0.05
#: Tokens of the judge's own prompt, and of its answer.
JUDGE_PROMPT, JUDGE_SAYS = 80, 3
#: Share of the later calls on which the model that is made worse fails though it had not.
WORSE_BY = 0.30
#: `--worse` for the cheap model that has served most.
MOST_USED = "auto"


@dataclass(frozen=True)
class Terms:
    """What is simulated.

    Attributes:
        settings: the floor, and what audits may cost.
        judge: column of the judge; judge_error: chance of either wrong verdict.
        worse: name of a model that becomes worse at half time, `auto`; "" = none.
    """

    settings: Settings
    judge: int
    judge_error: float
    worse: str = ""


@dataclass(frozen=True)
class Stream:
    """One order of arrival: (n,) each, by place in it.

    Attributes:
        cost, audit, judge, strongest_cost: dollars of answers, copies, the judge, and of the
            strongest model's answer.
        success, strongest_success: 0..1. routed: whether another model than the strongest served.
        turns: what was earned and lost, and at which call.
    """

    cost: FloatArray
    audit: FloatArray
    judge: FloatArray
    strongest_cost: FloatArray
    success: FloatArray
    strongest_success: FloatArray
    routed: BoolArray
    turns: tuple[tuple[int, str], ...] = ()

    @property
    def spent(self) -> FloatArray:
        """Dollars of everything."""
        return self.cost + self.audit + self.judge


class _ById:
    """Embeddings of recorded questions, whose text is their row number."""

    def __init__(self, embeddings: Float32Array) -> None:
        self._embeddings = embeddings

    def try_embed(self, texts: Sequence[str]) -> Float32Array | None:
        return self._embeddings[[int(text) for text in texts]]

    def try_embed_with_layers(
        self, texts: Sequence[str]
    ) -> tuple[Float32Array, Float32Array] | None:
        return None


@dataclass
class Onboarding:
    """A router and its audits from an empty history on; calls arrive one by one."""

    answers: Answers
    terms: Terms
    rng: np.random.Generator
    failed: BoolArray = field(init=False)
    turns: list[tuple[int, str]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        data, terms = self.answers, self.terms
        strength = round(float(data.success[:, data.strongest].mean()), 2)
        self.models = [
            replace(m, strength=strength) if j == data.strongest else m
            for j, m in enumerate(data.models)
        ]
        self._columns = {model.name: j for j, model in enumerate(self.models)}
        self.failed = np.zeros(data.success.shape, dtype=bool)
        self._now = 0.0
        workload = MemoryWorkload()
        floors = Floors(terms.settings, workload, workload)
        self.earning = floors.earning = Earning(workload, clock=lambda: self._now)
        self._money = AuditMoney(workload, terms.settings.audit, terms.settings.audit_first_usd)
        self._history = MemoryHistory(data.embeddings.shape[1])
        self._embedder = _ById(data.embeddings)
        first = Learned(PriorPredictor(), self._embedder)
        self._router = Router(self.models, terms.settings, workload, first, floors)
        self._learned = 0

    def run(self, order: IntArray) -> Stream:
        """Serve rows in this order."""
        data, n = self.answers, len(order)
        served, paid = np.empty(n, dtype=np.int64), np.zeros((n, 2))
        success = np.empty(n)
        for place, row in enumerate(order.tolist()):
            if place == n // 2 and self.terms.worse:
                self._worsen(order[place:], served[:place])
            self._now = float(place)
            decision = self._serve(row)
            column = served[place] = self._columns[decision.model or ""]
            success[place] = self._success(row, column)
            self._money.note_spent(float(data.spent[row, column]))
            gate = decision.gate
            if gate is not None and decision.model == gate.reference:
                paid[place] = self._audit(row, decision, gate)
        strongest = data.strongest
        return Stream(
            cost=data.spent[order, served],
            audit=paid[:, 0],
            judge=paid[:, 1],
            strongest_cost=data.spent[order, strongest],
            success=success,
            strongest_success=data.success[order, strongest],
            routed=served != strongest,
            turns=tuple(self.turns),
        )

    def _serve(self, row: int) -> Decision:
        query = Query(str(row), id=str(row), input_tokens=int(self.answers.asked[row]))
        router = self._router
        (decision,) = router.assign(router.forecast([query]), router.slots()).decisions
        router.release(decision)
        return decision

    def _audit(self, row: int, decision: Decision, gate: Gate) -> tuple[float, float]:
        """Ask copies of a call, judge them, learn; dollars of copies and judge."""
        candidate, policy = decision.candidate, decision.candidate.worth.policy
        standing = self.earning.standing(policy, gate.asked, gate.allowed)
        left = self._money.left()
        copies = copies_of(candidate, gate.reference, gate.shadow, standing, left)
        relative = {name: self._verdict(row, self._columns[name]) for name in copies}
        audited = Audited(
            call=candidate.query.id,
            policy=policy,
            asked=gate.asked,
            allowed=gate.allowed,
            reference=gate.reference,
            shadow=gate.shadow,
            relative={name: verdict for name, (verdict, _) in relative.items()},
            chances=copies,
            judged=frozenset(name for name, (_, usd) in relative.items() if usd),
            held=gate.held,
            error=self.terms.judge_error,
            at=self._now,
        )
        usd = sum(float(self.answers.spent[row, self._columns[name]]) for name in copies)
        judge_usd = sum(usd for _, usd in relative.values())
        if copies:
            self._money.note_audit(usd, judge_usd)
            tokens = {n: int(self.answers.tokens[row, j]) for n, j in self._columns.items()}
            keys = {name: self.answers.keys[row, j] for name, j in self._columns.items()}
            record = record_of(audited, candidate.query, tokens, keys)
            self._history.add([record], self.answers.embeddings[row][None])
        turns = self.earning.taken(audited)
        self.turns += [(int(self._now), f"{t.kind} {t.model or t.share}") for t in turns]
        count = self._history.count()
        changed = any(turn.kind == "changed" for turn in turns)
        if changed or count - self._learned > GROWN * self._learned:
            self._learn(policy, count)
        return usd, judge_usd

    def _learn(self, policy: str, count: int) -> None:
        facts = AuditFacts(self.earning.forgotten([policy]), self.terms.judge_error)
        learned = learn_from(self._history, None, self.terms.settings, self.models, audits=facts)
        self._router.learned = replace(learned, embedder=self._embedder)
        self._learned = count

    def _success(self, row: int, column: int) -> float:
        return 0.0 if self.failed[row, column] else float(self.answers.success[row, column])

    def _verdict(self, row: int, column: int) -> tuple[int, float]:
        """A model's answer against the strongest's: 1, 0 or -1, and what the judge cost."""
        data, strongest = self.answers, self.answers.strongest
        keys = data.keys[row]
        same = keys[column] is not None and keys[column] == keys[strongest]
        if same and not self.failed[row, column]:
            return 0, 0.0
        verdict = int(np.sign(self._success(row, column) - data.success[row, strongest]))
        if self.rng.random() < self.terms.judge_error:
            verdict = int(self.rng.choice([v for v in (-1, 0, 1) if v != verdict]))
        judge = self.terms.judge
        read = data.asked[row] + data.tokens[row, [column, strongest]].sum() + JUDGE_PROMPT
        usd = read * data.prices.input[judge] + JUDGE_SAYS * data.prices.output[judge]
        return verdict, float(usd)

    def _worsen(self, later: IntArray, served: IntArray) -> None:
        """Make a model fail on a share of the later rows that it had answered well."""
        used = np.bincount(served, minlength=len(self.models))
        used[self.answers.strongest] = 0
        name = self.terms.worse
        column = int(used.argmax()) if name == MOST_USED else self._columns[name]
        right = later[self.answers.success[later, column] == 1]
        hit = self.rng.choice(right, min(round(WORSE_BY * len(later)), len(right)), replace=False)
        self.failed[hit, column] = True
        self.turns.append((len(served), f"worse {self.models[column].name}"))


def stream(answers: Answers, terms: Terms, seed: int, number: int) -> Stream:
    """One order of arrival, drawn from seed and number."""
    rng = np.random.default_rng([seed, number])
    order = rng.permutation(len(answers.success)).astype(np.int64)
    return Onboarding(answers, terms, rng).run(order)


def facts_at(found: Stream, at: int) -> Mapping[str, float]:
    """The sums, and means of success, of the first `at` calls."""
    first = slice(at)
    return {
        "cost_usd": float(found.spent[first].sum()),
        "audit_usd": float(found.audit[first].sum()),
        "judge_usd": float(found.judge[first].sum()),
        "strongest_cost_usd": float(found.strongest_cost[first].sum()),
        "success": float(found.success[first].mean()),
        "strongest_success": float(found.strongest_success[first].mean()),
        "served_share": float(found.routed[first].mean()),
    }


def summary_of(found: Stream, floor: Floor) -> dict[str, float]:
    """What one order comes to under a relative floor."""
    n = len(found.cost)
    last = slice(2 * n // 3, n)
    gap = np.cumsum(found.success - found.strongest_success) / np.arange(1, n + 1)
    saved = np.cumsum(found.strongest_cost - found.spent)
    unpaid = np.flatnonzero(saved < 0)
    later = slice(min(n // 2 + (300 if n > 1000 else 150), n - 1), n)
    asked = floor.of(float(found.strongest_success[later].mean()))
    return {
        "cost_ratio": float(found.spent.sum() / found.strongest_cost.sum()),
        "last_third_cost_ratio": float(found.spent[last].sum() / found.strongest_cost[last].sum()),
        "success_gap": float(gap[-1]),
        "worst_gap_after_300": float(gap[min(300, n - 1) :].min()),
        "paid_back_after": float(unpaid[-1] + 2 if len(unpaid) else 1),
        "audit_usd": float(found.audit.sum()),
        "judge_usd": float(found.judge.sum()),
        "later_shortfall": float(asked - found.success[later].mean()),
    }
