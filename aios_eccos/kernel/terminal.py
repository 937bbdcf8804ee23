"""`/eccos ...` in AIOS's terminal, answered here without a model.

The terminal sends its text as an ordinary LLM call: in chat mode with the whole history, in file
mode to be parsed, and in auto mode first to a classifier that asks a model. The last must hear
"chat", or a status text that contains "file" would lead the user into file mode.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aios_eccos.errors import KernelError, raised
from aios_eccos.kernel import status
from aios_eccos.kernel.calls import last_user_text
from aios_eccos.kernel.serving import Serving
from aios_eccos.observe import command

log = logging.getLogger("aios_eccos.kernel.terminal")

COMMAND = "/eccos"
#: What AIOS's intent classifier is told to choose from; it stands in its system prompt.
CLASSIFIER = "file_operation"


def answer(serving: Serving, agent: str, query: Any, response: Callable[..., Any]) -> Any:
    """The reply to a command for us; None for everything else.

    Args:
        agent: who asks; only the agent of the setting `terminal_agent` may.
        query: any of AIOS's queries.
        response: Cerebrum's LLMResponse.
    """
    messages = getattr(query, "messages", None)
    config = serving.config
    if config is None or agent != config.settings.terminal_agent or not isinstance(messages, list):
        return None
    words = last_user_text(messages).strip()
    if words != COMMAND and not words.startswith(COMMAND + " "):
        return None
    first = messages[0]
    if first.get("role") == "system" and CLASSIFIER in str(first.get("content")):
        text = "chat"
    else:
        text = _rendered(serving, words.removeprefix(COMMAND).strip())
    if query.action_type == "operate_file":
        return text
    times: dict[str, list[float]] = {
        key: [] for key in ("start_times", "end_times", "waiting_times", "turnaround_times")
    }
    return {"response": response(response_message=text, finished=True, status_code=200), **times}


def _rendered(serving: Serving, words: str) -> str:
    try:
        return command.answer(status.reader(serving), words)
    except KernelError as error:
        return f"/eccos: {error}"
    except Exception as error:  # noqa: BLE001 - an inspection that fails must say so, not break the terminal
        log.error("/eccos %s failed: %s", words.split(" ")[0][:40], raised(error))
        return f"/eccos failed: {type(error).__name__}: {error}"
