from threading import Thread
from typing import Any


class BaseScheduler:
    def __init__(
        self,
        llm: Any,
        memory_manager: Any,
        storage_manager: Any,
        tool_manager: Any,
        log_mode: str,
        get_llm_syscall: Any,
        get_memory_syscall: Any,
        get_storage_syscall: Any,
        get_tool_syscall: Any,
    ) -> None:
        self.llm = llm
        self.memory_manager = memory_manager
        self.storage_manager = storage_manager
        self.tool_manager = tool_manager
        self.get_llm_syscall = get_llm_syscall
        self.get_memory_syscall = get_memory_syscall
        self.get_storage_syscall = get_storage_syscall
        self.get_tool_syscall = get_tool_syscall
        self.active = False
        self.processing_threads: dict[str, Any] = {}

    def start_processing_threads(self, processors: Any) -> None:
        for work in processors:
            thread = Thread(target=work, daemon=True)
            self.processing_threads[work.__name__] = thread
            thread.start()
