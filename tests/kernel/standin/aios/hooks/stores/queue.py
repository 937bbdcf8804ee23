from typing import Any


def getMessage(q: Any) -> Any:
    return q.get(block=True, timeout=0.1)
