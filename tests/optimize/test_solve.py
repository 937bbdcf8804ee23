"""The assignment against brute force and scipy's MILP, and what over-constrained problems get."""

import pytest

from aios_eccos.optimize.problem import Status, one_floor
from aios_eccos.optimize.solve import solve


def test_picks_the_cheaper_model_where_it_is_good_enough() -> None:
    problem = one_floor([[1.0, 10.0], [1.0, 10.0]], [[0.9, 1.0], [0.2, 0.9]], 0.9)
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert solution.choice.tolist() == [0, 1]
    assert solution.cost == pytest.approx(11.0)
