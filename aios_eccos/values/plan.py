"""A plan: two models are asked at once, and a third only where their answers differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from aios_eccos.values.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Plan:
    """One more column of the assignment, beside the models: (members, rule) is what it is.

    Attributes:
        members: models asked at once, the one whose answer is given first.
        escape: asked where the members' answers differ, or cannot be compared.
        rule: `agree` = the normal forms of the members' answers are equal.
    """

    members: tuple[str, ...]
    escape: str
    rule: Literal["agree"] = "agree"

    @property
    def name(self) -> str:
        """As it is written in the configuration, and in every output."""
        return f"{' + '.join(self.members)}, else {self.escape}"

    @property
    def models(self) -> tuple[str, ...]:
        """All that it may ask."""
        return (*self.members, self.escape)


@dataclass(frozen=True, slots=True, eq=False)
class PlanForecast:
    """What each of k plans would do on each of n queries.

    Attributes:
        success: (n, k) probability of a good answer, 0..1.
        escapes: (n, k) chance that the escape is asked.
        support: (n, k) effective number of records behind each number.
    """

    plans: tuple[Plan, ...]
    success: FloatArray
    escapes: FloatArray
    support: FloatArray

    def spread(self, models: Sequence[str], values: FloatArray) -> FloatArray:
        """(n, k) what a plan comes to of something that each model (n, m) costs or takes."""
        return spread(self.plans, self.escapes, models, values)


def spread(
    plans: Sequence[Plan], escapes: FloatArray, models: Sequence[str], values: FloatArray
) -> FloatArray:
    """(n, k) the members' values, and the escape's where it is asked; (n, m) are the models'."""
    place = {name: column for column, name in enumerate(models)}
    found: FloatArray = escapes * values[:, [place[plan.escape] for plan in plans]]
    for member in range(len(plans[0].members) if plans else 0):
        found = found + values[:, [place[plan.members[member]] for plan in plans]]
    return found


def parse_plan(text: str, models: Collection[str]) -> Plan:
    """Read `small + mini, else large`; names may hold a plus or a comma themselves.

    Raises:
        ValueError: it is written otherwise, or names a model twice or one not configured.
    """
    asked, found, escape = text.strip().rpartition(", else ")
    members = tuple(part.strip() for part in asked.split(" + "))
    if not found or len(members) != 2:
        raise ValueError("a plan is written `small + mini, else large`")
    plan = Plan(members, escape.strip())
    unknown = [name for name in plan.models if name not in models]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no configured model; those are {', '.join(models)}")
    if len(set(plan.models)) < len(plan.models):
        raise ValueError("a plan asks each model once")
    return plan
