"""The shapes of what is shown of audits, as part of the status; see `views`."""

from __future__ import annotations

from typing import Literal

from aios_eccos.observe.shape import Usd, View


class AuditedView(View):
    """One model's audits in a policy.

    Attributes:
        effective: audits drawn with equal chances that would tell as much.
        loss: by how much it was worse than the strongest, as a chance: the mean over all calls,
            each audit weighed by 1 / the chance that it was drawn with.
    """

    model: str
    audits: int
    effective: float
    loss: float | None


class PolicyView(View):
    """Where one policy stands on the way to its savings.

    Attributes:
        policy: the agents' pattern, "" = all others.
        state: `proving` (the strongest serves), `earned` (a share is routed) or `served`.
        share: of calls that are routed; hold: of those that the strongest serves for good.
        shadowed: audited choices so far; loss: by how much they were worse on average, as a
            chance; allowed: what the floor allows of that.
        needs_calls: about how many more calls until it is served; null = cannot be told, or is.
        suspects: models that may have become worse.
    """

    policy: str
    state: Literal["proving", "earned", "served"]
    share: float
    hold: float
    shadowed: int
    loss: float | None
    allowed: float | None
    needs_calls: int | None
    suspects: list[str]
    models: list[AuditedView]


class ModelLossView(View):
    """One model's net loss, by audits and with people's correction; see `verdicts.people`."""

    model: str
    audits: int
    loss: float
    labeled: int
    corrected: float | None
    low: float | None
    high: float | None


class PeopleView(View):
    """What people's verdicts say of the judge's; see `verdicts.people`.

    Attributes:
        labeled: compared answers on whose call people have spoken.
        better, worse: of those, what the judge found so; better_wrong, worse_wrong: refuted.
    """

    labeled: int
    better: int
    better_wrong: int
    worse: int
    worse_wrong: int
    models: list[ModelLossView]


class AuditsView(View):
    """What audits cost, and what they have earned. All amounts are since the first audit.

    Attributes:
        share: of the money spent that audits may cost; left_usd: what they may spend now.
        audit_usd, judge_usd: spent on copies and on the judge.
        saved_usd: what calls that were routed would have cost more with the strongest (forecast).
        break_even_calls: about how many more calls until that has paid for the audits; 0 = it
            has, null = cannot be told.
        calls: audited; copies: made; failed: of them without an answer.
        agreed, judged, differed: verdicts by equal forms, by the judge, and without one.
        ungraded: of those judged, how many the judge gave no grade, so that they count as worse.
        missed: copies without a spare slot; dropped: calls that came too fast.
        unjudged: calls left out as the judge could not be asked.
        judge_repeats: verdicts asked for again in the other order; judge_consistency: share of
            those that said the same. people: null while they have not spoken.
    """

    share: float
    judge: str | None
    left_usd: Usd
    audit_usd: Usd
    judge_usd: Usd
    saved_usd: Usd
    break_even_calls: int | None
    calls: int
    copies: int
    failed: int
    agreed: int
    judged: int
    differed: int
    ungraded: int
    missed: int
    dropped: int
    unjudged: int
    judge_repeats: int
    judge_consistency: float | None
    people: PeopleView | None
    policies: list[PolicyView]
