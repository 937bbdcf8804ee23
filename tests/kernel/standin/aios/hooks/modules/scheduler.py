from typing import Any

from aios.hooks.stores import _global as queues
from aios.scheduler.fifo_scheduler import FIFOScheduler
from aios.scheduler.rr_scheduler import RRScheduler


def _getters(params: dict[str, Any]) -> dict[str, Any]:
    kinds = ("llm", "memory", "storage", "tool")
    found = {
        f"get_{kind}_syscall": getattr(queues, f"global_{kind}_req_queue_get_message")
        for kind in kinds
    }
    return {**params, **found}


def fifo_scheduler_nonblock(**params: Any) -> Any:
    return FIFOScheduler(**_getters(params))


def rr_scheduler_nonblock(**params: Any) -> Any:
    return RRScheduler(**_getters(params))
