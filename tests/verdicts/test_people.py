"""People's verdicts on audited calls: what they refute of the judge's, and what that corrects."""

from __future__ import annotations

import numpy as np
import pytest

from aios_eccos.floor.earn import Audited
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.records import Outcome, Record
from aios_eccos.values import Query
from aios_eccos.verdicts.audits import record_of
from aios_eccos.verdicts.judge import MIN_LABELED
from aios_eccos.verdicts.people import Checked, checked, keep_checked, read_checked
from aios_eccos.workload.memory import MemoryWorkload

VECTOR = np.array([[1.0, 0.0]], dtype=np.float32)


class Calls:
    """A history of audited calls that the model `large` has served."""

    def __init__(self) -> None:
        self.history = MemoryHistory(2)
        self._number = 0

    def audit(self, verdict: int, people: float | None = None, copy: float | None = None) -> None:
        """One call; what people say of its answer, and of the copy's model on it."""
        self._number += 1
        call = f"c{self._number}"
        told = Audited(call, "", "95 %", 0.05, "large", "small", {"small": verdict})
        audit = record_of(told, Query("what?", id=call), {}, {})
        outcomes = (Outcome("large", people, 10),)
        if copy is not None:
            outcomes += (Outcome("small", copy),)
        self.history.add([audit], VECTOR)
        self.history.add([Record(call, "what?", 5, outcomes, source="live")], VECTOR)

    def checked(self) -> Checked:
        return checked(self.history.audited())


@pytest.mark.parametrize(
    ("verdict", "people", "copy", "counted"),
    [
        (-1, 1.0, None, (0, 0, 1, 0)),
        (-1, 0.0, None, (0, 0, 1, 1)),
        (-1, 0.4, None, (0, 0, 1, 1)),
        (1, 1.0, None, (1, 1, 0, 0)),
        (1, 0.0, None, (1, 0, 0, 0)),
        (0, 1.0, None, (0, 0, 0, 0)),
        (0, 0.0, None, (0, 0, 0, 0)),
        (-1, 1.0, 1.0, (0, 0, 1, 1)),
        (-1, 1.0, 0.0, (0, 0, 1, 0)),
        (1, 0.0, 0.0, (1, 1, 0, 0)),
        (1, 0.0, 1.0, (1, 0, 0, 0)),
    ],
)
def test_what_people_refute_is_counted_either_way(
    verdict: int, people: float, copy: float | None, counted: tuple[int, ...]
) -> None:
    calls = Calls()
    calls.audit(verdict, people, copy)
    found = calls.checked()
    assert found.labeled == 1
    seen = found.better, found.better_wrong, found.worse, found.worse_wrong
    assert seen == counted


def test_an_audit_on_which_nobody_has_spoken_counts_for_the_loss_alone() -> None:
    calls = Calls()
    for verdict in (-1, -1, 0, 1):
        calls.audit(verdict)
    (small,) = calls.checked().models
    assert (small.audits, small.loss, small.labeled) == (4, 0.25, 0)
    assert small.corrected is None
    assert calls.checked().labeled == 0


def test_few_verdicts_of_people_correct_nothing() -> None:
    calls = Calls()
    for _ in range(MIN_LABELED - 1):
        calls.audit(-1, 0.0)
    assert calls.checked().models[0].corrected is None
    calls.audit(-1, 0.0)
    assert calls.checked().models[0].corrected == pytest.approx(0.0, abs=0.01)


def test_a_judge_that_finds_too_much_worse_is_corrected_within_the_interval() -> None:
    """Of 400 audits people judge 100; in a third of `worse` the reference was wrong itself."""
    rng, calls = np.random.default_rng(0), Calls()
    truth = []
    for number in range(400):
        worse = rng.random() < 0.3
        wrong = worse and rng.random() < 1 / 3
        truth.append(float(worse and not wrong))
        people = None if number % 4 else float(not wrong)
        calls.audit(-1 if worse else 0, people)
    (small,) = calls.checked().models
    assert (small.audits, small.labeled) == (400, 100)
    assert small.loss > np.mean(truth) + 0.05
    assert small.low is not None
    assert small.high is not None
    assert small.corrected is not None
    assert small.low < np.mean(truth) < small.high
    assert abs(small.corrected - np.mean(truth)) < small.loss - np.mean(truth)


def test_a_verdict_that_comes_before_its_audit_counts_like_one_that_comes_after() -> None:
    early, late = Calls(), Calls()
    early.audit(-1, 0.0)
    late.audit(-1)
    late.history.judge("c1", "large", 0.0)
    assert early.checked() == late.checked()
    # It is taken back like any verdict.
    late.history.judge("c1", "large", 1.0)
    assert late.checked().worse_wrong == 0


def test_an_audit_against_another_model_is_compared_with_that_one() -> None:
    calls = Calls()
    told = Audited("x", "", "95 %", 0.05, "former", "large", {"large": -1})
    calls.history.add([record_of(told, Query("what?", id="x"), {}, {})], VECTOR)
    calls.history.add([Record("x", "what?", 5, (Outcome("former", 0.0, 9),))], VECTOR)
    found = calls.checked()
    assert [each.model for each in found.models] == ["large"]
    assert (found.worse, found.worse_wrong) == (1, 1)


@pytest.mark.parametrize("note", ["", "no JSON", "[]", "5", '{"labeled": 1, "other": 2}'])
def test_a_note_of_another_version_is_none(note: str) -> None:
    ledger = MemoryWorkload()
    assert read_checked(ledger) == Checked()
    ledger.swap_note("judge:checked", note)
    assert read_checked(ledger) == Checked()


def test_what_was_found_is_kept_for_whoever_shows_it() -> None:
    calls, ledger = Calls(), MemoryWorkload()
    for people in (0.0, 1.0) * MIN_LABELED:
        calls.audit(-1, people)
    keep_checked(ledger, calls.checked())
    assert read_checked(ledger) == calls.checked()
