"""What the plugin relies on in AIOS and Cerebrum, point by point; `contract` looks for it.

Only what the plugin relies on is listed; the rest of AIOS may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["call", "fields", "names", "uses", "passes", "values", "absent"]


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that must be as we know it.

    Attributes:
        file: in AIOS's checkout, or in the package `cerebrum` when it begins with "cerebrum/".
        name: dotted name within the file; "" for the file's top level.
        kind: a callable that has these parameters, a class that has these fields, a scope that
            defines or imports these names, a scope that uses these attributes, a callable that
            passes these keywords on, a scope with these values, or a class without any of them.
        wanted: the parameters, fields, names, keywords ("method(keyword=)") or values.
        why: what breaks without it.
    """

    file: str
    name: str
    kind: Kind
    wanted: tuple[str, ...]
    why: str


_ADAPTER = "aios/llm_core/adapter.py"
_FIFO = "aios/scheduler/fifo_scheduler.py"
_BASE = "aios/scheduler/base.py"
_SYSCALL = "aios/syscall/__init__.py"
_EXECUTOR = "aios/syscall/syscall.py"
_STORE = "aios/hooks/stores/_global.py"
_LAUNCH = "runtime/launch.py"
SDK = "cerebrum/llm/apis.py"
_SEAMS = ("llm", "memory_manager", "storage_manager", "tool_manager", "log_mode")
_GETTERS = tuple(f"get_{kind}_syscall" for kind in ("llm", "memory", "storage", "tool"))

POINTS = (
    Point(
        _ADAPTER,
        "LLMAdapter.__init__",
        "call",
        ("llm_configs", "api_key", "log_mode", "use_context_manager", "routing_strategy"),
        "the models are set up there",
    ),
    Point(_ADAPTER, "", "names", ("config", "OpenAI", "LLMResponse"), "patched or used"),
    Point(
        _ADAPTER,
        "LLMAdapter._get_model_response",
        "call",
        (
            "model_name",
            "model",
            "messages",
            "tools",
            "llm_syscall",
            "message_return_type",
            "response_format",
            "temperature",
            "max_tokens",
        ),
        "local Hugging Face models are called through it",
    ),
    Point(
        _ADAPTER,
        "LLMAdapter._process_response",
        "call",
        ("completed_response", "finished", "tools", "model", "message_return_type"),
        "answers of local Hugging Face models are read by it",
    ),
    Point(
        _ADAPTER,
        "LLMAdapter._dynamic_register_ollama_model",
        "call",
        ("model_name",),
        "Ollama models join at run time through it",
    ),
    Point(
        _ADAPTER,
        "LLMAdapter",
        "names",
        ("llms", "llm_configs", "available_llm_names", "router"),
        "the models' clients and names are taken from it",
    ),
    *(
        Point(
            "aios/llm_core/routing.py",
            f"{router}.get_model_idxs",
            "call",
            ("selected_llm_lists", "queries"),
            "mode observe asks it for AIOS's own choice",
        )
        for router in ("SequentialRouting", "SmartRouting")
    ),
    Point(_FIFO, "FIFOScheduler.__init__", "call", (*_SEAMS, *_GETTERS), "we subclass it"),
    Point(
        _FIFO,
        "FIFOScheduler._execute_syscall",
        "call",
        ("syscall", "executor", "syscall_type"),
        "memory, storage and tool calls are settled there",
    ),
    Point(
        _FIFO,
        "FIFOScheduler",
        "names",
        (
            "start",
            "stop",
            "process_llm_requests",
            "process_memory_requests",
            "process_storage_requests",
            "process_tool_requests",
        ),
        "the scheduler's threads",
    ),
    *(
        Point(
            _FIFO,
            f"FIFOScheduler.process_{kind}_requests",
            "uses",
            (f"get_{kind}_syscall", "_execute_syscall", "address_request", "active"),
            "how a call gets from its queue to its manager",
        )
        for kind in ("memory", "storage", "tool")
    ),
    Point(
        _BASE,
        "BaseScheduler",
        "names",
        ("processing_threads", "active", *_SEAMS[:4], *_GETTERS),
        "its parts, and its thread table",
    ),
    Point(
        "aios/tool/manager.py",
        "ToolManager",
        "names",
        ("_start_mcp_server", "cleanup", "mcp_server_process"),
        "its tool server is ended with the kernel",
    ),
    Point("aios/scheduler/rr_scheduler.py", "", "names", ("RRScheduler",), "replaced too"),
    Point(
        _SYSCALL,
        "Syscall",
        "names",
        (
            "set_status",
            "set_response",
            "set_start_time",
            "set_end_time",
            "get_status",
            "get_start_time",
            "event",
            "agent_name",
            "query",
        ),
        "how a call is settled",
    ),
    Point(_SYSCALL, "Syscall.__init__", "call", ("agent_name", "query"), "what a call carries"),
    Point(_EXECUTOR, "", "names", ("LLMResponse",), "the terminal's answers are made of it"),
    Point(
        _EXECUTOR,
        "SyscallExecutor._execute_syscall",
        "call",
        ("agent_name", "query"),
        "every call waits there until it is settled",
    ),
    *(
        Point(
            _EXECUTOR,
            f"SyscallExecutor.execute_{kind}_syscall",
            "call",
            ("agent_name", "query"),
            "the steps of call_tool and operate_file are followed there",
        )
        for kind in ("llm", "storage")
    ),
    Point(
        _EXECUTOR,
        "SyscallExecutor.execute_request",
        "call",
        ("agent_name", "query"),
        "the terminal's commands are answered there",
    ),
    Point(
        _EXECUTOR,
        "SyscallExecutor.create_syscall",
        "call",
        ("agent_name", "query"),
        "a call is tied to its HTTP client there",
    ),
    Point(
        _STORE,
        "",
        "names",
        tuple(
            f"global_{kind}_req_queue{part}"
            for kind in ("llm", "memory", "storage", "tool")
            for part in ("", "_get_message")
        ),
        "the queues that calls come through",
    ),
    Point(
        "aios/hooks/stores/queue.py",
        "getMessage",
        "passes",
        ("get(timeout=)",),
        "an empty queue must raise queue.Empty soon, or no scheduler could be stopped",
    ),
    Point("aios/hooks/modules/llm.py", "", "names", ("LLM", "useCore"), "how AIOS makes adapters"),
    Point(
        "aios/hooks/modules/scheduler.py",
        "",
        "names",
        ("FIFOScheduler", "RRScheduler", "fifo_scheduler_nonblock", "rr_scheduler_nonblock"),
        "how AIOS makes schedulers",
    ),
    Point(
        "aios/config/config_manager.py",
        "ConfigManager",
        "names",
        ("get_router_config", "get_llms_config", "refresh", "config_path"),
        "where the strategy is read",
    ),
    Point("aios/config/config_manager.py", "", "names", ("config",), "the one configuration"),
    Point(
        "aios/llm_core/routing.py",
        "SmartRouting.__init__",
        "call",
        ("llm_configs", "bootstrap_url"),
        "mode observe follows it where it was the strategy before",
    ),
    Point(
        "aios/llm_core/routing.py", "RouterStrategy", "absent", ("eccos",), "the name would clash"
    ),
    Point(
        _LAUNCH,
        "",
        "names",
        (
            "app",
            "execute_request",
            "handle_query",
            "select_llm",
            "refresh_configuration",
            "cleanup_components",
            "QueryRequest",
            "selected_llms",
            "active_components",
        ),
        "the kernel's HTTP side",
    ),
    Point(
        _LAUNCH,
        "",
        "values",
        ("/query", "/core/refresh", "/core/cleanup", "/user/select/llms"),
        "the routes that are exchanged",
    ),
    Point(
        _LAUNCH,
        "QueryRequest",
        "names",
        ("query_type", "agent_name", "query_data"),
        "the body of POST /query",
    ),
    *(
        Point(
            f"cerebrum/{kind.lower()}/apis.py",
            f"{kind}Response",
            "fields",
            ("error",),
            "what an agent gets whose call failed",
        )
        for kind in ("Memory", "Storage", "Tool")
    ),
    Point(
        SDK,
        "LLMQuery",
        "fields",
        (
            "llms",
            "messages",
            "tools",
            "action_type",
            "temperature",
            "max_new_tokens",
            "message_return_type",
            "response_format",
        ),
        "what an agent asks",
    ),
    Point(
        SDK,
        "LLMResponse",
        "fields",
        ("response_message", "tool_calls", "finished", "error", "status_code"),
        "what an agent gets",
    ),
)
