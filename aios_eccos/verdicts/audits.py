"""Audits: copies of calls that teach without labels, and the money that they may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aios_eccos.floor.earn import Audited, Standing, lot_of
from aios_eccos.floor.watch import Watch
from aios_eccos.records import AUDIT
from aios_eccos.values import Candidate, Outcome, Query, Record
from aios_eccos.verdicts.relative import imputed
from aios_eccos.workload.periods import TOTAL, PeriodSums
from aios_eccos.workload.store import Ledger

#: Models that cost more than this share of the reference's cost are not audited: they save little.
CHEAP = 0.35
#: Audits of each cheap model before the most promising are chosen, and how many of these.
FIRST_AUDITS, PROMISING = 15, 3
#: A first guess of a model's loss, the audits that it counts for, and a spread of losses.
GUESS_LOSS, GUESS_AUDITS, GUESS_SPREAD = 0.4, 2, 0.2
#: Money kept for copies of the choice, which come first, in costs of the reference's call.
RESERVE = 1.2
#: Share of served calls on which the reference is chosen that teach about the promising all the
#: same: as many as are held, so that what is learned from is a fair sample of the calls. And the
#: share of audited calls that one of the other models is asked on.
EXPLORE, OTHER = 0.1, 0.05


def record_of(
    audit: Audited,
    query: Query,
    tokens: Mapping[str, int | None],
    answers: Mapping[str, str | None],
) -> Record:
    """What the history learns of an audit: the verdicts as correctness, see `imputed`.

    Args:
        tokens: output tokens by model, the reference's among them; None = unknown.
        answers: keys of their final answers by model, likewise.
    """
    outcomes = tuple(
        Outcome(model, correctness, tokens.get(model), answer=answers.get(model))
        for model, correctness in imputed(audit.relative, audit.reference).items()
    )
    return Record(
        f"{AUDIT}{audit.call}",
        query.text,
        query.input_tokens,
        outcomes,
        task=audit.reference,
        source="audit",
        agent=query.agent,
        created=audit.at,
    )


class AuditMoney:
    """What audits may spend: a first allowance, and a share of the money spent on calls.

    It is kept in the ledger's sums, so that all kernels share it. A call's copies are made if any
    money is left, so it is never exceeded by more than one call's.

    Args:
        share: of the money spent on calls, 0..1. first_usd: the first allowance, dollars.
    """

    def __init__(self, ledger: Ledger, share: float, first_usd: float) -> None:
        self._ledger = ledger
        self.share, self.first_usd = share, first_usd

    def note_spent(self, usd: float) -> None:
        """Count the cost of a served call."""
        self._add(audited_spend=usd)

    def note_audit(self, usd: float, judge_usd: float = 0.0) -> None:
        """Count the cost of copies, and of the judge."""
        self._add(audits=1.0, audit_cost=usd, audit_judge=judge_usd)

    def left(self) -> float:
        """Dollars that audits may still spend; below zero where the last one took more."""
        (sums,) = self._ledger.sums([TOTAL])
        earned = self.share * sums.get("audited_spend", 0.0)
        return self.first_usd + earned - sums.get("audit_cost", 0.0) - sums.get("audit_judge", 0.0)

    def _add(self, **amounts: float) -> None:
        self._ledger.add_sums([PeriodSums(TOTAL, 0.0, amounts)])


def copies_of(
    candidate: Candidate,
    reference: str,
    shadow: str | None,
    standing: Standing,
    left_usd: float,
) -> dict[str, float]:
    """The models that get a copy of a call, each with the chance that it was drawn with.

    The model that the price would have chosen always goes first: its audits decide.

    Args:
        candidate: the call; one that the reference served, as its lot held it.
        shadow: what the price would have chosen, None without a price.
        left_usd: dollars that audits may still spend.
    """
    if left_usd <= 0:
        return {}
    cost = dict(zip(candidate.models, map(float, candidate.cost), strict=True))
    may = [name for name, ok in zip(candidate.models, candidate.allowed, strict=True) if ok]
    cheap = [n for n in may if n != reference and cost[n] < CHEAP * cost[reference]]
    copies: dict[str, float] = {}
    chosen = shadow is not None and shadow != reference
    if shadow is not None and chosen:
        copies[shadow] = 1.0
    served, rich = standing.state == "served", left_usd > RESERVE * cost[reference]
    promising = promising_of(cheap, cost, reference, standing)
    chance = 1.0 if not served or (rich and chosen) else EXPLORE if rich else 0.0
    if lot_of(candidate.query.id, "audit") < chance:
        copies |= {name: chance for name in promising if name not in copies}
    others = [name for name in cheap if name not in promising and name not in copies]
    if others and rich:
        each = OTHER / len(others)
        place = int(lot_of(candidate.query.id, "audit another") / each)
        if place < len(others):
            copies[others[place]] = each
    return copies


def promising_of(
    cheap: Sequence[str], cost: dict[str, float], reference: str, standing: Standing
) -> list[str]:
    """The cheap models that promise the largest saving within the allowed loss; at first all."""
    watches = {name: standing.models.get(name, Watch()) for name in cheap}
    fewest = min((watch.audits for watch in watches.values()), default=0)
    if standing.allowed is None or (fewest < FIRST_AUDITS and standing.calls <= 3 * FIRST_AUDITS):
        return [*cheap]
    allowed = standing.allowed

    def worth(name: str) -> float:
        watch = watches[name]
        n = watch.audits
        mean = (watch.losses + GUESS_LOSS * GUESS_AUDITS) / (n + GUESS_AUDITS)
        spread = GUESS_SPREAD if n < 2 else watch.squares / n - (watch.losses / n) ** 2
        low = mean - math.sqrt((spread + 0.02) / (n + GUESS_AUDITS))
        share = min(1.0, allowed / max(low, 0.3 * allowed))
        return share * (cost[reference] - cost[name])

    return sorted(cheap, key=lambda name: (-worth(name), name))[:PROMISING]
