"""One audit: the call, what was found of it, and what the history and the policy learn of that."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from aios_eccos.floor.earn import Audited
from aios_eccos.values import CallResult, Candidate, Gate, Repeat
from aios_eccos.verdicts.draws import Draw

#: Weight of what a policy's sample knew, at each further call: about the last fifty count.
MEMORY = 0.98


class Settled(NamedTuple):
    """A settled call that waits to be audited: its row, its policy's gate, and how to ask again.

    `repeat` None: no copy is made of it, but it tells that the reference was chosen.
    """

    result: CallResult
    candidate: Candidate
    gate: Gate
    repeat: Repeat | None

    @property
    def policy(self) -> str:
        return self.candidate.worth.policy

    @property
    def cost(self) -> dict[str, float]:
        """Forecast dollars by model."""
        return dict(zip(self.candidate.models, self.candidate.cost.tolist(), strict=True))


@dataclass(slots=True)
class Found:
    """What an audit has found so far.

    Attributes:
        relative: model -> verdict against the reference. judged: models on which a judge spoke.
        outcomes: model -> its answer's length, for the history; answers: model -> its key.
        copies_usd, judge_usd: spent so far. counts: what is added to the sums.
    """

    relative: dict[str, int] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)
    outcomes: dict[str, int | None] = field(default_factory=dict)
    answers: dict[str, str | None] = field(default_factory=dict)
    copies_usd: float = 0.0
    judge_usd: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


class Sample:
    """Keeps the choices that an audit tells of fair.

    Where the price would choose the reference, the loss is known to be 0 without a copy. Were all
    of these taken, but only some of the others (no money, no slot, a failure), the mean loss would
    come out too low. So they are taken with the others' chance. In the same way equal answers, of
    which no judge is asked, are taken with the chance that the judge says something of others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, float]] = {}
        self._judge = 0.0, 0.0

    def seen(self, settled: Settled, copied: bool) -> bool:
        """Another choice than the reference was wanted, and was compared or was not."""
        with self._lock:
            wanted, had = self._known.get(settled.policy, (0.0, 0.0))
            self._known[settled.policy] = wanted * MEMORY + 1, had * MEMORY + copied
        return copied

    def missed(self, settled: Settled) -> None:
        """A call was left out before anything was asked."""
        if settled.gate.instead:
            self.seen(settled, False)

    def takes_zero(self, settled: Settled) -> bool:
        """Whether a call on which the reference was chosen may count."""
        with self._lock:
            wanted, had = self._known.get(settled.policy, (0.0, 0.0))
        return random.random() * wanted <= had

    def judged(self, answered: bool) -> None:
        """A judge was wanted, and has answered or has not."""
        with self._lock:
            wanted, had = self._judge
            self._judge = wanted * MEMORY + 1, had * MEMORY + answered

    def takes_equal(self) -> bool:
        """Whether answers that are equal, so that no judge was wanted, may count."""
        with self._lock:
            wanted, had = self._judge
        return random.random() * wanted <= had


def auditable(result: CallResult, gate: Gate) -> bool:
    """Whether the reference has answered, as the lot held it or the price chose it, at once."""
    decision = result.decision
    served = decision is not None and decision.model == gate.reference
    meant = gate.held or gate.shadow == gate.reference
    return served and meant and result.answer.failure is None and result.attempts == 1


def draws_of(copies: Mapping[str, float], found: Found) -> list[Draw]:
    """What was drawn, with what was found of it."""

    def source(model: str) -> Literal["agreement", "judge", "difference"] | None:
        if model not in found.relative:
            return None
        if model in found.judged:
            return "judge"
        return "agreement" if found.relative[model] == 0 else "difference"

    return [
        Draw(model, chance, found.relative.get(model), source(model))
        for model, chance in copies.items()
    ]


def audited(
    settled: Settled, chances: Mapping[str, float], found: Found, shadow: str | None
) -> Audited:
    """What the policy learns of an audit; `shadow` None: nothing of its choice."""
    gate = settled.gate
    return Audited(
        call=settled.result.query.id,
        policy=settled.policy,
        asked=gate.asked,
        allowed=gate.allowed,
        reference=gate.reference,
        shadow=shadow,
        relative=found.relative,
        chances={name: chances[name] for name in found.relative},
        judged=frozenset(found.judged),
        held=gate.held,
        error=gate.error,
        at=time.time(),
    )
