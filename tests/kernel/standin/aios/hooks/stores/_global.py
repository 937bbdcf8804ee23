from queue import Queue
from typing import Any

from aios.hooks.stores.queue import getMessage


def _queue() -> Any:
    queue: Queue[Any] = Queue()
    return queue, lambda: getMessage(queue), queue.put, queue.empty


(
    global_llm_req_queue,
    global_llm_req_queue_get_message,
    global_llm_req_queue_add_message,
    global_llm_req_queue_is_empty,
) = _queue()
(
    global_memory_req_queue,
    global_memory_req_queue_get_message,
    global_memory_req_queue_add_message,
    global_memory_req_queue_is_empty,
) = _queue()
(
    global_storage_req_queue,
    global_storage_req_queue_get_message,
    global_storage_req_queue_add_message,
    global_storage_req_queue_is_empty,
) = _queue()
(
    global_tool_req_queue,
    global_tool_req_queue_get_message,
    global_tool_req_queue_add_message,
    global_tool_req_queue_is_empty,
) = _queue()
