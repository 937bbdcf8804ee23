"""The kernel's HTTP side: `/query` off the event loop, a refresh that looks first, our routes.

AIOS's `app` exists before its scheduler starts, and its routes do not; so the lifespan is wrapped
then, and the routes are exchanged inside it. No file of AIOS is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from aios_eccos import __version__
from aios_eccos.config import parse_config
from aios_eccos.errors import ConfigError
from aios_eccos.kernel import calls, hook, routes, workers
from aios_eccos.kernel.actions import StepFailed
from aios_eccos.kernel.aios_types import LaunchModule
from aios_eccos.kernel.launch import find_launch
from aios_eccos.kernel.scheduler import EccosScheduler
from aios_eccos.kernel.serving import Serving, set_aside
from aios_eccos.kernel.workers import beside
from aios_eccos.locate import mapping_of, read_yaml

log = logging.getLogger("aios_eccos.kernel.http")

#: How often a call under way is checked for its client, seconds.
PRESENCE_S = 0.5

Step: TypeAlias = Callable[[], Awaitable[Any]]


def attach(scheduler: EccosScheduler) -> None:
    """Bring the HTTP side up with the first scheduler; tell AIOS of later ones' components."""
    launch = find_launch()
    if launch is None:
        return
    components = launch.active_components
    if isinstance(components, dict):
        # AIOS keeps what a refresh makes to itself, and shows and cleans up the first for ever.
        components.update(
            llms=scheduler.llm,
            memory=scheduler.memory_manager,
            storage=scheduler.storage_manager,
            tool=scheduler.tool_manager,
            scheduler=scheduler,
        )
    app = launch.app
    if getattr(app.state, "eccos", None) is None:
        app.state.eccos = __version__
        app.router.lifespan_context = _lifespan(launch, app.router.lifespan_context)


def _lifespan(launch: LaunchModule, inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        serving = EccosScheduler.eccos_serving
        config = serving.config
        threads = config.settings.http_threads if config is not None else 256
        pool = ThreadPoolExecutor(threads, thread_name_prefix="eccos-http")
        asyncio.get_running_loop().set_default_executor(pool)
        app.state.eccos_threads = threads
        word = EccosScheduler.eccos_word
        # One at a time.
        refreshing = ThreadPoolExecutor(1, thread_name_prefix="eccos-refresh")
        whole = {
            "refresh": _off_the_loop(launch.refresh_configuration, refreshing),
            "cleanup": _off_the_loop(launch.cleanup_components, refreshing),
        }
        exchange(launch, serving, whole, word)
        end_with_signals(serving)

        async def told(kind: str, value: str) -> None:
            if kind == "refresh":
                await beside(check_file)
            if kind in whole:
                await whole[kind]()
            elif kind == "mode":
                await beside(routes.switch, serving, value)
            elif kind == "selection":
                launch.selected_llms["llms"] = json.loads(value)

        await beside(set_aside)
        listening = asyncio.create_task(workers.listen(word, told))
        try:
            async with inner(app) as state:
                yield state
        finally:
            listening.cancel()
            # A refresh under way would open what is closed now.
            await beside(partial(refreshing.shutdown, cancel_futures=True))
            await beside(shut_down, launch, serving)

    return lifespan


def shut_down(launch: LaunchModule, serving: Serving) -> None:
    """End everything of ours, and the tool server, which AIOS leaves running."""
    serving.close()
    current = EccosScheduler.current()
    if current is not None:
        current.retire(None)
    EccosScheduler.eccos_tool_servers.end()


def end_with_signals(serving: Serving) -> None:
    """On SIGTERM and SIGINT end the calls first: the server waits for its clients' answers."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def ended(number: int, frame: Any, before: Any = before) -> None:
            threading.Thread(target=serving.close, name="eccos-end", daemon=True).start()
            if callable(before):
                before(number, frame)

        signal.signal(number, ended)


def exchange(
    launch: LaunchModule,
    serving: Serving,
    whole: Mapping[str, Step],
    word: workers.Word,
) -> None:
    """Put our handlers in the place of AIOS's, and add our own routes.

    Args:
        whole: AIOS's own `refresh` and `cleanup`, beside the event loop.
        word: how other workers hear of what this one is told.
    """
    router = launch.app.router
    checked = _refresh_handler(serving, whole["refresh"], word)
    # AIOS's own /core/config/update calls the function by its name in the module.
    launch.refresh_configuration = checked
    for path, endpoint in (
        ("/query", _query_handler(launch, serving)),
        ("/core/refresh", checked),
        ("/core/cleanup", _telling(whole["cleanup"], word, "cleanup")),
        ("/user/select/llms", _select_handler(launch, word)),
    ):
        router.routes[:] = [r for r in router.routes if getattr(r, "path", None) != path]
        launch.app.add_api_route(path, endpoint, methods=["POST"])
    routes.add(launch.app, serving, word)


def _query_handler(launch: LaunchModule, serving: Serving) -> Callable[..., Any]:
    fastapi = importlib.import_module("fastapi")

    async def query(body: Any, request: Any) -> Any:
        data = body.query_data
        try:
            if body.query_type == "llm":
                data.llms = selection(data.llms, launch.selected_llms["llms"])
            caller = calls.Caller()
            token = calls.caller.set(caller)
            try:
                work = asyncio.ensure_future(
                    asyncio.to_thread(launch.execute_request, body.agent_name, data)
                )
            finally:
                calls.caller.reset(token)
            while not (await asyncio.wait({work}, timeout=PRESENCE_S))[0]:
                if not caller.gone and await request.is_disconnected():
                    await beside(serving.leave, caller)
            return work.result()
        except Exception as error:  # as AIOS's own handler: the agent gets the text
            status = error.status_code if isinstance(error, StepFailed) else 500
            raise fastapi.HTTPException(status_code=status, detail=str(error)) from error

    # FastAPI reads annotations; the body's class is only known here.
    query.__annotations__ = {"body": launch.QueryRequest, "request": fastapi.Request}
    return query


def selection(asked: list[Any] | None, selected: list[Any]) -> list[Any] | None:
    """The models of a call under the user's global selection, as AIOS means it.

    AIOS compares `provider`, which only its web page sends; others send `backend` or neither.

    Raises:
        ValueError: the call names models, and not one of them is selected.
    """
    if not selected:
        return asked
    if not asked:
        return [dict(entry) for entry in selected]
    kept = [entry for entry in asked if any(_same(entry, other) for other in selected)]
    if not kept:
        names = ", ".join(str(entry.get("name")) for entry in asked)
        raise ValueError(f"Required LLM {names} is not selected")
    return kept


def _same(entry: dict[str, Any], other: dict[str, Any]) -> bool:
    mine = entry.get("provider") or entry.get("backend")
    theirs = other.get("provider") or other.get("backend")
    same_backend = mine is None or theirs is None or mine == theirs
    return entry.get("name") == other.get("name") and same_backend


def _select_handler(launch: LaunchModule, word: workers.Word) -> Callable[..., Any]:
    fastapi = importlib.import_module("fastapi")

    stock = launch.select_llm

    async def select(request: Any) -> Any:
        if await request.json():
            answer = await stock(request)
        else:
            launch.selected_llms["llms"] = []
            answer = {"status": "success", "message": "No LLM selected: all are allowed"}
        await beside(word.leave, "selection", json.dumps(launch.selected_llms["llms"]))
        return answer

    select.__annotations__ = {"request": fastapi.Request}
    return select


def _off_the_loop(stock: Callable[[], Any], threads: ThreadPoolExecutor) -> Step:
    """AIOS's refresh (and cleanup) take seconds and never await: they would stop every answer."""

    async def run() -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: asyncio.run(stock()))

    return run


def _telling(run: Step, word: workers.Word, kind: str) -> Step:
    async def handler() -> Any:
        answer = await run()
        await beside(word.leave, kind)
        return answer

    return handler


def _refresh_handler(serving: Serving, refresh: Step, word: workers.Word) -> Step:
    fastapi = importlib.import_module("fastapi")

    async def checked() -> Any:
        try:
            await beside(check_file)
        except ConfigError as error:
            log.error("not refreshed, the configuration before stays in force: %s", error)
            raise fastapi.HTTPException(
                status_code=422,
                detail=f"Not refreshed, the configuration before stays in force: {error}",
            ) from error
        before = serving.config
        try:
            answer = await refresh()
        except Exception as error:
            stays = "the one before stays" if serving.config is before else "the new one is"
            said = (
                f"{getattr(error, 'detail', error)}; of aios-eccos's configuration {stays} in force"
            )
            log.error("AIOS could not refresh: %s", said)
            if serving.config is not before:
                await beside(word.leave, "refresh")
            raise fastapi.HTTPException(status_code=500, detail=said) from error
        await beside(word.leave, "refresh")
        return answer

    return checked


def check_file() -> None:
    """Validate the configuration file before AIOS takes anything down for it.

    Raises:
        ConfigError: what is wrong with it.
    """
    llms = mapping_of(read_yaml(Path(hook.config_path())).get("llms"), "llms")
    router = mapping_of(llms.get("router"), "llms.router")
    if hook.forced() or router.get("strategy") == hook.STRATEGY:
        parse_config(router.get("eccos"), llms.get("models"))
