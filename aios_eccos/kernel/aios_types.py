"""The kernel's objects as this folder sees them; `contract` checks that they still are so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Syscall(Protocol):
    """A call of an agent that waits in one of the kernel's queues."""

    agent_name: str
    query: Any
    event: Any

    def set_status(self, status: str) -> None: ...
    def set_response(self, response: Any) -> None: ...
    def set_start_time(self, time: float) -> None: ...
    def set_end_time(self, time: float) -> None: ...
    def get_start_time(self) -> float | None: ...
    def get_status(self) -> str | None: ...


class StockAdapter:
    """The parts of AIOS's LLMAdapter that our subclass uses; stands in for it when typing."""

    llms: list[Any]
    llm_configs: list[Any]
    available_llm_names: list[str]
    router: Any

    def __init__(
        self,
        llm_configs: list[dict[str, Any]],
        api_key: Any = None,
        log_mode: str = "console",
        use_context_manager: bool = False,
        routing_strategy: Any = None,
    ) -> None: ...

    _dynamic_register_ollama_model: Callable[[str], bool]
    _initialize_single_llm: Callable[[Any], Any]
    _get_model_response: Callable[..., tuple[Any, bool]]
    _process_response: Callable[..., Any]


class StockScheduler:
    """The parts of AIOS's FIFOScheduler that our subclass uses; stands in for it when typing."""

    llm: Any
    memory_manager: Any
    storage_manager: Any
    tool_manager: Any
    get_llm_syscall: Any
    active: bool
    processing_threads: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def process_memory_requests(self) -> None: ...
    def process_storage_requests(self) -> None: ...
    def process_tool_requests(self) -> None: ...


class LaunchModule(Protocol):
    """AIOS's `runtime/launch.py`, a module."""

    app: Any
    execute_request: Any
    refresh_configuration: Any
    cleanup_components: Any
    select_llm: Any
    QueryRequest: type
    selected_llms: dict[str, list[Any]]
    active_components: dict[str, Any] | None
