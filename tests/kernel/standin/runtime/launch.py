from typing import Any

from aios.config.config_manager import config
from aios.hooks.modules.llm import useCore
from aios.hooks.modules.scheduler import fifo_scheduler_nonblock, rr_scheduler_nonblock
from aios.syscall.syscall import useSysCall
from aios.tool.manager import ToolManager


class QueryRequest:
    """The body of POST /query; the stand-in has no HTTP side."""

    query_type: str
    agent_name: str
    query_data: Any


class Manager:
    def address_request(self, syscall: Any) -> Any:
        return syscall.query

    def cleanup(self) -> None:
        self.cleaned = True


class State:
    pass


class Router:
    lifespan_context = None


class App:
    state = State()
    router = Router()


app = App()
ROUTES = ("/query", "/core/refresh", "/core/cleanup", "/user/select/llms")
selected_llms: dict[str, list[Any]] = {"llms": []}
execute_request, SysCallWrapper, syscall_executor = useSysCall()


def initialize_components() -> dict[str, Any]:
    llms = config.get_llms_config()
    context = llms.get("use_context_manager", False)
    made: dict[str, Any] = {
        "llms": useCore(llm_configs=llms["models"], log_mode="console"),
        "memory": Manager(),
        "storage": Manager(),
        "tool": ToolManager(),
    }
    factory = rr_scheduler_nonblock if context else fifo_scheduler_nonblock
    made["scheduler"] = factory(
        llm=made["llms"],
        memory_manager=made["memory"],
        storage_manager=made["storage"],
        tool_manager=made["tool"],
        log_mode="console",
    )
    made["scheduler"].start()
    return made


active_components: Any = None
active_components = initialize_components()


def restart_kernel() -> None:
    initialize_components()


def select_llm() -> None:
    """Only over HTTP."""


def handle_query() -> None:
    """Only over HTTP."""


def cleanup_components() -> None:
    """Only over HTTP."""


def refresh_configuration() -> None:
    config.refresh()
    restart_kernel()
