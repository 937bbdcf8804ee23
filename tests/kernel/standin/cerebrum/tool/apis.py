from typing import Any

from cerebrum.base import Fields


class ToolQuery(Fields):
    query_class: str = "tool"
    params: Any = None
    operation_type: str = ""
    tool_calls: Any = None


class ToolResponse(Fields):
    response_class: str = "tool"
    response_message: Any = None
    success: bool = False
    finished: bool = False
    error: Any = None
    status_code: int = 200
