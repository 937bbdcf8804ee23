"""Tool calls that models write as text reach the agent as calls; texts about tools stay texts."""

from __future__ import annotations

from typing import Any

import pytest
from real_bodies import bodies

from aios_eccos.kernel.answers import read, wire_tools
from aios_eccos.kernel.written_calls import MAX_CHARS, written_calls
from aios_eccos.verdicts.normal import normal_form

OFFERED = [{"type": "function", "function": {"name": name}} for name in ("get_weather", "demo/add")]
_, NAMES = wire_tools(OFFERED)
PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
CALL = ("get_weather", {"city": "Paris"})


def test_what_real_models_write_for_an_offered_tool_is_a_call_of_it() -> None:
    said = {model: read(body, NAMES) for model, body in bodies("a tool is offered and fits")}
    wanted = [("get_weather", {"city": "Paris", "unit": "C"})]
    for model in ("qwen-coder-0.5b", "qwen-coder-1.5b"):
        found = said[model]
        assert [(call.name, call.parameters) for call in found.calls or ()] == wanted
        assert found.text is None
    # SmolLM's template leaves tools out: it talks, up to its limit.
    assert said["smollm2-135m"].calls == () and said["smollm2-135m"].truncated


def test_a_tool_that_a_real_model_invents_is_no_call() -> None:
    for _, body in bodies("a tool is offered and does not fit"):
        found = read(body, NAMES)
        assert found.calls == () and found.text


def test_a_written_call_has_the_form_of_the_same_call_given_as_one() -> None:
    structured = [{"name": "get_weather", "parameters": {"unit": "C", "city": "Paris"}}]
    for _, body in bodies("a tool is offered and fits")[1:]:
        calls = read(body, NAMES).calls or ()
        written = [{"name": call.name, "parameters": call.parameters} for call in calls]
        assert normal_form(None, written) == normal_form(None, structured)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (PARIS, [CALL]),
        (f"```json\n{PARIS}\n```", [CALL]),
        (f"~~~\n{PARIS}\n~~~\n", [CALL]),
        (f"<think>It asks for weather.</think>\n{PARIS}", [CALL]),
        (f"{PARIS}<|im_end|>", [CALL]),
        # Hermes, Qwen: prose may stand around the marks
        (f"Let me see.\n<tool_call>\n{PARIS}\n</tool_call>", [CALL]),
        (f"<tool_call>{PARIS}</tool_call>\n<tool_call>{PARIS}</tool_call>", [CALL, CALL]),
        (f"<tool_call>\n{PARIS}", [CALL]),  # the end mark is a token that servers leave out
        (f"[TOOL_CALLS] [{PARIS}]", [CALL]),  # Mistral
        (f"<|tool_call|>[{PARIS}]", [CALL]),  # Granite
        # Llama 3.1, in its own key and with its separator
        ('<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}', [CALL]),
        (f"{PARIS}; {PARIS}", [CALL, CALL]),
        (f"{PARIS}\n{PARIS}", [CALL, CALL]),
        (f"```json\n{PARIS}\n```\n```json\n{PARIS}\n```", [CALL, CALL]),
        # OpenAI's own shape, arguments encoded
        (
            '{"type": "function", "function": {"name": "demo__add", "arguments": "{\\"a\\": 1}"}}',
            [("demo/add", {"a": 1})],
        ),
        ('{"name": "demo/add", "arguments": {}}', [("demo/add", {})]),
        ('{"function": "demo/add", "input": {"a": 1}}', [("demo/add", {"a": 1})]),
        # what an argument holds is no mark
        (
            '{"name": "demo/add", "arguments": {"a": "say <tool_call> or ```py```"}}',
            [("demo/add", {"a": "say <tool_call> or ```py```"})],
        ),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_call_is_read_in_every_notation(text: str, calls: list[Any]) -> None:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    found = read(body, NAMES)
    assert [(call.name, call.parameters) for call in found.calls or ()] == calls


@pytest.mark.parametrize(
    "text",
    [
        "It is sunny.",
        f"Use it so:\n```json\n{PARIS}\n```",
        f"I would say {PARIS}",
        f"{PARIS} or so",
        # of marks is spoken
        f"Qwen writes `<tool_call>{PARIS}</tool_call>` for it.",
        f"Qwen writes `<tool_call>{PARIS}</tool_call>`",
        f"I would not do <tool_call>{PARIS}</tool_call>: it costs money.",
        f"Write it so:\n```\n<tool_call>\n{PARIS}\n</tool_call>\n```\nand wait.",
        f"So:\n~~~\n<tool_call>\n{PARIS}",
        f"<tool_call>{PARIS}</tool_call> or <tool_call>{PARIS}</tool_call>",
        '{"name": "say_hello", "arguments": {}}',
        f'[{PARIS}, {{"name": "say_hello", "arguments": {{}}}}]',
        '{"name": "get_weather"}',
        '{"name": "get_weather", "arguments": [1]}',
        '{"name": "get_weather", "arguments": {}, "answer": 4}',
        '{"name": "get_weather", "arguments": {}, "parameters": {}}',
        # a tool's own schema, said back
        '{"name": "get_weather", "parameters": {"type": "object", "properties": {}}}',
        '{"name": "get_weather", "description": "Weather.", "parameters": {}}',
        "[]",
        "42",
        "null",
        "```\n" * 20_000,
        "<tool_call>" * 9_000,
        "[" * 50_000,
        PARIS + " " * MAX_CHARS,
        # what a pattern that tries again at each place would not get through
        "```" + " " * 90_000 + "x",
        "```json\nx" + " " * 90_000 + "y",
        "<tool_call>x" + " " * 90_000 + "y",
        "x" + " " * 90_000 + "y",
        "[TOOL_CALLS]" + ", \n" * 30_000 + "y",
    ],
    ids=lambda text: text[:40],
)
def test_anything_else_stays_a_text(text: str) -> None:
    assert written_calls(text, {"get_weather", "demo/add"}) == ()


def test_without_tools_an_answer_is_what_it_is() -> None:
    body = {"choices": [{"message": {"content": PARIS}, "finish_reason": "stop"}]}
    assert read(body, None).text == PARIS


NAMED = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"type": "json_object"}, True),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": NAMED}}, True),
        # JSON of another shape was asked for, or none at all
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}, False),
        ({"type": "text"}, False),
        (None, False),
    ],
)
def test_json_that_the_agent_has_asked_for_is_its_answer(asked: Any, text: bool) -> None:
    body = {"choices": [{"message": {"content": PARIS}, "finish_reason": "stop"}]}
    found = read(body, NAMES, {"response_format": asked})
    assert (found.text, bool(found.calls)) == ((PARIS, False) if text else (None, True))
