"""Relative verdicts: how a model's answer is against the reference's on the same call.

+1 is better, 0 as good, -1 worse. The source is `agreement` (equal normal forms) or `judge`;
absolute verdicts, 0..1, come from a `person` or a `grader`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Grade = Literal[-1, 0, 1]


def compare(candidate: str | None, reference: str | None) -> Literal[0] | None:
    """The verdict on two answers by their forms, or keys of these; None = a judge must say."""
    return 0 if candidate is not None and candidate == reference else None


def imputed(relative: Mapping[str, int], reference: str) -> dict[str, float]:
    """One call's relative verdicts as correctness in 0..1, the reference's own among them.

    What is assumed: the reference is right, unless a judge found some model better: then half. A
    model as good has the same correctness, a worse one none, and a better one is right. So every
    verdict can be read from its row again; as a number, a difference to a reference that was beaten
    counts half. Correctness itself is too high where all are wrong.

    Args:
        relative: model -> verdict; what it says of the reference itself does not count.
    """
    others = {model: verdict for model, verdict in relative.items() if model != reference}
    right = 0.5 if any(verdict > 0 for verdict in others.values()) else 1.0
    return {reference: right, **{m: right * (1 + verdict) for m, verdict in others.items()}}
