"""What an audit asks of models, of what an agent asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aios_eccos.kernel.repeats import repeat_of
from aios_eccos.values import Answer

TOOLS = [{"type": "function", "function": {"name": "core/pay", "parameters": {}}}]


def query(**changes: Any) -> SimpleNamespace:
    asked = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}]},
        ],
        "tools": TOOLS,
        "temperature": 0.3,
        "max_new_tokens": 50,
        "response_format": None,
        "message_return_type": "text",
        "llms": [{"name": "large"}],
        "action_type": "call_tool",
    }
    return SimpleNamespace(**asked | changes)


class Asked:
    """Keeps what is asked of models."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, float]] = []

    def __call__(self, model: str, syscall: Any, seconds: float) -> Answer:
        self.calls.append((model, syscall.query, seconds))
        return Answer()


def test_a_copy_asks_what_the_call_asked_then_whatever_is_done_to_it_later() -> None:
    asked, agents = Asked(), query()
    repeat = repeat_of(agents, asked)
    agents.messages[0]["content"] = "Be long."
    agents.messages.append({"role": "tool", "content": "paid"})
    agents.temperature = 1.0
    repeat.ask("small", 7.0)
    ((model, copy, seconds),) = asked.calls
    assert (model, seconds) == ("small", 7.0)
    assert [m["content"] for m in copy.messages] == ["Be brief.", query().messages[1]["content"]]
    assert (copy.tools, copy.temperature, copy.max_new_tokens) == (TOOLS, 0.3, 50)
    # What makes AIOS execute a tool is no part of it.
    assert not hasattr(copy, "action_type")


def test_the_judge_gets_its_own_messages_and_no_tools() -> None:
    asked = Asked()
    messages = [{"role": "user", "content": "A or B?"}]
    repeat_of(query(), asked).plain("large", messages, 5.0)
    ((_, judged, _),) = asked.calls
    assert (judged.messages, judged.tools) == (messages, None)
    assert (judged.temperature, judged.response_format) == (0.0, None)


def test_the_judge_is_shown_all_turns_with_their_roles() -> None:
    repeat = repeat_of(query(), Asked())
    assert repeat.instruction() == "system: Be brief.\nuser: What is it?"


def test_text_and_tool_calls_are_read_from_an_answer_of_the_kernel() -> None:
    calls = [{"name": "core/pay", "parameters": {"sum": 5}}]
    said = repeat_of(query(), Asked()).said
    assert said(SimpleNamespace(response_message=None, tool_calls=calls)) == (None, calls)
    assert said(SimpleNamespace(response_message="yes", tool_calls=None)) == ("yes", ())
