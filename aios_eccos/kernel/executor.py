"""AIOS's executor of agents' requests, as a subclass: `/eccos` in its terminal, and its actions.

In `call_tool` and `operate_file` a model is asked on the way, and AIOS never looks at its error: a
failed call came out as "No tool was called by LLM". Here it ends the action, with its own text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aios_eccos.errors import KernelError, hide, raised
from aios_eccos.kernel import calls, status
from aios_eccos.kernel.aios_config import wanted
from aios_eccos.kernel.answers import QUOTE
from aios_eccos.kernel.scheduler import Process
from aios_eccos.observe import command
from aios_eccos.observe.text import clean_line

log = logging.getLogger("aios_eccos.kernel.executor")

ACTIONS = ("call_tool", "operate_file")
COMMAND = "/eccos"
#: What AIOS's intent classifier is told to choose from; it stands in its system prompt.
CLASSIFIER = "file_operation"
_TIMES = ("start_times", "end_times", "waiting_times", "turnaround_times")
_Stock: Any = object


@dataclass(slots=True)
class Action:
    """An action under way in this thread: the models that the agent named, which serve every step,
    and what came of its steps so far, in AIOS's words.
    """

    llms: Any
    done: list[str] = field(default_factory=list)


_action: ContextVar[Action | None] = ContextVar("aios_eccos_action", default=None)


class StepFailed(Exception):
    """A model that an action depends on gave no answer; the text goes to the agent.

    `answer` is what AIOS's executor returned for the step, `done` what came of those before it.
    """

    def __init__(self, answer: dict[str, Any], done: list[str]) -> None:
        response = answer["response"]
        before = f"; before it: {'; '.join(done)}" if done else ""
        super().__init__(f"{response.error}{before}")
        self.answer = answer
        code: int = response.status_code
        self.status_code = code if code >= 400 else 500


class EccosExecutor(_Stock):  # type: ignore[misc]
    """Mixed into AIOS's SyscallExecutor by `over`."""

    #: Ours, and Cerebrum's LLMResponse; set by `over`.
    eccos: Process
    eccos_response: Callable[..., Any]

    def create_syscall(self, agent_name: str, query: Any) -> Any:
        syscall = super().create_syscall(agent_name, query)
        syscall.eccos_caller = calls.caller.get()
        # AIOS's threads for calls would keep a process alive that was told to end.
        syscall.daemon = True
        return syscall

    def execute_request(self, agent_name: str, query: Any) -> Any:
        """AIOS's; a failed `call_tool` is its failed call.

        `operate_file` answers with a bare string, which has no place for an error: it is raised.
        """
        if not wanted():  # a refresh has gone to another strategy
            return super().execute_request(agent_name, query)
        reply = self._terminal_reply(agent_name, query)
        if reply is not None:
            return reply
        kind = getattr(query, "action_type", None)
        token = _action.set(Action(query.llms) if kind in ACTIONS else None)
        try:
            return super().execute_request(agent_name, query)
        except StepFailed as failed:
            if kind == "operate_file":
                raise
            return failed.answer
        finally:
            _action.reset(token)

    def execute_llm_syscall(self, agent_name: str, query: Any) -> Any:
        action = _action.get()
        if action is not None and not query.llms:
            query.llms = action.llms
        answer = super().execute_llm_syscall(agent_name, query)
        if action is not None and answer["response"].error:
            raise StepFailed(answer, action.done)
        return answer

    def execute_storage_syscall(self, agent_name: str, query: Any) -> Any:
        answer = super().execute_storage_syscall(agent_name, query)
        action = _action.get()
        if action is not None:  # an error after it must not hide that it was done
            response = answer["response"]
            said = getattr(response, "response_message", None) or getattr(response, "error", None)
            action.done.append(str(said)[:QUOTE])
        return answer

    def _terminal_reply(self, agent: str, query: Any) -> Any:
        """The reply to a command for us of the agent `terminal_agent`; None for everything else.

        The terminal sends its text as an LLM call: in chat mode with the whole history, in file
        mode to be parsed, and in auto mode first to a classifier that asks a model. The last must
        hear "chat", or a status text that contains "file" would lead the user into file mode.
        """
        messages = getattr(query, "messages", None)
        config = self.eccos.serving.config
        asks = config is not None and agent == config.settings.terminal_agent
        if not asks or not isinstance(messages, list):
            return None
        words = calls.last_user_text(messages).strip()
        if words != COMMAND and not words.startswith(COMMAND + " "):
            return None
        first = messages[0]
        if first.get("role") == "system" and CLASSIFIER in str(first.get("content")):
            text = "chat"
        else:
            text = self._command(words.removeprefix(COMMAND).strip())
        if query.action_type == "operate_file":
            return text
        response = self.eccos_response(response_message=text, finished=True, status_code=200)
        return {"response": response, **{key: [] for key in _TIMES}}

    def _command(self, words: str) -> str:
        try:
            return command.answer(status.reader(self.eccos.serving), words)
        except KernelError as error:
            return f"/eccos: {error}"
        except Exception as error:  # noqa: BLE001 - an inspection that fails must say so, not break the terminal
            log.error("/eccos %s failed: %s", words.split(" ")[0][:40], raised(error))
            return clean_line(f"/eccos failed: {type(error).__name__}: {hide(str(error)[:QUOTE])}")


def over(stock: Any, process: Process, response: Any) -> Any:
    class EccosSyscallExecutor(EccosExecutor, stock):  # type: ignore[misc]
        eccos = process
        eccos_response = staticmethod(response)

    return EccosSyscallExecutor
