"""Plans take a slot of each member: the limits of all models hold, and plans go where they gain."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aios_eccos.config import parse_settings
from aios_eccos.decide.assign import WHOLE_BATCH, assigned
from aios_eccos.decide.plans import Columns
from aios_eccos.decide.slot_prices import SlotPrices
from aios_eccos.values import Candidate, Model, Plan, Price, Query
from aios_eccos.workload.memory import MemoryWorkload

POOL = tuple(Model(name) for name in ("small", "mini", "large"))
NAMES = tuple(model.name for model in POOL)
PLANS = (Plan(("small", "mini"), "large"), Plan(("small", "large"), "mini"))


def candidate(cost, success, plans=PLANS, price=1.0, floor=0.0, allowed=None, escapes=0.25):
    columns = len(NAMES) + len(plans)
    return Candidate(
        query=Query("q"),
        models=(*NAMES, *(plan.name for plan in plans)),
        success=np.array(success, dtype=float),
        output_tokens=np.full(columns, 100.0),
        support=np.ones(columns),
        cost=np.array(cost, dtype=float),
        allowed=np.ones(columns, dtype=bool) if allowed is None else np.array(allowed),
        novelty=0.0,
        worth=Price(value=price, floor=floor, batch_floor=floor),
        plans=dict.fromkeys(plans, escapes),
    )


def choose(batch, free, **chosen):
    """The choice for a batch with so many free slots of each model, and what was found."""
    given = parse_settings(chosen)
    plans = tuple(batch[0].plans)
    room = [min(free[NAMES.index(name)] for name in plan.members) for plan in plans]
    slots = np.array([*free, *room])
    found = assigned(batch, slots, given, SlotPrices(POOL, MemoryWorkload()))
    return found.solution.choice, found


def used(batch, choice):
    return Columns.of(batch).taken(choice).tolist()


def drawn(seed, n):
    rng = np.random.default_rng(seed)
    return [
        candidate(
            rng.uniform(0.1, 1.0, 5),
            rng.uniform(0.0, 1.0, 5),
            price=float(rng.choice([0.2, 1.0, 5.0])),
            allowed=rng.uniform(size=5) < 0.8,
        )
        for _ in range(n)
    ]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 12),
    free=st.tuples(*[st.integers(0, 6)] * 3),
    over=st.sampled_from(["spill", "wait"]),
)
def test_no_models_limit_is_broken_and_no_call_waits_for_a_plans_sake(seed, n, free, over) -> None:
    batch = drawn(seed, n)
    choice, found = choose(batch, free, over_capacity=over)
    assert all(taken <= have for taken, have in zip(used(batch, choice), free, strict=True))
    assert all(batch[row].allowed[column] for row, column in enumerate(choice) if column >= 0)
    assert found.solution.gap >= 0
    assert found.solution.lower_bound <= found.solution.cost + 1e-9
    if over == "spill":
        plain = [
            candidate(c.cost[:3], c.success[:3], (), c.price, allowed=c.allowed[:3]) for c in batch
        ]
        alone, _ = choose(plain, free)
        assert (choice >= 0).sum() >= (alone >= 0).sum()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), free=st.tuples(*[st.integers(0, 3)] * 3))
def test_a_batch_is_worth_at_least_what_models_alone_are_and_at_most_the_best(seed, free) -> None:
    batch = drawn(seed, 4)
    choice, _ = choose(batch, free)
    plain = [
        candidate(c.cost[:3], c.success[:3], (), c.price, allowed=c.allowed[:3]) for c in batch
    ]
    alone, _ = choose(plain, free)
    rows = [row for row, column in enumerate(choice) if column >= 0]
    if not all((alone >= 0) == (choice >= 0)):
        return
    uses = Columns.of(batch).uses

    def net(columns):
        return sum(batch[r].cost[c] - batch[r].price * batch[r].success[c] for r, c in columns)

    best = math.inf
    for columns in itertools.product(range(5), repeat=len(rows)):
        pairs = [*zip(rows, columns, strict=True)]
        fits = (uses[list(columns)].sum(axis=0) <= free).all()
        if fits and all(batch[r].allowed[c] for r, c in pairs):
            best = min(best, net(pairs))
    mine = net([(row, choice[row]) for row in rows])
    assert mine <= net([(row, alone[row]) for row in rows]) + 1e-9
    assert mine >= best - 1e-9


def test_with_room_for_all_each_call_has_its_best_column() -> None:
    batch = [candidate([1, 2, 9, 3, 9], [0.5, 0.5, 0.9, 0.95, 0.9], price=10.0)] * 3
    assert choose(batch, (9, 9, 9))[0].tolist() == [3, 3, 3]


def test_the_last_slots_go_to_the_plans_that_gain_most() -> None:
    gains = [0.2, 0.8, 0.5]
    batch = [
        candidate([1, 1, 1, 1, 9], [0.1, 0.1, 0.1, 0.1 + gain, 0.0], price=10.0) for gain in gains
    ]
    choice, _ = choose(batch, (2, 2, 3))
    assert used(batch, choice) <= [2, 2, 3]
    assert choice[1] == 3, "the one that gains most"


def test_calls_that_wait_for_their_best_wait_for_every_member_of_a_plan() -> None:
    batch = [candidate([1, 1, 1, 1, 9], [0.1, 0.1, 0.1, 0.9, 0.0], price=10.0)] * 3
    choice, _ = choose(batch, (5, 2, 5), over_capacity="wait")
    assert choice.tolist() == [3, 3, -1]


def test_a_plan_pays_for_the_slots_of_its_members_and_of_its_escape_as_often_as_it_is_asked() -> (
    None
):
    columns = Columns.of([candidate([1] * 5, [0.5] * 5, escapes=0.25)])
    assert columns.carried(np.array([[1.0, 2.0, 8.0]])).tolist() == [[1, 2, 8, 5, 9.5]]


def test_a_full_member_is_worth_what_a_plan_loses_by_it() -> None:
    columns = Columns.of([candidate([1] * 5, [0.5] * 5)])
    lost = np.array([[np.nan, 0.0, np.nan, 0.7, np.nan]])
    assert columns.to_models(lost)[0].tolist()[:2] == [0.7, 0.7]
    assert np.isnan(columns.to_models(lost)[0, 2])


@pytest.mark.parametrize("short", [False, True])
def test_a_whole_batch_keeps_its_floor_and_all_limits(short) -> None:
    n = WHOLE_BATCH
    rng = np.random.default_rng(3)
    batch = [
        candidate(
            [0.1, 0.15, 2.0, 0.4, 2.2],
            np.clip([0.5, 0.55, 0.9, 0.88, 0.9] + rng.normal(0, 0.05, 5), 0, 1),
            price=3.0,
            floor=0.75,
        )
        for _ in range(n)
    ]
    free = (n // 3, n // 2, n) if short else (n, n, n)
    choice, found = choose(batch, free)
    assert found.whole
    assert all(taken <= have for taken, have in zip(used(batch, choice), free, strict=True))
    assert found.solution.success >= 0.75 - 1e-9
    assert (choice == 3).any(), "plans are used"
