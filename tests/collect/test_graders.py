"""Every answer of the table is graded right."""

from __future__ import annotations

from collections import Counter

import pytest
from answers import ANSWERS, graded


@pytest.mark.parametrize(
    "case", ANSWERS, ids=[f"{i}-{case['grader']}" for i, case in enumerate(ANSWERS)]
)
def test_an_answer_is_graded_right(case):
    assert graded(case) is case["right"], case["source"]


def test_the_table_holds_every_kind_and_answers_of_both_grades():
    assert len(ANSWERS) >= 500
    assert min(Counter(case["kind"] for case in ANSWERS).values()) >= 25
    assert sum(case["right"] is False for case in ANSWERS) >= 200
