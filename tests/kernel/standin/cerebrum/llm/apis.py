from typing import Any

from cerebrum.base import Fields


class LLMQuery(Fields):
    query_class: str = "llm"
    llms: Any = None
    messages: Any = None
    tools: Any = None
    action_type: str = "chat"
    temperature: float = 1.0
    max_new_tokens: int = 1000
    message_return_type: str = "text"
    response_format: Any = None


class LLMResponse(Fields):
    response_class: str = "llm"
    response_message: Any = None
    tool_calls: Any = None
    finished: bool = False
    error: Any = None
    status_code: int = 200
