"""Which message of a call asks, and what is read of it."""

from __future__ import annotations

import pytest

from aios_eccos.forecast.query_text import TemplateFilter, asked
from aios_eccos.values import Query, Reading

TASK = "Compute the greatest common divisor of 1071 and 462."
SYSTEM = f"You are an orchestrator.\n\n## Main Task\n{TASK}\n\n## Workers\nnone"
STEP = "At step 1, you need to: think about the numbers."


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def system(content: object) -> dict[str, object]:
    return {"role": "system", "content": content}


def assistant(content: object) -> dict[str, object]:
    return {"role": "assistant", "content": content}


RESULT = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "21"}]}
CASES: dict[str, tuple[list[object], str, str]] = {
    "the last user message": (
        [user("Who wrote Emma?"), assistant("Austen."), user(TASK)],
        TASK,
        "last user message",
    ),
    "a tool's result behind it": (
        [user(TASK), assistant(None), {"role": "tool", "content": "21"}],
        TASK,
        "last user message",
    ),
    "a tool's result that the user sends": (
        [user(TASK), assistant("I ask a tool."), user([RESULT])],
        TASK,
        "last user message",
    ),
    "text beside a tool's result": (
        [user(TASK), assistant(""), user([RESULT, {"type": "text", "text": "Continue."}])],
        TASK,
        "user message before",
    ),
    "a step of AIOS's own agents": (
        [system("You solve problems."), user(TASK), user("[Thinking]: The workflow is []."),
         user(STEP)],
        TASK,
        "user message before",
    ),
    "a task in the system message": (
        [system(SYSTEM), user("Begin!")],
        SYSTEM,
        "system message",
    ),
    "a system message alone": ([system(SYSTEM)], SYSTEM, "system message"),
    "nothing but an assistant": ([assistant("Hello.")], "Hello.", "last message"),
    "nothing but going on": ([user("go on")], "go on", "last message"),
    "steps that are the question itself": (
        [system(SYSTEM), user("Step 1: weigh 3 kg. Step 2: take half. What is left?")],
        "Step 1: weigh 3 kg. Step 2: take half. What is left?",
        "last user message",
    ),
    "nothing": ([user(None), "no message", {}], "", "last message"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_message_that_asks_is_found(name: str) -> None:
    messages, text, source = CASES[name]
    assert asked(messages) == (text, source)


@pytest.mark.parametrize(
    "word",
    ["continue", "Please continue.", "go on", "OK, go ahead", "yes", "Yes, please proceed!", "next",
     "thanks, now try again", "继续", "Weiter", "keep going with it", "...", "start now"],
)  # fmt: skip
def test_a_message_that_goes_on_asks_nothing_itself(word: str) -> None:
    assert asked([user(TASK), assistant("21?"), user(word)])[0] == TASK


@pytest.mark.parametrize(
    "word",
    ["Continue the series 1, 1, 2, 3, 5.", "Start a timer for me", "Yes or no: is 7 prime?", "why?",
     "Next, name three rivers.", "now now now now " * 2_000, "and in French?"],
)  # fmt: skip
def test_a_message_that_asks_is_its_own_question(word: str) -> None:
    assert asked([user(TASK), assistant("21."), user(word)])[0] == word


def test_a_short_message_is_read_whole() -> None:
    query = TemplateFilter().narrowed(Query(TASK, reading=Reading("system message", "", 0, 0, 0)))
    assert query.text == TASK
    assert query.reading == Reading("system message", "whole", 0, len(TASK), len(TASK))


def test_of_a_long_message_it_is_said_what_is_read() -> None:
    text = "The river passes the old mill. " * 100 + f"\n\n{TASK}"
    query = TemplateFilter().narrowed(Query(text))
    start, end = len(text) - len(TASK), len(text)
    assert query.text == TASK
    assert query.reading == Reading("text", "question", start, end, len(text))


def test_it_is_said_that_a_template_is_left_out() -> None:
    reader = TemplateFilter()
    for number in range(8):
        question = f"What is {number} times {number + 1}, and why is it even?"
        text = f"You are a tutor.\nBe kind.\n\nQuestion: {question}\n\nAnswer in one line."
        query = reader.narrowed(Query(text, agent="tutor"))
    assert query.text == question and query.reading is not None
    start = text.index(question)
    assert query.reading == Reading(
        "text", "template left out", start, start + len(question), len(text)
    )
