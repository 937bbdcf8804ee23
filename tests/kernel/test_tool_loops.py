"""What is read off a call's messages of tools that were called: by every form agents write."""

from __future__ import annotations

import time
from typing import Any

import pytest

from aios_eccos.kernel.tool_loops import TROUBLE, first_call, in_tool_loop, strained

USER = {"role": "user", "content": "what is it?"}


def openai(result: str = "3", name: str = "add", arguments: str = '{"a": 1}', i: int = 0) -> Any:
    call = {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{i}", "content": result},
    ]


def sdk(result: str = "3", name: str = "add", parameters: Any = None, i: int = 0) -> Any:
    """As AIOS's SDK gives calls; the result goes back in a user's or a tool's message."""
    call = {"id": f"c{i}", "name": name, "parameters": parameters or {"a": 1}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{i}", "content": result},
    ]


def anthropic(result: str = "3", name: str = "add", i: int = 0, **more: Any) -> Any:
    use = {"type": "tool_use", "id": f"c{i}", "name": name, "input": {"a": 1}}
    back = {"type": "tool_result", "tool_use_id": f"c{i}", "content": result, **more}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [back]}]


def function(result: str = "3", i: int = 0) -> Any:
    """OpenAI's older form, without ids."""
    call = {"name": "add", "arguments": '{"a": 1}'}
    return [
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "add", "content": result},
    ]


FORMS = [openai, sdk, anthropic, function]
SAID = {"role": "assistant", "content": "It is 3."}


@pytest.mark.parametrize("form", FORMS)
def test_a_tools_result_is_in_the_loop_until_a_model_has_answered_it(form: Any) -> None:
    assert not in_tool_loop([USER])
    assert in_tool_loop([USER, *form()])
    assert in_tool_loop([USER, *form(), *form(i=1)])
    assert in_tool_loop([USER, form()[0], {"role": "user", "content": "the tool said 3"}])
    assert not in_tool_loop([USER, *form(), SAID])
    assert not in_tool_loop([USER, *form(), SAID, USER])


def test_a_result_without_the_call_that_asked_for_it_is_in_the_loop() -> None:
    assert in_tool_loop([USER, openai()[1]])
    assert in_tool_loop([USER, SAID, anthropic()[1]])
    assert first_call([USER, openai(i=7)[1]]) == "c7"


@pytest.mark.parametrize("form", FORMS[:3])
def test_the_first_call_of_the_last_turn_names_the_loop(form: Any) -> None:
    assert first_call([USER, *form(i=1), *form(i=2)]) == "c2"
    assert first_call([USER, *form(i=1), SAID, USER]) == ""
    two = form(i=3)
    two[1:] = [*two[1:], *form(i=4)[1:]]
    assert first_call([USER, *two]) == "c3"


@pytest.mark.parametrize("messages", [[None], ["x"], [{}], [{"role": "assistant"}], []])
def test_what_is_no_message_is_in_no_loop(messages: Any) -> None:
    assert not in_tool_loop(messages)
    assert first_call(messages) == ""
    assert not strained(messages)


def turns(form: Any, results: list[str]) -> list[Any]:
    return [USER, *(message for i, text in enumerate(results) for message in form(text, i=i))]


ERRORS = [
    "Error: no such file",
    "Tool calling error: 'demo/add'",
    "ValueError: invalid literal",
    "Traceback (most recent call last):\n  File x",
    '{"error": "rate limited"}',
    '{"isError": true, "content": []}',
    '{"success": false}',
    "Command failed with exit status 1",
    "Permission denied",
]
FINE = [
    "3",
    "No error was found",
    "0 errors",
    '{"error": null, "value": 1}',
    "the error budget is 3",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", ERRORS)
def test_errors_in_a_row_ask_for_a_stronger_model(form: Any, error: str) -> None:
    different = [f"{error}{' ' * i}" for i in range(TROUBLE)]
    assert strained(turns(form, different))
    assert not strained(turns(form, different[1:]))
    assert not strained(turns(form, [*different[1:], "3"]))
    assert not strained([*turns(form, different), SAID, USER]), "the user has spoken since"


@pytest.mark.parametrize("text", FINE)
def test_what_is_no_error_does_not(text: str) -> None:
    assert not strained(turns(openai, [f"{text}{' ' * i}" for i in range(9)]))


def test_an_error_that_the_form_itself_tells_of_counts() -> None:
    told = [message for i in range(TROUBLE) for message in anthropic(f"{i}", i=i, is_error=True)]
    assert strained([USER, *told])


def test_the_same_call_with_the_same_result_again_and_again_does() -> None:
    same = [m for i in range(TROUBLE) for m in openai("3", arguments='{"a": 1, "b": 2}', i=i)]
    mixed = [m for i in range(TROUBLE - 1) for m in openai("3", arguments='{"b": 2, "a": 1}', i=i)]
    assert strained([USER, *same])
    assert strained([USER, *mixed, *openai("3", arguments='{"a":1,"b":2}', i=9)]), "in any order"
    assert not strained([USER, *(m for i in range(9) for m in openai(f"{i}", i=i))]), "it gets on"
    other = [m for i in range(9) for m in openai("3", arguments=f'{{"a": {i}}}', i=i)]
    assert not strained([USER, *other]), "it asks for something else each time"


def test_long_histories_cost_little_and_deep_results_nothing() -> None:
    """Only what the last results say is read, whatever lies before."""
    big = "[" * 2000 + "]" * 2000
    loop = [m for i in range(200) for m in openai("x" * 100_000, arguments=big, i=i)]
    begun = time.thread_time()
    assert strained([USER, *loop]), "the same, again and again"
    assert in_tool_loop([USER, *loop]) and first_call([USER, *loop]) == "c199"
    assert time.thread_time() - begun < 5.0
    assert strained([USER, *(m for i in range(3) for m in openai(f"Error: {i}{big}", i=i))])
    assert not strained([USER, *(m for i in range(3) for m in openai(big + str(i), i=i))])
