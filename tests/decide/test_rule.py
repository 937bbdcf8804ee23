"""One rule decides: what serves, what calibrates the price, what certifies it, what explains it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimize_world import problems

from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem
from aios_eccos.decide.rule import STRONGEST, choose, net_cost, preferred
from aios_eccos.floor.certify import Certificate, certify
from aios_eccos.floor.curve import price_curve
from aios_eccos.values import Candidate, Price, Query


def served(cost: np.ndarray, success: np.ndarray, price: float) -> np.ndarray:
    """What serving chooses, one call at a time, with room everywhere."""
    return np.array(
        [
            solve_at_price(
                AssignmentProblem(
                    cost[[i]], success[[i]], np.ones(cost.shape[1]), np.ones((1, cost.shape[1]))
                ),
                price,
            ).choice[0]
            for i in range(len(cost))
        ]
    )


def test_serving_and_calibration_break_ties_alike() -> None:
    """Equal costs at no price: the curve replays the better column, which serves."""
    cost, success = np.ones((40, 2)), np.tile([0.5, 0.9], (40, 1))
    outcomes = np.tile([0.0, 1.0], (40, 1))
    curve = price_curve(success, outcomes, cost)
    pick = served(cost, success, float(curve.prices[0]))
    line = np.arange(len(pick))
    assert curve.promised[0] == pytest.approx(success[line, pick].mean())
    assert curve.realised[0] == pytest.approx(outcomes[line, pick].mean())


def test_serving_and_certification_break_ties_alike() -> None:
    """At 4 dollars a success both columns are worth the same: the cheaper serves, and it fails."""
    cost, success = np.tile([2.0, 1.0], (200, 1)), np.tile([0.75, 0.5], (200, 1))
    outcomes = np.tile([1.0, 0.0], (200, 1))
    paper = certify(success, outcomes, cost, 0.9, grid=(4.0,), data="")
    assert served(cost, success, 4.0).tolist() == [1] * 200
    assert not isinstance(paper, Certificate)


@pytest.mark.parametrize(
    ("cost", "success", "price", "wanted"),
    [
        ([2.0, 1.0, 1.0], [1.0, 0.5, 0.5], 2.0, 1),  # the cheaper, then in order
        ([1.0, 1.0], [0.5, 0.9], 0.0, 1),  # as cheap: the better
        ([0.0, 0.0], [0.5, 0.9], 0.0, 1),  # all free
        ([0.0, 0.0, 0.0], [0.5, 0.9, 0.9], math.inf, 1),
        ([0.3, 0.1 + 0.2], [0.5, 0.5], 1.0, 0),  # rounding is no difference
        ([0.1 + 0.2, 0.3], [0.5, 0.5], 1.0, 1),
        ([0.1 * 3, 0.0], [0.1, 0.0], 3.0, 1),  # a tie whose value is zero
        ([1e-15, 2e-15], [0.5, 0.5], 0.0, 0),  # however small
        ([1e300, 1e299], [1.0, 0.0], math.inf, 0),  # however large
        ([5.0, 1.0], [0.9, 0.8], math.inf, 0),  # no price: the strongest
        ([5.0, 1.0], [0.9, math.nan], math.inf, 0),
        ([5.0, 1.0], [0.9, math.nan], 0.0, 0),  # no forecast, no choice
        ([5.0, math.inf], [0.1, 0.9], 1e9, 0),  # nor at infinite cost
        ([5.0, math.nan], [0.1, 0.9], 1e9, 0),
        ([math.inf], [0.9], 1.0, -1),
        ([1.0], [math.nan], 1.0, -1),
    ],
)
def test_what_is_chosen(cost, success, price, wanted) -> None:
    assert choose(np.array([cost]), np.array([success]), price).tolist() == [wanted]


def test_a_closed_column_is_never_chosen_and_a_closed_row_gets_none() -> None:
    cost, success = np.ones((3, 2)), np.ones((3, 2))
    allowed = np.array([[False, True], [True, True], [False, False]])
    assert choose(cost, success, 1.0, allowed).tolist() == [1, 0, -1]
    assert np.isinf(net_cost(cost, success, math.inf, allowed)[~allowed]).all()


def test_a_closed_columns_cost_does_not_count() -> None:
    """Else a model that may not serve would change the choice between those that may."""
    cost, success = np.array([[1.0, 2.0, 1e12]]), np.array([[0.5, 0.5 + 1e-4, 1.0]])
    open_two = np.array([True, True, False])
    assert choose(cost, success, math.inf, open_two) == choose(cost[:, :2], success[:, :2], np.inf)


@settings(max_examples=80, deadline=None)
@given(problems(floors=(0, 0), limits=False), st.floats(0, 10), st.integers(-40, 40))
def test_the_unit_of_money_changes_nothing(
    problem: AssignmentProblem, price: float, power: int
) -> None:
    args = (problem.success, price, problem.allowed)
    choice = choose(problem.cost, *args)
    scaled = choose(problem.cost * 10.0**power, problem.success, price * 10.0**power, args[2])
    value = net_cost(problem.cost, *args)
    line = np.flatnonzero(choice >= 0)
    assert (scaled[choice < 0] == -1).all()
    assert value[line, scaled[line]] == pytest.approx(value[line, choice[line]], abs=1e-9)
    # A call that is decided alone gets what it gets in a batch.
    alone = [
        int(choose(problem.cost[[i]], problem.success[[i]], price, problem.allowed[[i]])[0])
        for i in range(problem.n)
    ]
    assert alone == choice.tolist()


def test_a_price_beyond_the_cap_is_the_cap() -> None:
    cost, success = np.array([[1.0, 3.0]]), np.array([[0.5, 0.9]])
    assert net_cost(cost, success, 1e300).tolist() == net_cost(cost, success, np.inf).tolist()
    assert net_cost(cost, success, np.inf).tolist() == [[1 - STRONGEST * 1.5, 3 - STRONGEST * 2.7]]


def test_a_call_prefers_what_would_serve_it_alone() -> None:
    candidate = Candidate(
        query=Query("?"),
        models=("dear", "cheap", "closed"),
        success=np.array([0.75, 0.5, 1.0]),
        output_tokens=np.ones(3),
        support=np.ones(3),
        cost=np.array([2.0, 1.0, 0.0]),
        allowed=np.array([True, True, False]),
        novelty=0.0,
        worth=Price(floor=0.5, value=4.0),
    )
    assert preferred(candidate) == 1, "both are worth the same; the cheaper serves"
