"""A prompt's placeholder, said back, is no answer that two models could agree on."""

from __future__ import annotations

import pytest
from real_bodies import texts

from aios_eccos.verdicts.normal import normal_form


def test_a_placeholder_that_a_real_model_says_back_has_no_form() -> None:
    said = texts("a placeholder")
    assert len(said) == 2
    assert [normal_form(text) for text in said] == [None, None]


@pytest.mark.parametrize(
    "answer",
    ["Answer: N", "Answer: X.", "**Answer: X**", "Answer: [number]", "Answer: <your answer here>",
     "Answer: [Final Answer]", "Answer: ...", "Answer: ??", "Answer: ___", "Answer: $LETTER",
     '{"answer": "N"}', r"\boxed{[answer]}"],
)  # fmt: skip
def test_a_placeholder_in_any_writing_has_no_form(answer: str) -> None:
    assert normal_form(answer) is None


@pytest.mark.parametrize(
    ("answer", "form"),
    [("Answer: B", "choice:B"), ("Answer: x", "text:x"), ("Answer: letter", "text:letter"),
     ("Answer: n = 5", "number:5"), ("Answer: [1, 2]", "value:[1,2]"), ("Answer: M", "text:m")],
)  # fmt: skip
def test_what_only_looks_like_one_keeps_its_form(answer: str, form: str) -> None:
    assert normal_form(answer) == form


def test_what_real_models_say_around_an_answer_does_not_hide_it() -> None:
    assert [normal_form(text) for text in texts("a number behind a name")] == ["number:150"]
    assert [normal_form(text) for text in texts("a number behind prose")] == ["number:10"]
    (literal,) = texts("a literal in a block")
    assert normal_form(literal) == normal_form("{563: 555, 133: None}")
    assert [normal_form(text) for text in texts("cut off")] == [None]
