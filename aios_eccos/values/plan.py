"""A plan: two models are asked at once, and a third only where their answers differ."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


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
