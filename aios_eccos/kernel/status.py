"""What the edge says of itself: as JSON on the kernel's HTTP side, as text in its terminal."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from typing import Any

from aios_eccos import __version__

from .adapter import EccosAdapter
from .scheduler import EccosScheduler
from .serving import Serving


def kernel_status(serving: Serving) -> dict[str, Any]:
    """What the edge knows of itself, as JSON."""
    engine, adapter, shadow = serving.engine, serving.adapter, serving.shadow
    waiting, running = engine.dispatcher.depth() if engine is not None else (0, 0)
    return {
        "mode": serving.mode,
        "models": list(adapter.available_llm_names) if adapter is not None else [],
        "waiting": waiting,
        "running": running,
        "settled": serving.settled,
        "failed": serving.failed,
        "seams": seams(serving),
        "threads": threads(),
        "last": list(serving.last),
        "undecided": engine.router.failures if engine is not None else 0,
        "observed": {
            "calls": shadow.calls,
            "same_choice": shadow.same,
            "forecast_cost_served_usd": shadow.cost_served,
            "forecast_cost_routed_usd": shadow.cost_routed,
            "forecast_successes_served": shadow.success_served,
            "forecast_successes_routed": shadow.success_routed,
        },
    }


def threads() -> dict[str, int]:
    """Living threads by what they are for (names without their numbers)."""
    names = (re.sub(r"[-_ (]*\d.*$", "", thread.name) for thread in threading.enumerate())
    return dict(Counter(names))


def seams(serving: Serving) -> dict[str, bool]:
    """Whether the plugin sits at each place of this kernel where it should."""
    llm = sys.modules.get("aios.hooks.modules.llm")
    scheduler = sys.modules.get("aios.hooks.modules.scheduler")
    current = EccosScheduler.current()
    return {
        "adapter": issubclass(getattr(llm, "LLM", object), EccosAdapter),
        "FIFO scheduler": issubclass(getattr(scheduler, "FIFOScheduler", object), EccosScheduler),
        "RR scheduler": issubclass(getattr(scheduler, "RRScheduler", object), EccosScheduler),
        "active scheduler": current is not None and current.active,
        "adapter in force": current is not None and current.llm is serving.adapter,
    }


def text(serving: Serving) -> str:
    """The same in a few lines of at most 80 columns."""
    known = kernel_status(serving)
    lines = [
        f"aios-eccos {__version__}, mode {known['mode']}: {known['waiting']} calls wait, "
        f"{known['running']} run",
        f"{known['settled']} served since the start, {known['failed']} with an error",
        f"models: {', '.join(known['models'])}"[:80],
    ]
    seen = known["observed"]
    if seen["calls"]:
        saved = seen["forecast_cost_served_usd"] - seen["forecast_cost_routed_usd"]
        lines.append(
            f"observed: {seen['calls']} calls, routing would choose otherwise for "
            f"{seen['calls'] - seen['same_choice']}"
        )
        lines.append(f"and save ${saved:.6f} (forecast)")
    for call in known["last"][-3:]:
        lines.append(f"{call['agent']} -> {call['model']}: {call['reason']}"[:80])
    return "\n".join(lines)
