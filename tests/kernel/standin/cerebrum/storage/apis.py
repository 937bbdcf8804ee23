from typing import Any

from cerebrum.base import Fields


class StorageQuery(Fields):
    query_class: str = "storage"
    params: Any = None
    operation_type: str = ""
    tool_calls: Any = None


class StorageResponse(Fields):
    response_class: str = "storage"
    response_message: Any = None
    success: bool = False
    finished: bool = False
    error: Any = None
    status_code: int = 200
