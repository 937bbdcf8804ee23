"""What people say of the judge: where their verdicts and audits meet, both are told apart.

People judge what was served, so of most audits they tell how good the reference's answer was. That
refutes a judge who finds another answer worse than one that was wrong, or better than one that was
right; an answer that was found as good cannot be refuted so. Where they have judged the copy's
model on the same call too, their verdicts are compared in full.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from aios_eccos.history.store import AuditedCalls
from aios_eccos.verdicts.judge import net_loss
from aios_eccos.workload.notes import Finite, read_note
from aios_eccos.workload.store import Ledger

#: The note that holds it.
NOTE = "judge:checked"


@dataclass(frozen=True, slots=True)
class ModelLoss:
    """One model's net loss against the reference, P(worse) - P(better), over its audits.

    Attributes:
        audits, loss: their number and mean. labeled: those on whose call people have spoken.
        corrected, low, high: with the error that these show, and its 90 % interval; None with few.
    """

    model: str
    audits: int
    loss: Finite
    labeled: int
    corrected: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """How the judge's verdicts stand to people's.

    Attributes:
        labeled: compared answers on whose call people have spoken, equal ones among them.
        better, worse: of those, what the judge found so; better_wrong, worse_wrong: refuted ones.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    labeled: int = 0
    better: int = 0
    better_wrong: int = 0
    worse: int = 0
    worse_wrong: int = 0
    models: tuple[ModelLoss, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Pair:
    """One copy: the judge's verdict, and people's; None where they have not spoken."""

    model: str
    judge: float
    people: float | None


def checked(audits: AuditedCalls) -> Checked:
    """What people's verdicts say of the audits' verdicts."""
    pairs = [*_pairs(audits)]
    spoken = [(pair.judge, pair.people) for pair in pairs if pair.people is not None]
    better = [people for judge, people in spoken if judge > 0]
    worse = [people for judge, people in spoken if judge < 0]
    return Checked(
        labeled=len(spoken),
        better=len(better),
        better_wrong=sum(people < 0.5 for people in better),
        worse=len(worse),
        worse_wrong=sum(people > -0.5 for people in worse),
        models=tuple(_loss(name, pairs) for name in sorted({pair.model for pair in pairs})),
    )


def keep_checked(ledger: Ledger, found: Checked) -> None:
    """Keep it for whoever shows it.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    ledger.swap_note(NOTE, json.dumps(asdict(found)))


def read_checked(ledger: Ledger) -> Checked:
    """What was kept last.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    (text,) = ledger.notes([NOTE])
    return read_note(TypeAdapter(Checked), text) or Checked()


def _pairs(audits: AuditedCalls) -> Iterator[_Pair]:
    place = {name: column for column, name in enumerate(audits.models)}
    for row, reference in enumerate(audits.references):
        if reference not in place:
            continue
        found, said = audits.correctness[row], audits.verdicts[row]
        served = said[place[reference]]
        for name, column in place.items():
            if name == reference or np.isnan(found[column]):
                continue
            judge = float(np.sign(found[column] - found[place[reference]]))
            people = None
            if not np.isnan(served):
                known = said[column] - served
                refuted = np.clip(judge, -served, 1 - served)
                people = float(refuted if np.isnan(known) else known)
            yield _Pair(name, judge, people)


def _loss(model: str, pairs: list[_Pair]) -> ModelLoss:
    mine = [pair for pair in pairs if pair.model == model]
    judge = [pair.judge for pair in mine]
    labeled = [(pair.judge, pair.people) for pair in mine if pair.people is not None]
    loss = sum(-verdict for verdict in judge) / len(judge)
    whole = ModelLoss(model, len(mine), loss, len(labeled))
    found = net_loss(judge, labeled)
    if found is None:
        return whole
    return ModelLoss(
        model, whole.audits, whole.loss, whole.labeled, found.loss, found.low, found.high
    )
