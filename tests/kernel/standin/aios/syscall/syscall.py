from typing import Any

from cerebrum.llm.apis import LLMQuery, LLMResponse
from cerebrum.memory.apis import MemoryQuery
from cerebrum.storage.apis import StorageQuery
from cerebrum.tool.apis import ToolQuery

from aios.hooks.stores import _global as queues
from aios.syscall import Syscall

KINDS = {LLMQuery: "llm", MemoryQuery: "memory", StorageQuery: "storage", ToolQuery: "tool"}


class SyscallExecutor:
    context_injector = None
    conversation_extractor = None

    def create_syscall(self, agent_name: str, query: Any) -> Syscall:
        return Syscall(agent_name, query)

    def _execute_syscall(self, agent_name: str, query: Any) -> dict[str, Any]:
        times: dict[str, list[float]] = {
            key: [] for key in ("start_times", "end_times", "waiting_times", "turnaround_times")
        }
        while True:
            syscall = self.create_syscall(agent_name, query)
            syscall.set_status("active")
            getattr(queues, f"global_{KINDS[type(query)]}_req_queue_add_message")(syscall)
            syscall.start()
            syscall.join()
            if syscall.get_status() == "done":
                return {"response": syscall.response, **times}

    def execute_request(self, agent_name: str, query: Any) -> Any:
        if isinstance(query, LLMQuery) and query.action_type == "operate_file":
            found: LLMResponse = self._execute_syscall(agent_name, query)["response"]
            return found.response_message
        return self._execute_syscall(agent_name, query)


def useSysCall() -> tuple[Any, Any, Any]:
    executor = SyscallExecutor()
    return executor.execute_request, None, executor
