"""Plans beside models: which are chosen on history, and what success costs with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plans_world import COST, MODELS, past_world

from aios_eccos.config import parse_settings
from aios_eccos.decide.rule import choose
from aios_eccos.floor.certify import Certificate, Certifier
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.planned import auto_plans, book_of, with_plans
from aios_eccos.forecast.plans import Past, fit_plan
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.values import Plan, Query
from aios_eccos.workload.memory import MemoryWorkload

PAIR = "small + mini, else large"


def test_the_plan_that_saves_is_chosen_and_poor_members_are_not() -> None:
    chosen = auto_plans(past_world(told=False))
    assert chosen[0].escape == "large" and set(chosen[0].members) == {"small", "mini"}
    assert not any("poor" in plan.models for plan in chosen)


def test_a_plan_that_saves_nothing_is_none() -> None:
    past = past_world(told=False)
    dear = np.broadcast_to(np.array([0.55, 0.55, 1.0, 0.55]), past.cost.shape)
    assert auto_plans(replace(past, cost=dear)) == ()
    differ = np.tile(np.arange(1, 5), (len(past.answers), 1))
    assert auto_plans(replace(past, answers=differ)) == ()


@pytest.mark.parametrize("n", [0, 10, 59])
def test_little_history_chooses_no_plan(n: int) -> None:
    assert auto_plans(past_world(n)) == ()
    assert book_of(past_world(n), ("auto",))[1] is None


def test_history_without_keys_chooses_no_plan() -> None:
    past = past_world(keyed=False)
    book, plans = book_of(past, ("auto",))
    assert plans is None and book.columns == MODELS


def test_a_named_plan_is_a_column_of_the_price_of_success() -> None:
    book, plans = book_of(past_world(told=False), (PAIR, "small + mini, else unknown"))
    assert plans is not None and [plan.name for plan in plans.plans] == [PAIR]
    assert book.models == MODELS and book.columns == (*MODELS, PAIR)
    alone, both = book.curve(MODELS), book.curve()
    assert alone is not None and both is not None
    assert both.cost_for(0.85) < 0.8 * alone.cost_for(0.85)


def test_a_plan_is_never_the_strongest_model() -> None:
    past = past_world(told=False)
    worse = replace(past, correctness=past.correctness * [1, 1, 0.95, 1])
    book, _ = book_of(worse, (PAIR,))
    assert book.strongest() == ("large", pytest.approx(worse.correctness[:, 2].mean()))
    assert book.strongest([PAIR]) is None


def noisy(n: int, seed: int = 0) -> Past:
    """Two dear models that succeed alike, told apart by noise alone; one costs thrice the other."""
    past, rng = past_world(n, seed, told=False), np.random.default_rng(seed)
    success, cost = past.success.copy(), past.cost.copy()
    correctness = past.correctness.copy()
    twin = rng.permutation(n)
    success[:, 3] = success[:, 2] + rng.normal(0.0, 0.02, n)
    correctness[:, 3], cost[:, 3] = correctness[twin, 2], 3.0
    return replace(past, success=success, correctness=correctness, cost=cost)


@pytest.mark.parametrize("seed", range(3))
def test_a_floor_out_of_reach_buys_no_noise(seed: int) -> None:
    book, _ = book_of(noisy(600, seed), (PAIR,))
    curve, strongest = book.curve(), book.strongest()
    assert curve is not None and strongest is not None
    assert curve.top is not None and curve.cost_for(1.0) < 0.7 * curve.cost[-1]
    assert curve.reachable >= strongest[1], "what the strongest model reaches is kept"
    counts = curve.top.success
    assert counts[PAIR] == max(counts.values()) >= strongest[1]


@pytest.mark.parametrize("n", [80, 150, 300])
def test_little_history_keeps_what_the_strongest_model_reaches(n: int) -> None:
    book, _ = book_of(past_world(n, told=False), (PAIR,))
    curve, strongest = book.curve(), book.strongest()
    assert curve is not None and strongest is not None
    assert curve.reachable >= min(strongest[1], curve.realised[-1])


def test_without_plans_a_floor_out_of_reach_costs_what_it_did() -> None:
    book, _ = book_of(noisy(600), (PAIR,))
    curve = book.curve(MODELS)
    assert curve is not None and curve.top is None
    assert curve.cost_for(1.0) == curve.cost[-1]


def test_without_plans_the_book_is_as_it_was() -> None:
    past = past_world()
    book, plans = book_of(past, ())
    assert plans is None
    curve = book.curve()
    assert curve is not None
    assert np.array_equal(curve.cost, book_of(past, (PAIR,))[0].curve(MODELS).cost)  # type: ignore[union-attr]


def test_new_queries_have_the_columns_of_plans_that_were_learned_before() -> None:
    fit = fit_plan(Plan(("small", "mini"), "large"), past_world())
    _, plans = book_of(past_world(), (PAIR,))
    new = past_world(50, seed=9)
    found = with_plans(new, plans)
    assert fit is not None and found.success.shape == (50, 5)
    escapes, success = fit.forecast(MODELS, new.success)
    assert np.allclose(found.success[:, 4], success)
    assert np.allclose(found.cost[:, 4], COST[0] + COST[1] + escapes * COST[2])
    assert np.array_equal(found.outcomes[:, 4], new.outcome(fit.plan), equal_nan=True)
    assert with_plans(new, None).success.shape == (50, 4)


def test_the_curves_of_calls_with_plans_are_made_beforehand(monkeypatch) -> None:
    book, plans = book_of(past_world(told=False), (PAIR,))
    learned = Learned(PriorPredictor(), book=book, plans=plans)
    settings = parse_settings(
        {"quality_floor": 0.8, "agents": {"few/*": {"models": ["small", "mini"]}}}
    )
    store = MemoryWorkload()
    floors = Floors(settings, store, store)
    floors.prepare(learned, MODELS)
    monkeypatch.setattr("aios_eccos.floor.curve.price_curve", None)  # making one would fail
    everything = floors.price(Query("", agent="any"), [*MODELS, PAIR], 50.0, learned, {})
    few = floors.price(Query("", agent="few/one"), ["small", "mini"], 50.0, learned, {})
    assert everything.models == (*MODELS, PAIR) and few.models == ("small", "mini")


def test_a_certificate_counts_what_plans_would_have_come_to() -> None:
    book, plans = book_of(past_world(told=False), (PAIR,))
    new = past_world(400, seed=5, told=False)
    found = with_plans(new, plans)
    rows = found.success, found.outcomes, found.cost
    paper = Certifier(book.columns, *rows, book, "x").at(0.8)
    assert isinstance(paper, Certificate)
    chosen = choose(found.cost, found.success, paper.price)
    assert (chosen == 4).all()  # the plan serves all
    assert paper.successes[-1] <= paper.successes[0] == int(found.outcomes[:, 4].sum())
