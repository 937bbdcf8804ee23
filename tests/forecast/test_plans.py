"""What plans would come to, from what their models would and what past answers had in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plans_world import MODELS, past_world

from aios_eccos.forecast.plans import FEWEST, PRIOR_AGREED, Past, PlanFits, fit_plan, unseen
from aios_eccos.values import Plan

PAIR = Plan(("small", "mini"), "large")


def of_answers(answers: list[list[int]], right: list[list[float]]) -> Past:
    keys = np.array(answers)
    chance = np.full(keys.shape, 0.5)
    return Past(MODELS[:3], chance, np.array(right, dtype=float), chance, keys)


def test_equal_answers_agree_and_an_answer_without_a_key_never_does() -> None:
    past = of_answers(
        [[7, 7, 9], [7, 8, 9], [0, 0, 9], [0, 7, 7], [0, 0, 0]],
        [[1, 1, 0], [0, 1, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]],
    )
    assert past.agreement(PAIR)[:4].tolist() == [1, 0, 0, 0]
    assert np.isnan(past.agreement(PAIR)[4])  # no answer of the query was kept


def test_a_plan_comes_to_its_first_member_where_answers_agree_and_to_the_escape_elsewhere() -> None:
    nan = float("nan")
    past = of_answers(
        [[7, 7, 9], [7, 8, 9], [7, 7, 9], [7, 8, 9], [7, 7, 0]],
        [[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0], [1, nan, nan]],
    )
    assert past.outcome(PAIR)[:4].tolist() == [1, 1, 0, 0]
    assert np.isnan(past.outcome(PAIR)[4])  # nobody knows whether the second answered
    assert past.gains(PAIR)[[0, 2]].tolist() == [1, -1]
    assert np.isnan(past.gains(PAIR)[[1, 3, 4]]).all()


def test_the_chance_of_agreement_follows_the_query() -> None:
    past = past_world()
    fit = fit_plan(PAIR, past)
    assert fit is not None
    escapes, success = fit.forecast(MODELS, past.success)
    hard = past.success[:, 0] < 0.5
    for rows in (hard, ~hard):
        assert escapes[rows].mean() == pytest.approx(
            (past.agreement(PAIR)[rows] == 0).mean(), abs=0.03
        )
    assert success.mean() == pytest.approx(float(past.outcome(PAIR).mean()), abs=0.03)


def test_forecasts_of_past_queries_have_not_seen_them() -> None:
    past = past_world(200)
    found = unseen(PAIR, past)
    flipped = past.answers.copy()
    flipped[3] = [1, 1, 1, 1] if past.agreement(PAIR)[3] == 0 else [1, 2, 3, 4]
    again = unseen(PAIR, replace(past, answers=flipped))
    assert found is not None and again is not None
    assert again[0][3] == found[0][3]
    assert not np.array_equal(again[0], found[0])


def test_too_few_compared_queries_make_no_plan() -> None:
    past = past_world(FEWEST)
    assert fit_plan(PAIR, past) is not None
    assert fit_plan(PAIR, past_world(FEWEST - 1)) is None
    assert fit_plan(PAIR, past_world(keyed=False)) is None
    assert unseen(PAIR, past) is None  # four fifths of them are fewer


@pytest.mark.parametrize("seed", range(3))
def test_members_that_always_agree_and_never_do_are_forecast_too(seed: int) -> None:
    past = past_world(100, seed)
    always = fit_plan(PAIR, replace(past, answers=np.ones_like(past.answers)))
    never = fit_plan(PAIR, replace(past, answers=np.tile(np.arange(1, 5), (100, 1))))
    assert always is not None and never is not None
    assert (always.forecast(MODELS, past.success)[0] < 0.05).all()
    escapes, success = never.forecast(MODELS, past.success)
    assert (escapes > 0.95).all()
    assert success == pytest.approx(past.success[:, 2], abs=0.01)


def test_a_gain_on_few_queries_is_hardly_believed() -> None:
    past = past_world(FEWEST)
    better = np.where(past.agreement(PAIR) == 1, 0.0, past.correctness[:, 2])
    success = past.success * [1, 1, 0.05, 1]  # as it comes to
    had = np.column_stack([past.correctness[:, :2], better, better])
    past = replace(past, success=success, correctness=had)
    fit = fit_plan(PAIR, past)
    assert fit is not None
    assert 0 < fit.mended < FEWEST / (FEWEST + PRIOR_AGREED)


def test_success_stays_a_chance_and_within_what_agreement_allows() -> None:
    past = past_world()
    fit = fit_plan(PAIR, past)
    assert fit is not None
    sure = replace(fit, mended=1.0)
    single = np.array([[0.5, 0.5, 0.99, 0.5], [0.5, 0.5, 0.01, 0.5]])
    escapes, success = sure.forecast(MODELS, single)
    assert success.tolist() == [
        pytest.approx(0.99 + 0.01 * (1 - escapes[0])),
        pytest.approx(0.01 + 0.99 * (1 - escapes[1])),
    ]


def test_plans_are_forecast_together_with_the_least_support_of_their_models() -> None:
    past = past_world()
    fits = [fit_plan(plan, past) for plan in (PAIR, Plan(("small", "poor"), "large"))]
    plans = PlanFits(tuple(fit for fit in fits if fit is not None))
    found = plans.of(MODELS, past.success[:5], np.tile([3.0, 9.0, 5.0, 1.0], (5, 1)))
    assert found.plans == plans.plans and len(found.plans) == 2
    assert found.success.shape == found.escapes.shape == (5, 2)
    assert found.support[0].tolist() == [3.0, 1.0]
    assert PlanFits(()).of(MODELS, past.success, past.success).success.shape == (600, 0)
