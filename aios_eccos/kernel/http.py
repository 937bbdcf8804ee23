"""The kernel's HTTP side: our handlers in the place of AIOS's own, and what comes up with them.

AIOS's `app` exists before its scheduler starts, and its routes do not; so the lifespan is wrapped
then, and the routes are exchanged inside it. No file of AIOS is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from aios_eccos import __version__
from aios_eccos.errors import ConfigError, hide
from aios_eccos.kernel import aios_config, calls, routes, workers
from aios_eccos.kernel.aios_config import check_file, find_launch
from aios_eccos.kernel.body_limit import AGENTS, limited
from aios_eccos.kernel.engine_setup import set_aside
from aios_eccos.kernel.executor import StepFailed
from aios_eccos.kernel.scheduler import Process
from aios_eccos.kernel.serving import Serving
from aios_eccos.kernel.workers import Broadcast, beside
from aios_eccos.providers.wire import clean, mapping

log = logging.getLogger("aios_eccos.kernel.http")

#: Most characters of an error that an agent is told.
MOST_SAID = 10_000
#: How often a call under way is checked for its client, seconds.
PRESENCE_S = 0.5


def attach(process: Process, scheduler: Any) -> None:
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
        app.router.lifespan_context = lifespan(launch, process, app.router.lifespan_context)


def lifespan(launch: Any, process: Process, inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @contextlib.asynccontextmanager
    async def ours(app: Any) -> AsyncIterator[Any]:
        serving = process.serving
        threads = serving.config.settings.http_threads if serving.config is not None else 256
        pool = ThreadPoolExecutor(threads, thread_name_prefix="eccos-http")
        asyncio.get_running_loop().set_default_executor(pool)
        app.state.eccos_threads = threads
        steps = Steps(launch)
        exchange(launch, process, steps)
        routes.add(app, process)
        end_with_signals(serving)

        async def act(kind: str, value: str) -> None:
            if kind == "refresh":
                await beside(check_file)
            if kind in steps:
                await steps.run(kind)
            elif kind == "mode":
                await beside(serving.switch, value)
            elif kind == "audit":
                await beside(serving.set_audit, float(value))
            elif kind == "selection":
                launch.selected_llms["llms"] = json.loads(value)

        await beside(set_aside)
        listening = asyncio.create_task(workers.listen(process.broadcast, act))
        try:
            async with inner(app) as state:
                yield state
        finally:
            listening.cancel()
            # A refresh under way would open what is closed now.
            await beside(steps.close)
            await beside(process.end)

    return ours


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


class Steps:
    """AIOS's own refresh and clean-up, one at a time.

    They take seconds and never await: on the event loop they would stop every answer.
    """

    def __init__(self, launch: Any) -> None:
        self._stock = {
            "refresh": launch.refresh_configuration,
            "cleanup": launch.cleanup_components,
        }
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="eccos-refresh")

    def __contains__(self, kind: str) -> bool:
        return kind in self._stock

    async def run(self, kind: str) -> Any:
        """Carry out a `refresh` or a `cleanup`; returns AIOS's answer."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: asyncio.run(self._stock[kind]()))

    def close(self) -> None:
        """Wait for the one that runs and drop those that wait."""
        self._threads.shutdown(cancel_futures=True)


def exchange(launch: Any, process: Process, steps: Steps) -> None:
    async def cleanup() -> Any:
        """`POST /core/cleanup`, in all workers."""
        answer = await steps.run("cleanup")
        await beside(process.broadcast.send, "cleanup")
        return answer

    refresh = refresh_handler(process, steps)
    # AIOS's own /core/config/update calls the function by its name in the module.
    launch.refresh_configuration = refresh
    ours = {
        "/query": query_handler(launch, process.serving),
        "/core/refresh": refresh,
        "/core/cleanup": cleanup,
        "/user/select/llms": select_handler(launch, process.broadcast),
    }
    routes = launch.app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) not in ours]
    for path, endpoint in ours.items():
        launch.app.router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            response_class=Answer,
            route_class_override=limited(AGENTS),
        )


class Answer(JSONResponse):
    """JSON that can hold half a character, as agents, their tools and files may."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False).encode()


def query_handler(launch: Any, serving: Serving) -> Callable[..., Any]:
    """`POST /query`, for all kinds of queries off the event loop."""

    async def query(body: Any, request: Request) -> Any:
        data = body.query_data
        try:
            if body.query_type == "llm":
                data.llms = selection(data.llms, launch.selected_llms["llms"])
            caller = calls.Caller()
            calls.caller.set(caller)  # of this request: each runs in a context of its own
            agent = clean(body.agent_name)  # AIOS prints it, which half a character would stop
            work = asyncio.ensure_future(asyncio.to_thread(launch.execute_request, agent, data))
            while not (await asyncio.wait({work}, timeout=PRESENCE_S))[0]:
                if not caller.gone and await request.is_disconnected():
                    await beside(serving.leave, caller)
            return work.result()
        except Exception as error:  # as AIOS's own handler: the agent gets the text
            status = error.status_code if isinstance(error, StepFailed) else 500
            raise HTTPException(status, hide(clean(str(error)[:MOST_SAID]))) from error

    # FastAPI reads annotations; the body's class is only known here.
    query.__annotations__["body"] = launch.QueryRequest
    return query


def selection(asked: list[Any] | None, selected: list[Any]) -> list[Any] | None:
    """The models of a call under the user's global selection; a ValueError if there are none.

    AIOS compares `provider`, which only its web page sends; others send `backend` or neither.
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


def _are_models(chosen: Any) -> bool:
    entries = chosen if isinstance(chosen, list) else [chosen]
    return entries is chosen and all(isinstance(mapping(e).get("name"), str) for e in entries)


def _same(entry: dict[str, Any], other: dict[str, Any]) -> bool:
    mine = entry.get("provider") or entry.get("backend")
    theirs = other.get("provider") or other.get("backend")
    same_backend = mine is None or theirs is None or mine == theirs
    return entry.get("name") == other.get("name") and same_backend


def select_handler(launch: Any, broadcast: Broadcast) -> Callable[..., Any]:
    """`POST /user/select/llms`: AIOS's own, which an empty list clears here.

    Every later call would fail of what is no list of models.
    """
    stock = launch.select_llm

    async def select(request: Request) -> Any:
        try:
            chosen = await request.json()
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "the body is no JSON: wanted a list of models") from error
        if chosen and not _are_models(chosen):
            raise HTTPException(422, "wanted a list of models, each with a name")
        if chosen:
            answer = await stock(request)
        else:
            launch.selected_llms["llms"] = []
            answer = {"status": "success", "message": "No LLM selected: all are allowed"}
        await beside(broadcast.send, "selection", json.dumps(launch.selected_llms["llms"]))
        return answer

    return select


def refresh_handler(process: Process, steps: Steps) -> Callable[..., Any]:
    """`POST /core/refresh`, in all workers, with a look at the configuration first."""
    serving, broadcast = process.serving, process.broadcast
    stays = "the configuration before stays in force"

    async def refresh() -> Any:
        try:
            await beside(check_file)
        except ConfigError as error:
            log.error("not refreshed, %s: %s", stays, error)
            raise HTTPException(422, f"Not refreshed, {stays}: {error}") from error
        before, read_before = serving.config, aios_config.manager().config
        try:
            answer = await steps.run("refresh")
        except Exception as error:
            kept = serving.config is before
            if kept:  # AIOS has read the file all the same, and asks it at every call
                aios_config.manager().config = read_before
            reason = hide(str(getattr(error, "detail", error)))
            which = "the one before stays" if kept else "the new one is"
            detail = f"{reason}; of aios-eccos's configuration {which} in force"
            log.error("AIOS could not refresh: %s", detail)
            if not kept:
                await beside(broadcast.send, "refresh")
            raise HTTPException(500, detail) from error
        await beside(broadcast.send, "refresh")
        return answer

    return refresh
