"""Calls of agents that a living kernel audits: what else is asked, and what is not done twice."""

from __future__ import annotations

from typing import Any

import pytest

from aios_eccos.workload.periods import TOTAL

TOOLS = [{"type": "function", "function": {"name": "demo/add", "parameters": {}}}]
CALL = '[[tool demo__add {"a": 1}]]'


@pytest.fixture
def audited(fresh: Any) -> Any:
    fresh.refresh(audit="5 %", agents={"private": {"audit": False}})
    yield fresh


def sums(kernel: Any) -> dict[str, float]:
    engine = kernel.serving.engine
    assert engine.auditor.wait_idle()
    assert engine.recorder.flush()
    (found,) = engine.ledger.sums([TOTAL])
    return dict(found)


def asked(kernel: Any) -> dict[str, int]:
    return {model: len(kernel.stubs.requests(model)) for model in ("small", "large")}


def test_a_call_is_asked_of_the_cheap_model_too_after_its_agent_has_its_answer(
    audited: Any,
) -> None:
    before = sums(audited)
    response = audited.ask("[[say The answer is 42.]]")
    after = sums(audited)
    assert response.response_message == "The answer is 42."
    assert asked(audited) == {"small": 1, "large": 1}
    (copy,), (served,) = (audited.stubs.requests(model) for model in ("small", "large"))
    assert copy["messages"] == served["messages"]
    assert after["audit_agreed"] - before.get("audit_agreed", 0.0) == 1


@pytest.mark.parametrize(
    ("agent", "fields"),
    [
        ("agent", {"llms": ["large"]}),
        ("agent", {"llms": [{"name": "small"}, {"name": "large", "eccos": {"floor": 0.5}}]}),
        ("private", {}),
    ],
    ids=["it names one model", "it brings a floor", "its agent wants no audits"],
)
def test_such_a_call_is_asked_once(audited: Any, agent: str, fields: dict[str, Any]) -> None:
    audited.ask("[[say yes]]", agent=agent, **fields)
    sums(audited)
    assert sum(asked(audited).values()) == 1


def test_a_tool_runs_once_though_its_call_is_copied(
    audited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []

    class Loaded:
        def run(self, params: Any) -> str:
            runs.append(params)
            return "3"

    tools = audited.scheduler.tool_manager
    monkeypatch.setattr(tools, "load_tool_instance", lambda name: Loaded())
    before = sums(audited)
    audited.ask(CALL, tools=TOOLS, action_type="call_tool")
    after = sums(audited)
    assert after["audit_agreed"] - before.get("audit_agreed", 0.0) == 1
    assert asked(audited)["small"] == 1
    assert len(runs) == 1


def test_the_share_is_changed_in_a_living_kernel_until_its_next_refresh(fresh: Any) -> None:
    fresh.serving.set_audit(0.05)
    fresh.ask("[[say yes]]")
    sums(fresh)
    assert asked(fresh)["small"] == 1
    fresh.serving.set_audit(0.0)
    fresh.ask("[[say yes]]")
    sums(fresh)
    assert asked(fresh) == {"small": 1, "large": 2}
    fresh.refresh()
    assert fresh.serving.engine.config.settings.audit == 0
