"""`aios-eccos whatif`: the kernel's recent calls under another floor, limits, prices or pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from aios_eccos.cli.ask import Asker
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.cli.output import console, draw_table, pairs, token_prices, versions, write_json
from aios_eccos.config import parse_floor
from aios_eccos.errors import ConfigError
from aios_eccos.forecast.pricing import configured_models
from aios_eccos.lab.whatif import Change, Course, WhatIf, what_if
from aios_eccos.metrics import percent
from aios_eccos.observe.call_views import DecisionsView
from aios_eccos.observe.opened import workload_of
from aios_eccos.observe.shape import units_apart
from aios_eccos.observe.trace import read_traces
from aios_eccos.serve.dispatch import DECIDED_S


def whatif(
    floor: Annotated[
        str | None, typer.Option(help="Success asked for: 0.8, or 95% of the strongest model's.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="NAME=N: calls in flight; may repeat.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A model that may not serve; may repeat.")
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="NAME=IN,OUT: dollars per million tokens; may repeat.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="Calls of the log, newest first.")] = 1000,
    config: ConfigFile = None,
    aios_home: AiosHome = None,
    as_json: AsJson = False,
) -> None:
    """Decide the kernel's recent calls again, without asking any model.

    What happened stands beside the same calls simulated as they were and with the change. Figures
    about models that were not asked are forecasts.
    """
    change = _change(floor, limit, drop, price)
    with Asker(config, aios_home) as asker:
        found = asker.config
        if found.settings.redis == "memory":
            path = f"/eccos/decisions?n={last}"
            view = asker.get(path, DecisionsView, lambda reader: reader.decisions(last))
            traces = view.decisions
        else:  # Redis has more of them than a kernel shows at once
            with workload_of(found) as workload:
                traces = read_traces(workload.decisions(last))
    limits = {model.name: model.limit for model in configured_models(found)}
    result = what_if(traces, change, limits)
    if as_json:
        body = {"schema": "aios-eccos/whatif-log/1", "versions": versions(), **asdict(result)}
        write_json(units_apart(body), "-")
    else:
        _show(console(), result)


def _change(
    floor: str | None, limit: list[str] | None, drop: list[str] | None, price: list[str] | None
) -> Change:
    try:
        asked = None if floor is None else parse_floor(floor)
        limits = {name: int(value) for name, value in pairs("limit", limit).items()}
    except ValueError as error:
        raise ConfigError(f"--floor {floor}, --limit {limit}: {error}") from error
    prices = token_prices(price)
    if any(value < 0 for value in limits.values()):
        raise ConfigError(f"--limit {limit}: wanted whole numbers from 0")
    if asked is None and not limits and not drop and not prices:
        raise ConfigError("nothing to change: name a --floor, --limit, --drop or --price")
    return Change(asked, limits, tuple(drop or ()), prices)


def _show(screen: Console, result: WhatIf) -> None:
    courses = {
        "happened": result.happened, "simulated": result.simulated, "changed": result.changed
    }  # fmt: skip
    unit = "$ / 1000 calls" if result.money else "cost units / call"
    scale = 1e3 if result.money else 1.0
    cells: dict[str, Callable[[Course], str]] = {
        "calls": _count,
        unit: lambda course: f"{course.cost_usd * scale:.4g}",
        "success promised": lambda course: percent(course.promised),
        f"waited > {DECIDED_S:g} s": lambda course: percent(course.waited),
        "wait, mean s": lambda course: f"{course.wait_mean_s:.3f}",
        "wait, p95 s": lambda course: f"{course.wait_p95_s:.3f}",
    }
    rows = [
        {"": head, **{name: cell(course) for name, course in courses.items()}}
        for head, cell in cells.items()
    ]
    for model in sorted({name for course in courses.values() for name in course.share}):
        used = {name: percent(course.share.get(model, 0.0)) for name, course in courses.items()}
        rows.append({"": model, **used})
    screen.print(draw_table(rows))
    if result.floor is not None:
        worth = f", a success worth ${result.price_usd:.3g}" if result.money else ""
        screen.print(f"Decided at a floor of {percent(result.floor)}{worth}.")
        if result.floor > result.reachable + 1e-9:
            screen.print(
                f"The floor is out of reach: at most {percent(result.reachable)} is promised."
            )
    screen.print(
        "Simulated and changed are forecasts: success and cost as they were forecast at each "
        "decision, durations as each model usually takes. Compare changed with simulated.",
        style="dim",
    )


def _count(course: Course) -> str:
    return f"{course.calls}" + (f" (+ {course.unserved} unserved)" if course.unserved else "")
