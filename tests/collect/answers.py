"""The table of answers: what each is graded, beside what is right.

`python tests/collect/answers.py` prints precision and recall of `right` over the table, and the
answers that are graded otherwise.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from aios_eccos.collect.extract import split_thinking
from aios_eccos.collect.grade import grade
from aios_eccos.collect.prompts import read_verdict
from aios_eccos.collect.questions import Question

LINES = (Path(__file__).parent / "answers.jsonl").read_text("utf-8").split("\n")
ANSWERS = [json.loads(line) for line in LINES if line]


def graded(case):
    """True or False, or None where the answer is missing (nothing but thoughts, no verdict)."""
    if case["grader"] == "verdict":
        return read_verdict(case["answer"])
    given = {key: tuple(case.get(key, ())) for key in ("choices", "aliases")}
    question = Question(
        id="case",
        task="t",
        question="?",
        answer=case["reference"],
        grader=case["grader"],
        tolerance=case.get("tolerance"),
        schema=case.get("schema"),
        **given,
    )
    right = grade(question, case["answer"])
    missing = case["answer"].strip() and not split_thinking(case["answer"])[1].strip()
    assert not (right and missing)
    return None if missing else right


def rates(pairs):
    """Precision and recall of `right` over (graded, right) pairs."""
    both = sum(got is True and right is True for got, right in pairs)
    return both / sum(got is True for got, _ in pairs), both / sum(r is True for _, r in pairs)


if __name__ == "__main__":
    results = [(graded(case), case["right"]) for case in ANSWERS]
    for case, (got, right) in zip(ANSWERS, results, strict=True):
        if got is not right:
            print(f"{case['grader']} {case['reference']!r} {case['answer']!r}: {got}, not {right}")
    print(
        f"{len(results)} answers: precision {rates(results)[0]:.3f}, recall {rates(results)[1]:.3f}"
    )
    for kind, count in Counter(case["kind"] for case in ANSWERS).items():
        print(f"{count:4} {kind}")
    sys.exit(any(got is not right for got, right in results))
