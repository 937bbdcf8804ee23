"""Why a model was chosen: one place says it, in few words and in full."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from aios_eccos.decide import words
from aios_eccos.values import EXPLORED, NOT_ALLOWED, Candidate, Lease, Model, Price, Query

NAMES = ("small", "large")
LEASE = Lease("call", "small@")


def candidate(**changes: object) -> Candidate:
    """A floor for which the large model is worth its price."""
    plain = Candidate(
        query=Query("?", id="call"),
        models=NAMES,
        success=np.array([0.5, 0.9]),
        output_tokens=np.array([100.0, 100.0]),
        support=np.array([9.0, 9.0]),
        cost=np.array([1e-4, 1e-3]),
        allowed=np.array([True, True]),
        novelty=0.0,
        worth=Price(floor=0.8, value=1e-2),
    )
    price = changes.pop("price", None)
    worth = plain.worth if price is None else replace(plain.worth, value=price)
    return replace(plain, worth=worth, **changes)


def told(case: words.Case, reason: str = "because") -> str:
    return words.sentence(
        case,
        words.bound_by(case),
        reason,
        promised=0.9,
        floor=0.8,
        only="no other",
        money=lambda value: f"${value:g}",
    )


ROOM, NO_LARGE, NONE = np.array([1, 1]), np.array([1, 0]), np.array([0, 0])

SERVED = [
    # what changes, column, free slots, calls assigned as one; bound by, reason, sentence ("": same)
    ({}, 1, ROOM, 0, "floor", "the cheapest way to keep the floor", "40.0 points of success over"),
    ({"price": 1e-5}, 0, ROOM, 0, "nothing", "the cheapest way", ""),
    ({}, 0, NO_LARGE, 0, "limit of large", "large would be chosen but is at its limit", ""),
    ({}, 0, ROOM, 0, "limit of large", "lent to calls that gain more", ""),
    ({}, 0, ROOM, 300, "whole batch", "300 calls were assigned as one", ""),
    ({"price": math.inf}, 1, ROOM, 0, "no history", "the strongest: what a success", ""),
    ({"price": math.inf, "support": np.array([0.2, 0.5])}, 1, ROOM, 0, "no history",
     "the strongest: no history like it yet", ""),
    ({"price": math.inf}, 1, ROOM, 300, "no history", "the strongest", ""),
    ({"allowed": np.array([False, True])}, 1, ROOM, 0, "allowed models", "the only model",
     "no other"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "column", "free", "whole", "bound", "few", "full"), SERVED)
def test_what_decided_is_named(changes, column, free, whole, bound, few, full) -> None:
    row = candidate(**changes)
    case = words.Case.of(row, column, free, whole)
    assert words.bound_by(case) == bound
    reason = words.reason(row, column, LEASE, free, whole)
    text = told(case, reason)
    assert (
        few in reason
        and (full or reason) in text
        and text.startswith(f"{NAMES[column]} was chosen for 90.0 % success at $")
    )


WAITING = [
    ({}, NONE, "waits: every model that may serve it is at its limit"),
    ({}, NO_LARGE, "waits: the models that it would take are at their limit"),
    ({"allowed": np.array([False, True])}, NO_LARGE, "waits: every model"),
    ({"allowed": np.array([False, False])}, ROOM, "no configured model may serve this call"),
]


@pytest.mark.parametrize(("changes", "free", "few"), WAITING)
def test_what_a_call_waits_for_is_named(changes, free, few) -> None:
    row = candidate(**changes)
    assert words.reason(row, -1, None, free).startswith(few)
    case = words.Case.of(row, None, free)
    assert words.bound_by(case) == "no decision"
    assert told(case) == "No model served this call: because."


def test_chance_and_the_observer_are_no_decisions_of_the_rule() -> None:
    case = replace(words.Case.of(candidate(), 0, ROOM), status=EXPLORED)
    assert words.bound_by(case) == "exploration" and told(case).endswith(": because.")
    assert words.why(case, 1) == "chance chose another"
    assert words.bound_by(case, observed=True) == "AIOS's own choice"
    assert "small" in words.explored("small", 0.001) and "0.10%" in words.explored("small", 0.001)
    assert words.bound_by(replace(case, status=words.FALLBACK)) == "no decision"


@pytest.mark.parametrize(
    ("changes", "chosen", "free", "whole", "wanted"),
    [
        ({}, 1, ROOM, 0, "cheaper, but loses too much success"),
        ({"price": 1e-5}, 0, ROOM, 0, "dearer than its gain in success is worth"),
        ({}, 0, NO_LARGE, 0, "at its limit"),
        ({}, 0, ROOM, 0, "slots lent to calls that gain more"),
        ({}, 0, ROOM, 300, "the batch as a whole gains more"),
        ({"price": math.inf}, 0, NO_LARGE, 0, "at its limit"),
        ({"price": 1e-5}, 0, NO_LARGE, 0, "at its limit, and not preferred"),
        ({"success": np.array([0.9, 0.9])}, 0, ROOM, 0, "dearer and no better"),
        ({"allowed": np.array([True, False])}, 0, ROOM, 0, "rests"),
        # A tie goes to the cheaper: the other's slots are not lent to anybody.
        ({"success": np.array([0.5, 0.6]), "price": 9e-3}, 0, ROOM, 0, "dearer than its gain"),
    ],
)  # fmt: skip
def test_every_other_model_is_told_why_not(changes, chosen, free, whole, wanted) -> None:
    case = words.Case.of(candidate(**changes), chosen, free, whole)
    assert words.why(case, chosen) == "chosen"
    assert words.why(case, 1 - chosen, "rests").startswith(wanted)


def test_what_closes_a_model_is_told_apart() -> None:
    query, model = Query("?", input_tokens=50), Model("m", context_window=40)
    assert words.closed(query, model, ("other",), failed=True) == NOT_ALLOWED
    assert words.closed(query, model, None, failed=True) == "has just failed on it"
    assert "context window of 40" in words.closed(query, model, ("m",), failed=False)
    assert words.closed(query, Model("m"), None, failed=False) == "rests after an error"
    named = replace(query, allowed=("other",))
    assert words.closed(named, Model("m"), None, failed=False) == NOT_ALLOWED


def test_the_only_model_is_said_to_be_so_for_what_closed_the_others() -> None:
    case = replace(
        words.Case.of(candidate(), 0, ROOM),
        models=tuple("abcdef"),
        allowed=np.arange(6) == 0,
    )
    assert words.only(case, [""] * 6, named=1) == "its agent allows no other"
    assert words.only(case, ["", *[NOT_ALLOWED] * 5], named=0) == "its agent allows no other"
    assert "rest after errors" in words.only(case, ["", "x", "x", "", "x", "x"], named=0)
    assert words.only(case, ["", *["x"] * 5], named=0) == "b x; c x; d x; 2 more could not serve it"
