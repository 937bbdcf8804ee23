"""A kernel's call asked once more, for an audit: the request to the model, and nothing else of it.

No tool is executed, no memory or storage is touched, and the agent hears of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from aios_eccos.providers.tokens import text_of
from aios_eccos.values import Answer, Repeat
from aios_eccos.verdicts.judge import REPLY_TOKENS

#: What the adapter reads of a call.
_ASKED = (
    *("messages", "tools", "temperature", "max_new_tokens", "response_format"),
    "message_return_type",
)
#: Asks a model what a syscall asks: (model, syscall, seconds).
Ask = Callable[[str, Any, float], Answer]


def repeat_of(query: Any, ask: Ask) -> Repeat:
    """How to ask again what AIOS's LLMQuery asks now: AIOS and agents may change it later."""
    asked = {name: getattr(query, name, None) for name in _ASKED}
    for name in ("messages", "tools"):
        asked[name] = [_copy(item) for item in asked[name] or ()] or None
    syscall = SimpleNamespace(query=SimpleNamespace(**asked))

    def plain(model: str, messages: Sequence[Mapping[str, str]], seconds: float) -> Answer:
        other = {**dict.fromkeys(_ASKED), "messages": [*messages], "temperature": 0.0}
        other |= {"max_new_tokens": REPLY_TOKENS, "message_return_type": "text"}
        return ask(model, SimpleNamespace(query=SimpleNamespace(**other)), seconds)

    return Repeat(
        ask=lambda model, seconds: ask(model, syscall, seconds),
        plain=plain,
        said=said,
        instruction=lambda: instruction(asked["messages"] or ()),
    )


def said(response: Any) -> tuple[str | None, Sequence[Mapping[str, Any]]]:
    """The text and the tool calls of AIOS's LLMResponse."""
    text = response.response_message
    return text if isinstance(text, str) else None, response.tool_calls or ()


def instruction(messages: Sequence[Any]) -> str:
    """What a judge is shown of the call: the texts of its messages, each after its role."""
    turns = [message for message in messages if isinstance(message, Mapping)]
    return "\n".join(f"{turn.get('role')}: {text_of(turn.get('content'))}" for turn in turns)


def _copy(item: Any) -> Any:
    return dict(item) if isinstance(item, dict) else item
