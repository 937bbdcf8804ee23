"""Mode `canary` on a kernel: a conversation is on one side, and both are counted."""

from __future__ import annotations

from typing import Any

from waiting import until

from aios_eccos.kernel.calls import lot_of


def opening(side: str, share: float = 0.5) -> list[dict[str, str]]:
    """The messages of a conversation that is on this side."""
    for number in range(1000):
        messages = [{"role": "user", "content": f"question {number}"}]
        if (lot_of("agent", messages) < share) is (side == "routed"):
            return messages
    raise AssertionError


def test_a_share_is_routed_and_the_rest_served_as_without_the_plugin(fresh: Any) -> None:
    fresh.refresh(mode="canary", canary_share="50 %", namespace="canary")
    fresh.serving.switch("canary")
    for side, model in (("routed", "large"), ("control", "small")):
        messages = opening(side)
        for _ in range(3):
            answer = fresh.ask(messages).response_message
            assert answer.startswith(model), f"{side}: routed goes to the strongest"
            messages = [*messages, {"role": "assistant", "content": answer}]
            messages += [{"role": "user", "content": "go on"}]
    engine = fresh.serving.engine
    assert engine.recorder.flush(60)
    figures = engine.canary.figures()
    assert (figures["routed"], figures["control"]) == (3, 3)
    until(lambda: fresh.serving.observed.sums.calls >= 3)
    fresh.refresh()
    assert fresh.serving.engine.canary.figures() is None


def test_a_tool_loop_that_a_canary_finds_stays_with_its_model(fresh: Any) -> None:
    tools = [{"type": "function", "function": {"name": "demo/add", "parameters": {}}}]
    asked = '[[tool demo__add {"a": 1}]]'
    number = next(n for n in range(1000) if lot_of("agent", _said(f"{asked} {n}")) >= 0.5)
    messages: list[dict[str, Any]] = _said(f"{asked} {number}")
    first = fresh.ask(messages, tools=tools)
    assert len(fresh.stubs.requests("large")) == 1, "routed to the strongest"
    fresh.refresh(mode="canary", canary_share="50 %", namespace="canary-loop")
    messages += [{"role": "assistant", "content": "", "tool_calls": first.tool_calls}]
    result = {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "3"}
    fresh.ask([*messages, result], tools=tools)
    assert (len(fresh.stubs.requests("large")), len(fresh.stubs.requests("small"))) == (2, 0)
    fresh.ask(_said(f"{asked} {number}"), tools=tools)
    assert len(fresh.stubs.requests("small")) == 1, "the control's next conversation is AIOS's"


def _said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_status_says_how_it_stands(fresh: Any) -> None:
    fresh.refresh(mode="canary")
    said = fresh.ask("/eccos status", agent="terminal").response_message
    assert "canary" in said and "trial" in said and "10.0 %" in said
    engine = fresh.serving.engine
    engine.ledger.swap_note("canary", '[1.0, "rolled back", "the floor is not kept"]')
    engine.canary.look()
    said = fresh.ask("/eccos status", agent="terminal").response_message
    assert "rolled back: the floor is not kept" in " ".join(said.split())
    assert fresh.ask(opening("routed", 0.1)).response_message.startswith("small")
