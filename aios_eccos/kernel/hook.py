"""What is patched in AIOS, when, and on what condition. `boot` calls `patch` after each module.

Nothing is patched unless the strategy is `eccos` (or `aios-eccos run` asked for it) at that time,
so any other strategy leaves AIOS as it was. Later imports of the patched names see ours.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

log = logging.getLogger("aios_eccos.kernel.hook")

STRATEGY = "eccos"
#: What AIOS's base class is told in place of ours; its router then serves as the fallback.
STOCK_STRATEGY = "sequential"


def wanted() -> bool:
    """Whether the kernel's configuration (or `aios-eccos run`) asks for the plugin now."""
    return forced() or _router_config().get("strategy") == STRATEGY


def forced() -> bool:
    """Whether `aios-eccos run` started this process, which needs no strategy in the file."""
    return os.environ.get("AIOS_ECCOS", "").lower() == "run"


def patch(module: ModuleType) -> None:
    """Patch one of AIOS's modules, right after its code has run.

    With the plugin wanted but its settings not valid, AIOS starts with its own strategy and one
    line on standard error says why.
    """
    if not wanted():
        return
    if module.__name__ == "aios.llm_core.adapter":
        module.config = _ConfigView(module.config)  # type: ignore[attr-defined]
    if _problem() is None:
        _PATCHES[module.__name__](module)


def _manager() -> Any:
    return importlib.import_module("aios.config.config_manager").config


def config_path() -> str:
    """AIOS's configuration file."""
    return str(_manager().config_path)


def aios_home() -> Path:
    """AIOS's checkout; the file in it may be a link to somewhere else."""
    return Path(config_path()).parent.resolve().parents[1]


def _router_config() -> dict[str, Any]:
    return _manager().get_router_config() or {}


def own_router(llm_configs: list[Any]) -> Any:
    """The router that AIOS would follow without us; None where that is its `sequential`.

    The strategy is that of before `enable`, or the file's own under `aios-eccos run`.
    """
    from aios_eccos.kernel.setup.install import strategy_before

    router = _router_config()
    strategy = router.get("strategy")
    if strategy == STRATEGY:
        strategy = strategy_before(aios_home())
    if strategy != "smart":
        return None
    routing = importlib.import_module("aios.llm_core.routing")
    return routing.SmartRouting(
        llm_configs=llm_configs, bootstrap_url=router.get("bootstrap_url", None)
    )


class _ConfigView:
    """AIOS's configuration as its LLMAdapter sees it: with a strategy that it knows."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_router_config(self) -> dict[str, Any]:
        router = dict(self._real.get_router_config() or {})
        if wanted():
            router["strategy"] = STOCK_STRATEGY
        return router


_found: list[str | None] = []


def _problem() -> str | None:
    """Why the plugin cannot serve at this start, looked at once; None if it can."""
    if not _found:
        try:
            read_config()
            # All of it now: half a plugin in the kernel would be worse than none.
            importlib.import_module("aios_eccos.kernel.http")
            _found.append(None)
        except Exception as error:  # noqa: BLE001 - a broken plugin must not keep AIOS from starting
            ours = type(error).__module__ == "aios_eccos.errors"
            _found.append(str(error) if ours else f"{type(error).__name__}: {error}")
            sys.stderr.write(
                f"aios-eccos: {_found[0]}\naios-eccos: not in force; AIOS serves with its own "
                f"strategy {STOCK_STRATEGY!r} until this is mended and the kernel restarted\n"
            )
    return _found[0]


def read_config(llm_configs: list[dict[str, Any]] | None = None) -> Any:
    """The configuration in force in this kernel, validated.

    Args:
        llm_configs: the models as AIOS hands them to its adapter; None reads its configuration.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    from aios_eccos.config import parse_config
    from aios_eccos.locate import Config, Location, state_dir_of

    home, path = aios_home(), Path(config_path())
    models = _manager().get_llms_config().get("models") if llm_configs is None else llm_configs
    settings, entries = parse_config(_router_config().get("eccos"), models)
    location = Location(home, path, state_dir_of(home), "the running kernel")
    return Config(location, settings, entries, STRATEGY)


def _patch_adapter(module: Any) -> None:
    from aios_eccos.kernel.adapter import EccosAdapter

    stock = module.LLMAdapter

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        # A refresh may have gone back to another strategy: then AIOS's own adapter serves.
        return object.__new__(cls) if wanted() else stock(*args, **kwargs)

    def check(adapter: Any, llm_configs: list[dict[str, Any]]) -> None:
        adapter.eccos_config = read_config(llm_configs)

    module.LLMAdapter = type(
        "EccosLLMAdapter",
        (EccosAdapter, stock),
        {
            "__new__": new,
            "__module__": EccosAdapter.__module__,
            "eccos_check": check,
            "eccos_own_router": staticmethod(own_router),
            "eccos_response": staticmethod(module.LLMResponse),
            "eccos_client": module.OpenAI,
        },
    )


def _patch_fifo(module: Any) -> None:
    module.FIFOScheduler = scheduler_class(module.FIFOScheduler, module.FIFOScheduler)


def _patch_rr(module: Any) -> None:
    fifo = importlib.import_module("aios.scheduler.fifo_scheduler").FIFOScheduler
    module.RRScheduler = scheduler_class(fifo.eccos_stock, module.RRScheduler)


def scheduler_class(fifo: Any, stock: Any) -> Any:
    """Our scheduler over AIOS's FIFO, in the place of `stock`."""
    from aios_eccos.kernel import http, status, terminal
    from aios_eccos.kernel.engine_setup import open_engine
    from aios_eccos.kernel.scheduler import EccosScheduler
    from aios_eccos.kernel.serving import Serving
    from aios_eccos.kernel.workers import Word
    from aios_eccos.locate import state_dir_of

    if not hasattr(EccosScheduler, "eccos_serving"):
        EccosScheduler.eccos_serving = Serving(open_engine)
        terminal.render = lambda words: status.text(EccosScheduler.eccos_serving, words)
        EccosScheduler.eccos_attach = staticmethod(http.attach)
        EccosScheduler.eccos_word = Word(state_dir_of(aios_home()))
        EccosScheduler.eccos_responses = {
            kind: _response_class(kind) for kind in ("Memory", "Storage", "Tool")
        }

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        if wanted():
            return object.__new__(cls)
        current = EccosScheduler.current()
        if current is not None:
            current.retire(None)
        own = stock(*args, **kwargs)
        EccosScheduler.eccos_own.append(own)
        return own

    return type(
        "EccosAIOSScheduler",
        (EccosScheduler, fifo),
        {"__new__": new, "__module__": EccosScheduler.__module__, "eccos_stock": fifo},
    )


def _response_class(kind: str) -> Callable[..., Any]:
    module = importlib.import_module(f"cerebrum.{kind.lower()}.apis")
    found: Callable[..., Any] = getattr(module, f"{kind}Response")
    return found


def _patch_executor(module: Any) -> None:
    from aios_eccos.kernel import actions, calls, terminal

    stock = module.SyscallExecutor
    create, execute = stock.create_syscall, stock.execute_request
    ask, store = stock.execute_llm_syscall, stock.execute_storage_syscall

    def create_syscall(self: Any, agent_name: str, query: Any) -> Any:
        syscall = create(self, agent_name, query)
        syscall.eccos_caller = calls.caller.get()
        # AIOS's threads for calls would keep a process alive that was told to end.
        syscall.daemon = True
        return syscall

    def execute_request(self: Any, agent_name: str, query: Any) -> Any:
        if not wanted():  # a refresh has gone to another strategy
            return execute(self, agent_name, query)
        reply = terminal.answer(agent_name, query, module.LLMResponse)
        return actions.perform(execute, self, agent_name, query) if reply is None else reply

    def execute_llm_syscall(self: Any, agent_name: str, query: Any) -> Any:
        return actions.ask(ask, self, agent_name, query)

    def execute_storage_syscall(self: Any, agent_name: str, query: Any) -> Any:
        return actions.store(store, self, agent_name, query)

    stock.create_syscall = create_syscall
    stock.execute_request = execute_request
    stock.execute_llm_syscall = execute_llm_syscall
    stock.execute_storage_syscall = execute_storage_syscall


def _patch_tools(module: Any) -> None:
    from aios_eccos.kernel.scheduler import EccosScheduler
    from aios_eccos.locate import state_dir_of

    stock = module.ToolManager
    start = stock._start_mcp_server

    def _start_mcp_server(self: Any) -> None:
        start(self)
        server = self.mcp_server_process
        if server is None or not wanted():
            return
        try:
            EccosScheduler.eccos_tool_servers.add(state_dir_of(aios_home()), server)
        except OSError as error:  # then a kill leaves it running, no more
            log.warning("AIOS's tool server could not be noted: %s", error)

    stock._start_mcp_server = _start_mcp_server


_PATCHES: dict[str, Callable[[Any], None]] = {
    "aios.llm_core.adapter": _patch_adapter,
    "aios.scheduler.fifo_scheduler": _patch_fifo,
    "aios.scheduler.rr_scheduler": _patch_rr,
    "aios.syscall.syscall": _patch_executor,
    "aios.tool.manager": _patch_tools,
}
