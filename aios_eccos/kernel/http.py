"""Brings the kernel's HTTP side up and down: threads, handlers, routes, signals, other workers.

AIOS's `app` exists before its scheduler starts, and its routes do not; so the lifespan is wrapped
then, and the routes are exchanged inside it. No file of AIOS is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aios_eccos import __version__
from aios_eccos.kernel import handlers, routes, workers
from aios_eccos.kernel.aios_config import check_file
from aios_eccos.kernel.aios_types import find_launch
from aios_eccos.kernel.engine_setup import set_aside
from aios_eccos.kernel.scheduler import Process
from aios_eccos.kernel.serving import Serving
from aios_eccos.kernel.workers import beside


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
    """AIOS's lifespan of its server with ours around it."""

    @contextlib.asynccontextmanager
    async def ours(app: Any) -> AsyncIterator[Any]:
        serving = process.serving
        threads = serving.config.settings.http_threads if serving.config is not None else 256
        pool = ThreadPoolExecutor(threads, thread_name_prefix="eccos-http")
        asyncio.get_running_loop().set_default_executor(pool)
        app.state.eccos_threads = threads
        steps = handlers.Steps(launch)
        handlers.exchange(launch, process, steps)
        routes.add(app, process)
        end_with_signals(serving)

        async def act(kind: str, value: str) -> None:
            if kind == "refresh":
                await beside(check_file)
            if kind in steps:
                await steps.run(kind)
            elif kind == "mode":
                await beside(serving.switch, value)
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
