"""Audits: the money is kept, the choice's copy goes first, and the promising follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aios_eccos.floor.earn import Standing
from aios_eccos.floor.watch import Watch
from aios_eccos.values import Candidate, Price, Query
from aios_eccos.verdicts.audits import AuditMoney, copies_of
from aios_eccos.workload.memory import MemoryWorkload

NAMES = ("large", "a", "b", "c", "d", "dear")
COSTS = (1e-2, 1e-3, 1e-3, 1e-3, 1e-3, 5e-3)
PROVING = Standing("", allowed=0.04)
SERVED = Standing("", "served", share=0.9, allowed=0.04)


def call(name: str = "1") -> Candidate:
    m = len(NAMES)
    return Candidate(
        query=Query("", id=name),
        models=NAMES,
        success=np.ones(m),
        output_tokens=np.ones(m),
        support=np.ones(m),
        cost=np.array(COSTS),
        allowed=np.ones(m, dtype=bool),
        novelty=0.0,
        worth=Price(),
    )


def known(standing: Standing, **worse: int) -> Standing:
    """The standing after 40 audits of each cheap model, so many of them worse."""
    models = {name: Watch(40, float(n), float(n)) for name, n in worse.items()}
    return replace(standing, calls=60, models=models)


def test_audits_stop_when_the_money_is_spent_and_go_on_when_more_is_earned() -> None:
    money = AuditMoney(MemoryWorkload(), 0.05, 0.10)
    assert money.left() == pytest.approx(0.10)
    money.note_audit(0.08, 0.03)
    assert money.left() == pytest.approx(-0.01)
    assert copies_of(call(), "large", "a", PROVING, money.left()) == {}
    money.note_spent(1.0)
    assert money.left() == pytest.approx(0.04)


def test_the_money_is_exceeded_by_no_more_than_one_call() -> None:
    money = AuditMoney(MemoryWorkload(), 0.05, 0.01)
    spent, most = 0.0, 0.0
    for n in range(200):
        copies = copies_of(call(str(n)), "large", "a", PROVING, money.left())
        cost = sum(COSTS[NAMES.index(name)] for name in copies)
        most = max(most, cost)
        money.note_audit(cost)
        money.note_spent(1e-2)
        spent += cost
    assert spent <= 0.01 + 0.05 * 200 * 1e-2 + most


def test_all_kernels_spend_the_same_money() -> None:
    shared = MemoryWorkload()
    AuditMoney(shared, 0.05, 0.10).note_audit(0.04)
    assert AuditMoney(shared, 0.05, 0.10).left() == pytest.approx(0.06)


def test_at_first_every_cheap_model_is_asked_and_no_dear_one() -> None:
    assert copies_of(call(), "large", None, PROVING, 1.0) == dict.fromkeys("abcd", 1.0)


def test_later_those_that_promise_most_are_asked() -> None:
    standing = known(PROVING, a=1, b=25, c=2, d=3)
    found = [copies_of(call(str(n)), "large", None, standing, 1.0) for n in range(300)]
    assert all({"a", "c", "d"} <= set(copies) for copies in found)
    asked = [copies["b"] for copies in found if "b" in copies]
    assert 5 <= len(asked) <= 30
    assert set(asked) == {0.05}


def test_a_model_that_may_not_serve_gets_no_copy() -> None:
    candidate = call()
    candidate.allowed[NAMES.index("b")] = False
    assert "b" not in copies_of(candidate, "large", None, PROVING, 1.0)


def test_while_served_the_choice_goes_before_all_others() -> None:
    standing = known(SERVED, a=1, b=25, c=2, d=3)
    assert copies_of(call(), "large", "a", standing, 1e-3) == {"a": 1.0}
    assert set(copies_of(call(), "large", "a", standing, 1.0)) >= {"a", "c", "d"}


def test_while_served_and_the_reference_is_chosen_a_tenth_teaches_about_others() -> None:
    standing = known(SERVED, a=1, b=25, c=2, d=3)
    found = [copies_of(call(str(n)), "large", "large", standing, 1.0) for n in range(500)]
    asked = [copies for copies in found if "a" in copies]
    assert 25 <= len(asked) <= 80
    assert {copies["a"] for copies in asked} == {0.1}
