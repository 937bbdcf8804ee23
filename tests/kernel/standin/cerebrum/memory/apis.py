from typing import Any

from cerebrum.base import Fields


class MemoryQuery(Fields):
    query_class: str = "memory"
    params: Any = None
    operation_type: str = ""
    tool_calls: Any = None


class MemoryResponse(Fields):
    response_class: str = "memory"
    response_message: Any = None
    success: bool = False
    finished: bool = False
    error: Any = None
    status_code: int = 200
