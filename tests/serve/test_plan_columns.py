"""Plans in the router: further columns of the forecast, chosen and lent like any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plan_world import LARGE, MINI, PLAN, POOL, SMALL, Fixed, FixedPlans, learned, make_router

from aios_eccos.floor.learned import Learned
from aios_eccos.serve.columns import alike
from aios_eccos.serve.tracing import decide_dry
from aios_eccos.values import Model, Plan, Query, Slots
from aios_eccos.workload.memory import MemoryWorkload

OTHER = Plan(("mini", "small"), "large")


def only(router, query=None):
    (candidate,) = router.forecast([query or Query("hello", input_tokens=100)])
    return candidate


def open_plans(candidate):
    row = zip(candidate.models, candidate.allowed, strict=True)
    return [name for name, ok in row if ok and candidate.plan(name) is not None]


def test_a_plan_is_a_column_after_the_models_and_costs_both_members_and_often_the_escape() -> None:
    candidate = only(make_router())
    assert candidate.models == ("small", "mini", "large", PLAN.name)
    small, mini, large, plan = candidate.cost
    assert plan == pytest.approx(small + mini + 0.2 * large)
    assert candidate.output_tokens[3] == pytest.approx(220)


def test_without_plans_the_columns_are_the_models() -> None:
    known = learned()
    router = make_router(knows=Learned(known.predictor, None, known.book))
    assert only(router).models == ("small", "mini", "large")


def test_a_plan_that_pays_is_chosen_and_takes_a_slot_of_each_member_alone() -> None:
    workload = MemoryWorkload()
    router = make_router(workload)
    (decision,) = router.route([Query("hello", input_tokens=100)]).decisions
    assert decision.model == PLAN.name
    assert decision.plan == PLAN
    assert [lease.slot for lease in decision.leases] == [SMALL.slot, MINI.slot]
    assert router.slots().free == {"small": 3, "mini": 3, "large": 4}
    router.release(decision)
    router.release(decision)
    assert router.slots().free == {"small": 4, "mini": 4, "large": 4}


def test_a_floor_out_of_reach_goes_to_what_succeeded_most_whatever_forecasts_say() -> None:
    """The forecast of this call prefers the large model by chance; history prefers the plan."""
    sure = replace(learned(), predictor=Fixed({"small": 0.99, "mini": 0.62, "large": 0.95}))
    router = make_router(knows=sure, quality_floor=0.999)
    candidate = only(router)
    assert router.preferred(candidate) == PLAN.name
    assert candidate.success[3] == pytest.approx(max(candidate.success))
    assert candidate.worth.optimism == 0.0
    closed = only(router, Query("hello", input_tokens=100, allowed=("small", "mini")))
    assert router.preferred(closed) == "small", "models alone go by their forecasts"
    within = only(make_router(knows=sure, quality_floor=0.8))
    assert within.worth.levels is None and within.success[0] == 0.99


def test_a_member_that_is_full_leaves_the_plan_to_nobody_and_nothing_is_lent_of_the_other() -> None:
    workload = MemoryWorkload()
    router = make_router(workload)
    stale = router.slots()
    held = [router.route([Query("", allowed=("mini",))]).decisions[0] for _ in range(4)]
    assert all(decision.leases for decision in held)
    found = router.assign([only(router)], stale)
    assert found.decisions[0].model is None, "another has taken the slot in the meantime"
    assert router.slots().free["small"] == 4
    (fresh,) = router.assign([only(router)], router.slots()).decisions
    assert fresh.model in ("small", "large")


@pytest.mark.parametrize(
    "query",
    [
        Query("", allowed=("small",)),
        Query("", allowed=("small", "mini")),
        Query("", private=True),
        Query("", needs=frozenset({"vision"})),
        Query("", input_tokens=5000),
    ],
    ids=["pinned", "no escape", "private", "unable", "window"],
)
def test_a_plan_is_closed_where_one_of_its_models_may_not_serve(query) -> None:
    pool = (
        Model("small", input_price=1e-7, output_price=1e-7, local=True),
        Model("mini", input_price=2e-7, output_price=2e-7, abilities=frozenset({"tools"})),
        Model("large", input_price=1e-5, output_price=1e-5, context_window=4000),
    )
    assert open_plans(only(make_router(models=pool), query)) == []


def test_a_plan_of_local_models_serves_private_calls() -> None:
    pool = tuple(
        Model(m.name, input_price=m.input_price, output_price=m.output_price, local=True)
        for m in POOL
    )
    assert open_plans(only(make_router(models=pool), Query("", private=True))) == [PLAN.name]


def test_a_plan_is_closed_while_no_price_of_success_is_known() -> None:
    assert open_plans(only(make_router(knows=learned(priced=False)))) == []


def test_a_plan_serves_under_a_calls_own_floor() -> None:
    router = make_router(quality_floor=0.5)
    assert router.route([Query("", floor=0.5)]).decisions[0].plan is None
    assert router.route([Query("", floor=0.9)]).decisions[0].plan == PLAN


def test_an_agent_with_models_of_its_own_has_the_plans_of_these_alone() -> None:
    router = make_router(agents={"few/*": {"models": ["small", "large"]}})
    assert open_plans(only(router, Query("", agent="few/a"))) == []
    assert open_plans(only(router, Query("", agent="many/a"))) == [PLAN.name]


def test_plans_are_not_explored() -> None:
    candidate = only(make_router())
    assert candidate.explorable.tolist() == [True, True, True, False]


def test_calls_forecast_before_and_after_plans_changed_are_decided_together() -> None:
    router = make_router()
    before = only(router)
    router.learned = learned(FixedPlans((OTHER, PLAN)))
    after = only(router)
    assert len(after.models) == 5
    first, second = router.assign([before, after], router.slots()).decisions
    assert first.plan == second.plan == PLAN
    assert second.candidate.models == (*before.models[:3], PLAN.name)
    router.learned = learned(FixedPlans((OTHER,)))
    strange = [before, only(router)]
    assert [each.models for each in alike(strange)] == [before.models[:3]] * 2
    assert [d.plan for d in router.assign(strange, router.slots()).decisions] == [None, None]


def test_a_dry_decision_names_the_plan_and_closes_it_where_a_model_rests() -> None:
    router = make_router()
    limits = {model.name: model.limit for model in POOL}
    trace = decide_dry(router, Slots(limits, limits), "hello")
    assert trace.model == PLAN.name
    assert trace.chosen is not None
    assert trace.chosen.free == 4
    resting = decide_dry(router, Slots(limits, limits, {LARGE.name: 9.0}), "hello")
    assert resting.model in ("small", "mini")
    closed = next(option for option in resting.options if option.model == PLAN.name)
    assert not closed.allowed


def test_a_batch_of_plans_stays_within_every_limit() -> None:
    workload = MemoryWorkload()
    router = make_router(workload)
    decisions = router.route([Query("", input_tokens=100) for _ in range(12)]).decisions
    free = router.slots().free
    assert min(free.values()) >= 0
    assert sum(len(decision.leases) for decision in decisions) == 12 - sum(free.values())
    assert np.isfinite([d.promised for d in decisions if d.model]).all()


def test_a_plan_is_barred_where_it_and_its_escape_may_cost_more_than_the_call_allows() -> None:
    router = make_router()

    def barred(dollars: float) -> list[str]:
        candidate = only(router, Query("hello", input_tokens=100, max_cost=dollars))
        return [*router.bars(candidate, router.slots())]

    # The escape alone comes to 3.3e-3 dollars at most, all three to 3.4e-3.
    assert barred(3.5e-3) == []
    assert barred(3.35e-3) == [PLAN.name]
    assert barred(3.2e-3) == ["large", PLAN.name]
