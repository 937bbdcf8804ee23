"""Actions of AIOS in which a model is asked on the way: `call_tool` and `operate_file`.

AIOS looks at the tool calls of such an answer and never at its error, so a failed call came out as
"No tool was called by LLM", as "'NoneType' object is not iterable" or as nothing. Here it ends the
action, with its own text and status. A model that the agent named serves every step, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aios_eccos.kernel.answers import QUOTE

ACTIONS = ("call_tool", "operate_file")


@dataclass(slots=True)
class Action:
    """An action under way in this thread.

    Attributes:
        llms: what the agent named.
        done: what came of its steps so far, in AIOS's words.
    """

    llms: Any
    done: list[str] = field(default_factory=list)


class StepFailed(Exception):
    """A model that an action depends on gave no answer; the text goes to the agent.

    Args:
        answer: what AIOS's executor returned for the step.
        done: what came of the action's steps before it.
    """

    def __init__(self, answer: dict[str, Any], done: list[str]) -> None:
        response = answer["response"]
        before = f"; before it: {'; '.join(done)}" if done else ""
        super().__init__(f"{response.error}{before}")
        self.answer = answer
        status: int = response.status_code
        self.status_code = status if status >= 400 else 500


_action: ContextVar[Action | None] = ContextVar("aios_eccos_action", default=None)


def perform(execute: Callable[[Any, str, Any], Any], executor: Any, agent: str, query: Any) -> Any:
    """What AIOS's `execute_request` returns; a failed `call_tool` is its failed call.

    Raises:
        StepFailed: of `operate_file`, which answers with a bare string: no place for an error.
    """
    kind = getattr(query, "action_type", None)
    if kind not in ACTIONS:
        return execute(executor, agent, query)
    token = _action.set(Action(query.llms))
    try:
        return execute(executor, agent, query)
    except StepFailed as failed:
        if kind == "operate_file":
            raise
        return failed.answer
    finally:
        _action.reset(token)


def ask(step: Callable[[Any, str, Any], Any], executor: Any, agent: str, query: Any) -> Any:
    """AIOS's `execute_llm_syscall`.

    Raises:
        StepFailed: it failed, and an action depends on it.
    """
    action = _action.get()
    if action is not None and not query.llms:
        query.llms = action.llms
    answer = step(executor, agent, query)
    if action is not None and answer["response"].error:
        raise StepFailed(answer, action.done)
    return answer


def store(step: Callable[[Any, str, Any], Any], executor: Any, agent: str, query: Any) -> Any:
    """AIOS's `execute_storage_syscall`; an error after it must not hide that it was done."""
    answer = step(executor, agent, query)
    action = _action.get()
    if action is not None:
        response = answer["response"]
        said = getattr(response, "response_message", None) or getattr(response, "error", None)
        action.done.append(str(said)[:QUOTE])
    return answer
