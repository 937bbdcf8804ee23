"""Where policies stand on the way to their savings, and what audits cost: from the shared sums."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from aios_eccos.config import AgentPolicy, Settings
from aios_eccos.floor.earn import Earning, Standing
from aios_eccos.metrics import mean
from aios_eccos.observe.audit_views import AuditedView, AuditsView, PeopleView, PolicyView
from aios_eccos.verdicts.audits import AuditMoney
from aios_eccos.verdicts.people import read_checked
from aios_eccos.workload.store import Observed


def read_audits(
    workload: Observed,
    settings: Settings,
    total: Mapping[str, float],
    day: Mapping[str, float],
) -> AuditsView | None:
    """What `status` says of audits; None where they are off.

    Args:
        total: the sums since the start. day: those of the last day.

    Raises:
        WorkloadError: the workload store cannot be used.
    """
    if not settings.audit:
        return None
    earning = Earning(workload)
    stands = [earning.standing(name) for name in ("", *settings.agents) if earns(settings, name)]

    def count(kind: str) -> int:
        return round(total.get(f"audit_{kind}", 0.0))

    return AuditsView(
        share=settings.audit,
        judge=settings.judge,
        left_usd=AuditMoney(workload, settings.audit, settings.audit_first_usd).left(),
        audit_usd=total.get("audit_cost", 0.0),
        judge_usd=total.get("audit_judge", 0.0),
        saved_usd=total.get("audit_saved", 0.0),
        break_even_calls=break_even(total, day),
        calls=round(total.get("audits", 0.0)),
        copies=count("copies"),
        failed=count("failed"),
        agreed=count("agreed"),
        judged=count("judged"),
        differed=count("differed"),
        ungraded=count("ungraded"),
        missed=count("missed"),
        dropped=count("dropped"),
        unjudged=count("unjudged"),
        judge_repeats=count("repeats"),
        judge_consistency=mean(total.get("audit_same", 0.0), total.get("audit_repeats", 0.0)),
        people=_people(workload),
        policies=[_policy(each) for each in stands],
    )


def _policy(standing: Standing) -> PolicyView:
    facts = {name: getattr(standing, name) for name in PolicyView.model_fields}
    facts["models"] = [
        AuditedView(model=name, audits=watch.audits, effective=watch.effective, loss=watch.loss)
        for name, watch in standing.models.items()
    ]
    return PolicyView.model_validate(facts)


def _people(workload: Observed) -> PeopleView | None:
    found = read_checked(workload)
    return PeopleView.model_validate(asdict(found)) if found.labeled else None


def earns(settings: Settings, name: str) -> bool:
    """Whether audits can show that a policy keeps its floor, and it has to."""
    policy = settings.agents.get(name, AgentPolicy())
    budgeted = policy.quality_floor is None and settings.budget_per_call is not None
    floor = policy.quality_floor or settings.quality_floor
    return settings.earn and policy.audit and floor.relative and not budgeted


def break_even(total: Mapping[str, float], day: Mapping[str, float]) -> int | None:
    """Calls until the savings have paid for the audits, at the day's savings a call.

    0 = they have; None while nothing is spent, or nothing is saved.
    """
    spent = total.get("audit_cost", 0.0) + total.get("audit_judge", 0.0)
    missing = spent - total.get("audit_saved", 0.0)
    if missing <= 0:
        return 0 if spent else None
    saved = mean(day.get("audit_saved", 0.0), day.get("calls", 0.0)) or 0.0
    return math.ceil(missing / saved) if saved > 0 else None
