"""The graders against tables of cases: fixed ones from the public formats' rules, and our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aios_eccos.collect.grade import grade
from aios_eccos.collect.questions import parse_question

HERE = Path(__file__).parent


def load(name):
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


CASES = load("cases_fixed.jsonl") + load("cases_more.jsonl")


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c['grader']}" for i, c in enumerate(CASES)])
def test_case(case):
    row = {"id": "case", "task": "t", "question": "?", "answer": case["answer"]}
    optional = {k: case[k] for k in ("choices", "aliases", "tolerance") if k in case}
    question = parse_question({**row, "grader": case["grader"], **optional})
    assert grade(question, case["content"]) is case["correct"], case["rule"]
