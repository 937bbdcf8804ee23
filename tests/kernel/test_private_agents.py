"""Private agents on a kernel: what they ask reaches local models only, in every mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest

PRIVATE = {"agents": {"secret/*": {"private": True}}}


def configure(kernel: Any, local: dict[str, bool], **settings: Any) -> None:
    config = copy.deepcopy(kernel.stock_config())
    for entry in config["llms"]["models"]:
        entry["local"] = local[entry["name"]]
    config["llms"]["router"]["eccos"] |= {**PRIVATE, **settings}
    kernel.config = config
    kernel.write_raw(config)
    kernel.reload()


def asked(kernel: Any) -> dict[str, int]:
    return {model: len(kernel.stubs.requests(model)) for model in ("small", "large")}


@pytest.fixture
def kept(fresh: Any) -> Any:
    """`large`, which would serve, is not local."""
    configure(fresh, {"small": True, "large": False})
    return fresh


def test_a_private_agent_is_served_by_a_local_model(kept: Any) -> None:
    assert kept.ask("hello", agent="secret/a").response_message.startswith("small")
    assert kept.ask("hello", agent="other").response_message.startswith("large")


def test_a_private_agent_that_names_a_hosted_model_is_refused(kept: Any) -> None:
    response = kept.ask("hello", agent="secret/a", llms=["large"])
    assert response.status_code == 403
    assert "secret/*" in response.error and "local: true" in response.error
    assert asked(kept) == {"small": 0, "large": 0}


def test_a_call_may_make_itself_private_and_never_public(kept: Any) -> None:
    for agent, hint in (("other", True), ("secret/a", False)):
        both: Any = [{"name": "small"}, {"name": "large", "eccos": {"private": hint}}]
        assert kept.ask("hello", agent=agent, llms=both).response_message.startswith("small")
    wrong = kept.ask("hello", llms=[{"name": "small", "eccos": {"private": "yes"}}])
    assert wrong.status_code == 400 and "allowed true and false" in wrong.error


def test_an_action_of_several_steps_is_private_as_its_agent_is(kept: Any) -> None:
    tools = [{"type": "function", "function": {"name": "demo/add", "parameters": {}}}]
    kept.ask("[[say none]]", agent="secret/a", tools=tools, action_type="call_tool")
    assert asked(kept)["large"] == 0 and asked(kept)["small"] > 0


def test_a_failing_local_model_is_no_reason_to_leave(kept: Any) -> None:
    response = kept.ask("[[status 400]]", agent="secret/a")
    assert response.status_code == 400
    assert asked(kept)["large"] == 0


def test_privacy_holds_in_mode_observe_too(fresh: Any) -> None:
    configure(fresh, {"small": False, "large": True}, mode="observe")
    assert fresh.ask("hello").response_message.startswith("small"), "AIOS's own choice, the first"
    assert fresh.ask("hello", agent="secret/a").response_message.startswith("large")
    assert fresh.ask("hello", agent="secret/a", llms=["small"]).status_code == 403
    configure(fresh, {"small": False, "large": False}, mode="observe")
    assert fresh.ask("hello", agent="secret/a").status_code == 403


def test_a_model_that_a_refresh_moves_elsewhere_is_not_asked(kept: Any) -> None:
    """The decision was made before the refresh; the request goes out after it."""
    serving = kept.serving
    adapter = serving.adapter
    before, adapter.is_local = adapter.is_local, lambda name: False
    try:
        response = kept.ask("hello", agent="secret/a")
    finally:
        adapter.is_local = before
    assert response.status_code == 403
    assert asked(kept) == {"small": 0, "large": 0}


def test_an_agent_that_a_refresh_makes_private_is_kept_in_at_its_next_request(fresh: Any) -> None:
    """The call was decided before the refresh, and is tried again after it."""
    configure(fresh, {"small": True, "large": False}, agents={})
    serving = fresh.serving
    ask, asked_of = serving.adapter.ask, []

    def failing(name: str, syscall: Any, timeout_s: float) -> Any:
        asked_of.append(name)
        configure(fresh, {"small": True, "large": False})
        return ask("nowhere", syscall, timeout_s)

    serving.adapter.ask = failing
    response = fresh.ask("hello", agent="secret/a", llms=["large"])
    assert asked_of == ["large"]
    assert response.status_code == 403
    assert asked(fresh) == {"small": 0, "large": 0}


def test_an_audit_copies_it_to_no_hosted_model(fresh: Any) -> None:
    configure(fresh, {"small": False, "large": True}, audit="5 %")
    for agent, copies in (("secret/a", 0), ("other", 1)):
        fresh.stubs.reset()
        fresh.ask("[[say 42]]", agent=agent)
        assert fresh.serving.engine.auditor.wait_idle(60)
        assert asked(fresh) == {"small": copies, "large": 1}
