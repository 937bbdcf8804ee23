from typing import Any

from cerebrum.llm.apis import LLMQuery, LLMResponse  # noqa: F401
from cerebrum.memory.apis import MemoryQuery
from cerebrum.storage.apis import StorageQuery
from cerebrum.tool.apis import ToolQuery, ToolResponse

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

    def execute_llm_syscall(self, agent_name: str, query: Any) -> dict[str, Any]:
        return self._execute_syscall(agent_name, query)

    def execute_storage_syscall(self, agent_name: str, query: Any) -> dict[str, Any]:
        return self._execute_syscall(agent_name, query)

    def execute_request(self, agent_name: str, query: Any) -> Any:
        if not isinstance(query, LLMQuery):
            return self._execute_syscall(agent_name, query)
        if query.action_type == "operate_file":
            query.tools = [{"function": {"name": "create_file"}}]
        answer = self.execute_llm_syscall(agent_name, query)
        calls: Any = answer["response"].tool_calls
        if query.action_type == "call_tool":
            if not calls:
                return ToolResponse(response_message="No tool was called by LLM")
            return self._execute_syscall(agent_name, ToolQuery(tool_calls=calls))
        if query.action_type != "operate_file":
            return answer
        for call in calls:
            found = StorageQuery(operation_type=call["name"], params=call["parameters"])
            self.execute_storage_syscall(agent_name, found)
        final = LLMQuery(messages=[{"role": "user", "content": "say what was done"}])
        return self.execute_llm_syscall(agent_name, final)["response"].response_message


def useSysCall() -> tuple[Any, Any, Any]:
    executor = SyscallExecutor()
    return executor.execute_request, None, executor
