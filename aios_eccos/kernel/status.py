"""What the edge says of itself: as JSON on the kernel's HTTP side, as text in its terminal."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import Counter
from typing import Any

from aios_eccos.errors import HistoryError, KernelError
from aios_eccos.history.history import History
from aios_eccos.kernel.adapter import EccosAdapter
from aios_eccos.kernel.aios_config import find_launch
from aios_eccos.kernel.scheduler import EccosScheduler, Process
from aios_eccos.kernel.serving import Serving
from aios_eccos.observe.reader import Reader, state_of
from aios_eccos.observe.views import CanaryView, EdgeView
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Refused

#: The module of our `/query`.
HTTP = "aios_eccos.kernel.http"
#: What an operator may declare of a model, so that no request has to find it out.
REMEDIES: dict[Refused, str] = {
    "context": "set its context_window",
    "output": "ask it for shorter answers (max_new_tokens)",
    **dict.fromkeys(("tools", "json", "vision"), "set its abilities"),
}


def kernel_status(process: Process) -> dict[str, Any]:
    serving = process.serving
    engine, adapter = serving.engine, serving.adapter
    waiting, running = engine.dispatcher.depth() if engine is not None else (0, 0)
    return {
        "process": os.getpid(),
        "mode": serving.mode,
        "models": list(adapter.available_llm_names) if adapter is not None else [],
        "waiting": waiting,
        "running": running,
        "settled": serving.settled,
        "failed": serving.failed,
        "seams": seams(process),
        "threads": threads(),
        "executor": executor(),
        "last": list(serving.last),
        "undecided": engine.router.failures if engine is not None else 0,
        "refusals": [
            {"model": each.model, "refuses": each.words, "remedy": REMEDIES[each.kind]}
            for each in (engine.dispatcher.attempts.refusals.known() if engine is not None else ())
        ],
        "observed": serving.observed.sums.model_dump(),
    }


def threads() -> dict[str, int]:
    """Living threads by what they are for (names without their numbers)."""
    names = (re.sub(r"[-_ (]*\d.*$", "", thread.name) for thread in threading.enumerate())
    return dict(Counter(names))


def executor() -> int | None:
    """Threads of the event loop's default executor, as our lifespan made it; None if it did not."""
    launch = find_launch()
    return None if launch is None else getattr(launch.app.state, "eccos_threads", None)


def seams(process: Process) -> dict[str, bool]:
    """Whether the plugin sits at each place of this kernel where it should."""
    launch = find_launch()
    routes = getattr(launch.app.router, "routes", ()) if launch is not None else ()
    # The first of that path answers.
    query = next((route for route in routes if getattr(route, "path", None) == "/query"), None)
    endpoint = getattr(query, "endpoint", None)
    llm = sys.modules.get("aios.hooks.modules.llm")
    scheduler = sys.modules.get("aios.hooks.modules.scheduler")
    current = process.scheduler
    return {
        "adapter": issubclass(getattr(llm, "LLM", object), EccosAdapter),
        "FIFO scheduler": issubclass(getattr(scheduler, "FIFOScheduler", object), EccosScheduler),
        "RR scheduler": issubclass(getattr(scheduler, "RRScheduler", object), EccosScheduler),
        "one active scheduler": [s for s in process.schedulers if s.active] == [current],
        "adapter in force": current is not None and current.llm is process.serving.adapter,
        "query route": getattr(endpoint, "__module__", None) == HTTP,
    }


def reader(serving: Serving) -> Reader:
    """Answers what the engine in force decided; a KernelError while there is none."""
    engine = serving.engine
    if not isinstance(engine, Engine):
        raise KernelError("the plugin serves no calls now")
    return Reader.of_engine(engine, lambda: edge_view(serving, engine))


def _records(history: History | None) -> int | None:
    """How many there are; None where the history is not open, or does not answer."""
    try:
        return None if history is None else history.count()
    except HistoryError:
        return None


def edge_view(serving: Serving, engine: Engine) -> EdgeView:
    """What only this process knows, for `status`."""
    embedder = engine.embedder
    waiting, running = engine.dispatcher.depth()
    book, canary = engine.router.learned.book, engine.canary.figures()
    return EdgeView(
        mode=serving.mode,
        waiting=waiting,
        running=running,
        undecided=engine.router.failures,
        lost_traces=engine.recorder.lost,
        unlearnt=engine.teaches.unlearnt,
        history=_records(engine.history),
        history_note=state_of(engine) or None,
        embedder=None if embedder is None else embedder.state,
        floors_from="verdicts" if book is not None and book.curve() is not None else "priors",
        observed=serving.observed.sums,
        certificates=engine.certificates,
        fairness=engine.dispatcher.fairness(),
        canary=None if canary is None else CanaryView.model_validate(canary),
    )
