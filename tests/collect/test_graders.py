"""Every answer of the table is graded right."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from answers import ANSWERS, graded

from aios_eccos.collect.extract import final_part


@pytest.mark.parametrize(
    "case", ANSWERS, ids=[f"{i}-{case['grader']}" for i, case in enumerate(ANSWERS)]
)
def test_an_answer_is_graded_right(case):
    assert graded(case) is case["right"], case["source"]


def test_the_table_holds_every_kind_and_answers_of_both_grades():
    assert len(ANSWERS) >= 500
    assert min(Counter(case["kind"] for case in ANSWERS).values()) >= 25
    assert sum(case["right"] is False for case in ANSWERS) >= 200


def test_a_channel_that_breaks_off_takes_time_linear_in_its_length():
    began = time.thread_time()
    final_part("<|channel|>" + "a" * 200_000)
    assert time.thread_time() - began < 1.0
