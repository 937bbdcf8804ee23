"""Relative verdicts become correctness, and can be read from it again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aios_eccos.verdicts.relative import compare, imputed

ROWS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([-1, 0, 1]))


def test_equal_forms_are_as_good_and_everything_else_is_for_a_judge() -> None:
    assert compare("number:5", "number:5") == 0
    assert compare("number:5", "number:6") is None
    assert compare(None, None) is None
    assert compare("number:5", None) is None


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ({}, {"ref": 1.0}),
        ({"a": 0, "b": -1}, {"ref": 1.0, "a": 1.0, "b": 0.0}),
        ({"a": 1, "b": 0}, {"ref": 0.5, "a": 1.0, "b": 0.5}),
        ({"a": 1, "b": -1}, {"ref": 0.5, "a": 1.0, "b": 0.0}),
        ({"ref": 0, "a": 0}, {"ref": 1.0, "a": 1.0}),
    ],
)
def test_correctness_that_is_imputed(relative: dict[str, int], expected: dict[str, float]) -> None:
    assert imputed(relative, "ref") == expected


@given(ROWS)
def test_every_verdict_can_be_read_from_its_row_again(relative: dict[str, int]) -> None:
    found = imputed(relative, "ref")
    assert all(0 <= correctness <= 1 for correctness in found.values())
    signs = {m: (found[m] > found["ref"]) - (found[m] < found["ref"]) for m in relative}
    assert signs == relative
