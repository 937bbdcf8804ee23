"""The routes under /eccos/ on a server of their own, and requests made from their OpenAPI."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aios_eccos.observe.reader import Reader
from aios_eccos.serve.engine import Engine

from ..kernel import free_port
from .redis_values import errors_logged
from .world import edge, engine_on, redis_server, serve


@contextmanager
def served(port: int, folder: Path) -> Iterator[str]:
    """Uvicorn with the routes of an engine that has answered calls; the base URL."""
    import uvicorn

    with engine_on(port, folder) as engine:
        for agent in ("capped/a", "\x1b[2J<script>\r\nforged", "other"):
            serve(engine, agent)
        at = free_port()
        config = uvicorn.Config(app_of(engine), "127.0.0.1", at, log_level="warning")
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{at}"
        finally:
            running.should_exit = True
            thread.join()


def app_of(engine: Engine) -> Any:
    """An app with our routes alone, as the kernel adds them to AIOS's."""
    from fastapi import FastAPI

    from aios_eccos.kernel import routes

    serving = SimpleNamespace(
        config=engine.config,
        engine=engine,
        switch=lambda mode: None,
        set_audit=lambda share: None,
    )
    broadcast = SimpleNamespace(send=lambda kind, value="": None)
    process: Any = SimpleNamespace(serving=serving, broadcast=broadcast)
    edges: Any = routes
    edges.reader = lambda of: Reader.of_engine(engine, edge)
    edges.kernel_status = lambda of: {"mode": "route"}
    app = FastAPI()
    routes.add(app, process)
    return app


def requests(folder: Path, examples: int, seed: int = 0) -> tuple[int, list[str]]:
    """Requests that schemathesis makes from the OpenAPI; how many, and what is wrong."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded

    faults: list[str] = []
    tried = 0
    with redis_server() as port, served(port, folder) as url, errors_logged() as logged:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        for found in schema.get_all_operations():
            operation = found.ok()

            @seeded(seed)
            @settings(
                max_examples=examples,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def each(case: Any) -> None:
                nonlocal tried
                tried += 1
                answer = case.call()
                if answer.status_code >= 500:
                    raise AssertionError(f"{answer.status_code}: {answer.text[:200]}")
                answer.text.encode()

            try:
                each()
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                faults.append(f"{operation.label}: {type(error).__name__}: {str(error)[:300]}")
        faults += logged
    return tried, faults
