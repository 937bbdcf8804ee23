"""Hostile answers end in "wrong" after the limit, and the next answer is graded as ever."""

from __future__ import annotations

import time

import psutil
import pytest

from aios_eccos.collect.extract import split_thinking
from aios_eccos.collect.questions import Question, parse_question
from aios_eccos.collect.sandbox import Sandbox
from aios_eccos.errors import EccosError

MATH = Question(id="m", task="t", question="?", answer=r"\frac{1}{2}", grader="math")
PATTERN = {"type": "string", "pattern": "^(a+)+$"}
JSON = parse_question(
    {"id": "j", "task": "t", "question": "?", "answer": PATTERN, "grader": "json"}
)
NUMERIC = Question(id="n", task="t", question="?", answer="7", grader="numeric")
EXACT = Question(id="e", task="t", question="?", answer="Paris", grader="exact")
CHOICE = Question(
    id="c", task="t", question="?", answer="B", grader="choice", choices=("x", "y", "z")
)
EVERY = [MATH, JSON, NUMERIC, EXACT, CHOICE]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        assert sandbox.grade(NUMERIC, "7")
        yield sandbox


@pytest.fixture(scope="module")
def hasty():
    with Sandbox(limit_s=0.3) as sandbox:
        assert sandbox.grade(NUMERIC, "7")
        yield sandbox


def children() -> set[psutil.Process]:
    """The processes that this one has started, as long as they live."""
    return {child for child in psutil.Process().children() if child.status() != "zombie"}


def wrong_in_time(sandbox: Sandbox, question: Question, content: str) -> None:
    started = time.perf_counter()
    assert sandbox.grade(question, content) is False
    # The limit is one of computing; a busy machine takes longer for it, but not for ever.
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    "bomb",
    [
        r"$\boxed{9^{9^{9^{9}}}}$",
        r"$\boxed{10^{10^{10}}}$",
        r"$\boxed{(10^{10})!}$",
        r"$\boxed{\binom{10^{12}}{10^{6}}}$",
        r"$\boxed{\sum_{k=1}^{10^{9}} \sin(k^k)}$",
        r"$\boxed{(x+y+z+w+v)^{400}}$",
        r"$\boxed{\int_0^1 e^{\sin(x^{x^{x}})} dx}$",
        r"$\boxed{" + "{" * 300 + "1" + "}" * 300 + "}$",
        r"$\boxed{" + r"\frac{1}{" * 60 + "2" + "}" * 60 + "}$",
        r"$\boxed{" + "-" * 390 + "1}$",
    ],
)
def test_sympy_bombs(hasty, bomb):
    wrong_in_time(hasty, MATH, bomb)


def test_a_bomb_takes_the_whole_limit_and_the_next_answer_is_graded(sandbox):
    assert sandbox.grade(MATH, r"$\boxed{\sin(\pi/6)}$")
    wrong_in_time(sandbox, MATH, r"$\boxed{9^{9^{9^{9}}}}$")
    assert sandbox.grade(MATH, r"$\boxed{\sin(\pi/6)}$")


def test_a_bomb_after_a_bomb_waits_for_no_import(hasty):
    before = children()
    for _ in range(3):
        wrong_in_time(hasty, MATH, r"$\boxed{9^{9^{9^{9}}}}$")
    assert children() == before


def test_a_pattern_that_backtracks_for_ever(sandbox, caplog):
    wrong_in_time(sandbox, JSON, '"' + "a" * 60 + '!"')
    assert "'j' took too long" in caplog.text
    assert sandbox.grade(JSON, '"aaa"')


UNITS = ["a", " ", "\n", "9", "9,", "1 ", "{", "[", "<think>", "$", "answer: ", "answer is", "= "]
UNITS += ["\\boxed{", "\\frac{1}{", '"answer": "', "**", "####", "1/", "\\text{", "A ", "é", "½"]


@pytest.mark.parametrize("question", EVERY, ids=lambda q: q.grader)
def test_long_runs_of_anything(sandbox, question):
    for unit in [*UNITS, "```json\n"]:
        wrong_in_time(sandbox, question, unit * (100_000 // len(unit)))


@pytest.mark.parametrize("question", EVERY, ids=lambda q: q.grader)
@pytest.mark.parametrize("unit", ["a", "[", '{"answer": '])
def test_ten_megabytes(sandbox, question, unit):
    wrong_in_time(sandbox, question, unit * (10_000_000 // len(unit)))


@pytest.mark.parametrize("question", EVERY, ids=lambda q: q.grader)
def test_no_answer_at_all(sandbox, question):
    for content in ("", "\0", "\ud800", "{", '{"answer": ', "\\boxed", "$$", "Answer:"):
        wrong_in_time(sandbox, question, content)


def test_memory_is_limited(hasty):
    wrong_in_time(hasty, MATH, r"$\boxed{2^{2^{40}}}$")


def test_a_killed_child_is_replaced():
    others = children()
    with Sandbox() as sandbox:
        assert sandbox.grade(NUMERIC, "7")
        (child,) = children() - others
        child.kill()
        psutil.wait_procs([child], timeout=60)
        assert sandbox.grade(NUMERIC, "7") is False
        assert sandbox.grade(NUMERIC, "7")
    assert children() == others, "it ends with its sandbox"


def test_a_judges_question_is_not_for_the_sandbox(sandbox):
    judged = Question(id="q", task="t", question="?", answer="x", grader="judge")
    assert sandbox.grade(judged, "x") is False


def test_a_child_that_cannot_start_is_an_error_and_no_wrong_answer(monkeypatch):
    monkeypatch.setattr("aios_eccos.collect.sandbox._RUN", "raise SystemExit(3)")
    with Sandbox() as sandbox, pytest.raises(EccosError, match=r"does not start \(3\)"):
        sandbox.grade(NUMERIC, "7")


MARKS = ["<think>", "</think>", "[THINK]", "<think></think>", "Here is my thought process:", "</a>"]
MARKS += ["<|channel|>final<|message|>", "<|channel|>analysis<|message|>", "`<think>"]


@pytest.mark.parametrize("mark", MARKS)
def test_thoughts_are_split_off_in_time_that_grows_with_the_text(mark):
    """Outside of the sandbox: a reply is read before it is graded."""
    started = time.thread_time()
    split_thinking(mark * (2_000_000 // len(mark)))
    assert time.thread_time() - started < 2.0


def test_no_worker_outlives_its_sandbox():
    before = {*psutil.Process().children(recursive=True)}
    with Sandbox() as sandbox:
        assert sandbox.grade(NUMERIC, "7")
        made = {*psutil.Process().children(recursive=True)} - before
        assert len(made) >= 2
    assert not [each for each in made if psutil.pid_exists(each.pid)]
