"""Who is served when slots are too few."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from aios_eccos.decide.live.servable import servable


def matched(allowed: np.ndarray, capacity: np.ndarray) -> int:
    """Size of a largest matching, by scipy."""
    slots = np.repeat(np.arange(len(capacity)), capacity)
    if not len(slots) or not len(allowed):
        return 0
    weight = allowed[:, slots].astype(float)
    rows, columns = linear_sum_assignment(weight, maximize=True)
    return int(weight[rows, columns].sum())


@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 2**32 - 1), st.floats(0.1, 1))
def test_earliest_rows_first_and_as_many_as_fit(n: int, m: int, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    allowed = rng.random((n, m)) < density
    capacity = rng.integers(0, 4, m)
    served, full = servable(allowed, capacity)
    wanted = np.zeros(n, dtype=bool)  # the definition: take each row in turn if all still fit
    for row in range(n):
        wanted[row] = True
        if matched(allowed[wanted], capacity) < wanted.sum():
            wanted[row] = False
    assert (served == wanted).all()
    assert served.sum() == matched(allowed, capacity)
    assert (full == allowed[~served].any(axis=0)).all()


def test_many_rows_of_many_patterns() -> None:
    rng = np.random.default_rng(0)
    allowed = rng.random((20_000, 8)) < 0.5
    capacity = rng.integers(100, 1_000, 8)
    served, _ = servable(allowed, capacity)
    assert served.sum() == capacity.sum()
