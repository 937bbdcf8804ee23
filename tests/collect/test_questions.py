"""Question files: what is refused and how it is named; and the shipped set, every sum checked."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations, product

import pytest

from aios_eccos.collect.choices import LETTERS
from aios_eccos.collect.grade import grade
from aios_eccos.collect.numbers import parse_whole
from aios_eccos.collect.questions import SHIPPED, load_questions, parse_question
from aios_eccos.errors import DataError

GOOD = {"id": "q", "task": "t", "question": "?", "answer": "7", "grader": "numeric"}
CHOICE = {**GOOD, "grader": "choice", "choices": ["x", "y"], "answer": "B"}


def derangements(n: int) -> int:
    return sum(all(p[i] != i for i in range(n)) for p in permutations(range(n)))


def paths(n: int) -> int:
    """Lattice paths from (0, 0) to (n, n) that stay on or below the diagonal."""
    ways = {(0, 0): 1}
    for right, up in product(range(n + 1), repeat=2):
        if up <= right and (right, up) != (0, 0):
            ways[right, up] = ways.get((right - 1, up), 0) + ways.get((right, up - 1), 0)
    return ways[n, n]


def coefficient(power: int, *factors: tuple[list[int], int]) -> int:
    """The coefficient of x^power in a product of polynomials (constant term first) to powers."""
    total = [1]
    for polynomial, times in factors:
        for _ in range(times):
            grown = [0] * (len(total) + len(polynomial) - 1)
            for i, j in product(range(len(total)), range(len(polynomial))):
                grown[i + j] += total[i] * polynomial[j]
            total = grown
    return total[power]


def recurrence(n: int) -> int:
    a, b = 2, 5
    for _ in range(n):
        a, b = b, 5 * b - 6 * a
    return a


def balls() -> Fraction:
    draws = list(combinations("RRRRRBBBBGGG", 3))
    return Fraction(sum(len(set(d)) == 3 for d in draws), len(draws))


DICE = list(product(range(1, 7), repeat=2))
#: Every answer, computed another way than by whoever wrote the question.
SUMS = {
    "math-easy": [
        6 * 17,
        84 - 39,
        Fraction(3, 4) * 60,
        Fraction(15, 100) * 200,
        2 * (12 + 7),
        Fraction(4 + 8 + 9 + 11, 4),
        next(x for x in range(100) if 5 * x - 7 == 28),
        60 * Fraction(5, 2),
        2**7,
        Fraction(1, 2) + Fraction(1, 3),
        (11 * 60 + 10) - (9 * 60 + 35),
        180 - 52 - 71,
        80 * Fraction(3, 4),
        47 % 6,
        Fraction(15, 2) / 3 * 5,
        math.gcd(36, 60),
        Fraction(10 * 7, 2),
        Fraction(6, 10) * Fraction(5, 10),
        list(range(5, 100, 4))[9],
        Fraction(1, 4),
    ],
    "math-medium": [
        next(x for x in range(1, 100) if x * x - 5 * x - 24 == 0),
        next(x * y for x, y in product(range(50), repeat=2) if 3 * x + 2 * y == 19 and x - y == 3),
        Fraction(round(1200 * Fraction(105, 100) ** 3 * 100), 100),
        len(list(combinations(range(9), 3))),
        sum(range(1, 251)),
        Fraction(sum(a + b == 8 for a, b in DICE), 36),
        1 / (Fraction(1, 6) + Fraction(1, 4)),
        math.lcm(18, 24, 30),
        round(math.log2(32) + math.log(81, 3)),
        math.isqrt(20**2 + 21**2),
        sum(n % 4 == 0 or n % 6 == 0 for n in range(1, 301)),
        len(set(permutations("LEVEL"))),
        3 * 3**2 - 8 * 3 + 1,
        Fraction(6 * 30 + 4 * 80, 10),
        2 * (4**2 - 1) + 3,
        180 * (12 - 2),
        sum(len(set(str(n))) == 3 for n in range(100, 1000)),
        240 / (Fraction(120, 60) + Fraction(120, 40)),
        len(str(math.factorial(50))) - len(str(math.factorial(50)).rstrip("0")),
        next(x for x in range(10) if 3 ** (2 * x - 1) == 243),
    ],
    "math-hard": [
        pow(7, 222, 100),
        sum(75600 % n == 0 for n in range(1, 75601)),
        sum((n * n + n) % 30 == 0 for n in range(1, 1001)),
        sum(sum(c) == 10 for c in product(range(1, 8), repeat=4)),
        6 + 6**2,  # E = 1 + 5/6 E + 1/6 (1 + 5/6 E)
        coefficient(5, ([1, 2], 7), ([1, -1], 3)),
        sum("11" not in f"{n:012b}" for n in range(2**12)),
        sum(Fraction(1, k * (k + 1)) for k in range(1, 100)),
        1,  # (x - 1) e^x from 0 to 1
        paths(8),
        derangements(7),
        next(n for n in range(1, 1000) if (n % 3, n % 5, n % 7) == (2, 3, 2)),
        Fraction(math.isqrt(21 * 8 * 7 * 6), 21),
        2 * (4 * 1 - -2 * 0) - -1 * (1 * 1 - -2 * 5) + 3 * (1 * 0 - 4 * 5),
        sum("111" in f"{n:08b}" for n in range(256)),
        recurrence(7),
        sum(math.gcd(n, 210) == 1 for n in range(1, 1001)),
        4**2 - 2 * 6,
        balls(),
        math.isqrt(25 * (3**2 + 4**2)),
    ],
}


@pytest.fixture(scope="module")
def shipped():
    return load_questions([SHIPPED])


def test_the_shipped_set_has_120_questions_in_three_grades(shipped):
    tasks = Counter(question.task for question in shipped)
    assert tasks == {
        f"{kind}-{level}": 20
        for kind in ("knowledge", "math")
        for level in ("easy", "medium", "hard")
    }
    assert len({question.question for question in shipped}) == 120
    # The first N questions are a fair sample.
    assert len({question.task for question in shipped[:6]}) == 6


@pytest.mark.parametrize("task", SUMS)
def test_every_sum_is_right(shipped, task):
    answers = [q.answer for q in shipped if q.task == task]
    assert len(answers) == len(SUMS[task]) == 20
    for answer, computed in zip(answers, SUMS[task], strict=True):
        assert parse_whole(answer).value == computed


def test_every_reference_answer_is_graded_right_and_others_wrong(shipped):
    for question in shipped:
        for answer in (question.answer, *question.aliases):
            assert grade(question, f"I am sure.\nAnswer: {answer}"), question.id
        if question.choices:
            text = question.choices[LETTERS.index(question.answer)]
            assert grade(question, f"The answer is {text}."), question.id
        for wrong in ("I do not know.", "Answer: 123456789", "Answer: nothing", ""):
            assert not grade(question, wrong), question.id


def test_right_choices_are_spread_over_the_letters(shipped):
    letters = Counter(q.answer for q in shipped if q.grader == "choice")
    assert min(letters[x] for x in "ABCD") >= 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"grader": "vibes"}, "grader = 'vibes': wanted one of choice"),
        ({"answr": "7"}, "answr: unknown key; did you mean 'answer'"),
        ({"zzz": "7"}, "zzz: unknown key"),
        ({"question": " "}, "question: wanted a text"),
        ({"id": 7}, "id: wanted a text"),
        ({"answer": ""}, "answer: empty"),
        ({"answer": ["7"]}, "answer: wanted a text or a number"),
        ({"answer": True}, "answer: wanted a text or a number"),
        ({"answer": "seven"}, "answer = 'seven': wanted a number"),
        ({"tolerance": -1}, "tolerance"),
        ({"aliases": "7"}, "aliases: wanted a list"),
        ({"choices": ["a", "b"]}, "choices: only for grader choice"),
        ({"grader": "choice"}, "choices: wanted 2 to 10"),
        ({"grader": "choice", "choices": ["x", "x"]}, "two are the same"),
        ({"grader": "choice", "choices": ["x", "y"], "answer": "C"}, "answer = 'C'"),
        ({"grader": "json"}, "wanted a JSON Schema"),
        ({"grader": "json", "answer": {"type": "int"}}, "no valid JSON Schema"),
        ({"grader": "json", "answer": {"$ref": "http://x/y"}}, "within the schema"),
        ({"grader": "json", "answer": {"items": [{"$ref": "file:x"}]}}, "answer"),
    ],
)
def test_a_malformed_question_is_named(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_question({**GOOD, **change})


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(key):
    with pytest.raises(ValueError, match=f"{key}: missing"):
        parse_question({k: v for k, v in GOOD.items() if k != key})


def test_a_choice_may_be_given_by_its_text_and_a_number_as_a_number():
    assert parse_question({**CHOICE, "answer": "y"}).answer == "B"
    assert parse_question({**GOOD, "answer": 7}).answer == "7"
    assert parse_question(CHOICE).query == "?\nA. x\nB. y"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["{"], r"q\.jsonl:1: "),
        ([json.dumps(GOOD), "", json.dumps(GOOD)], r"q\.jsonl:3: id 'q' stands twice"),
        ([json.dumps(GOOD), "[1]"], r"q\.jsonl:2: wanted a JSON object"),
        (["[" * 100_000], r"q\.jsonl:1: "),
        ([], "no questions"),
    ],
)
def test_a_bad_file_is_named_by_line(tmp_path, lines, complaint):
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        load_questions([path])


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match="gone"):
        load_questions([tmp_path / "gone"])
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="latin"):
        load_questions([tmp_path / "latin"])


def test_math_without_math_verify_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({**GOOD, "grader": "math"}), encoding="utf-8")
    assert load_questions([path])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install math-verify"):
        load_questions([path])


SEPARATORS = {"U+2028": "\u2028", "U+2029": "\u2029", "NEL": "\x85", "no-break": "\u00a0"}


@pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS)
@pytest.mark.parametrize(("start", "end"), [("", "\n"), ("\ufeff", "\r\n"), ("", "")])
def test_only_line_feeds_end_a_question(tmp_path, separator, start, end):
    row = {"id": "a", "task": "t", "question": f"one{separator}two?", "answer": "1"}
    line = json.dumps({**row, "grader": "exact"}, ensure_ascii=False)
    path = tmp_path / "questions.jsonl"
    path.write_bytes(f"{start}{line}{end}".encode())
    (question,) = load_questions([path])
    assert question.question == f"one{separator}two?"
