"""Answers of real small models to the shipped questions, word for word, and what they are worth."""

from __future__ import annotations

import pytest

from aios_eccos.collect.grade import grade
from aios_eccos.collect.questions import SHIPPED, load_questions

QUESTIONS = {question.id: question for question in load_questions([SHIPPED])}


@pytest.mark.parametrize(
    ("question", "said", "right"),
    [
        # SmolLM2 135M says the choices back, and none of them.
        ("knowledge-easy-01", "A. Venus\nB. Mars\nC. Mercury\nD. Jupiter", False),
        ("knowledge-medium-01", "The Berlin Wall fell on January 20, 2014.", False),
        (
            "math-easy-01",
            "4. Now, we can find the answer by multiplying the number of pencils in each box by 17."
            "\n5. So, the answer is 6 * 17 = 96 pencils.\n\nThe answer is 96.",
            False,
        ),
        # Qwen2.5-Coder 0.5B says the prompt's placeholder back, or a product that it leaves so.
        ("knowledge-medium-01", "Answer: N", False),
        ("math-easy-01", "Answer: N = 17 * 6", False),
        ("knowledge-medium-02", "Answer: Gabriel García Márquez", True),
        # Qwen2.5-Coder 1.5B
        ("knowledge-medium-01", "Answer: 1989", True),
    ],
)
def test_what_real_models_said_is_graded_as_a_reader_would(
    question: str, said: str, right: bool
) -> None:
    assert grade(QUESTIONS[question], said) is right
