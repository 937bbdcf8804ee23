from queue import Empty
from typing import Any

from .base import BaseScheduler


class FIFOScheduler(BaseScheduler):
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
        batch_interval: float = 1.0,
    ) -> None:
        super().__init__(
            llm,
            memory_manager,
            storage_manager,
            tool_manager,
            log_mode,
            get_llm_syscall,
            get_memory_syscall,
            get_storage_syscall,
            get_tool_syscall,
        )

    def _execute_syscall(self, syscall: Any, executor: Any, syscall_type: str) -> Any:
        raise NotImplementedError

    def process_llm_requests(self) -> None:
        while self.active:
            try:
                syscall = self.get_llm_syscall()
            except Empty:
                continue
            syscall.set_response(self.llm.ask_first(syscall.query))
            syscall.set_status("done")
            syscall.event.set()

    def process_memory_requests(self) -> None:
        while self.active:
            try:
                syscall = self.get_memory_syscall()
            except Empty:
                continue
            self._execute_syscall(syscall, self.memory_manager.address_request, "Memory")

    def process_storage_requests(self) -> None:
        while self.active:
            try:
                syscall = self.get_storage_syscall()
            except Empty:
                continue
            self._execute_syscall(syscall, self.storage_manager.address_request, "Storage")

    def process_tool_requests(self) -> None:
        while self.active:
            try:
                syscall = self.get_tool_syscall()
            except Empty:
                continue
            self._execute_syscall(syscall, self.tool_manager.address_request, "Tool")

    def start(self) -> None:
        self.active = True
        self.start_processing_threads([self.process_llm_requests])

    def stop(self) -> None:
        raise NotImplementedError
