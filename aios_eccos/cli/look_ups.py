"""`aios-eccos status | last | savings | events`: asked of a living kernel, else of Redis."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from aios_eccos.cli.ask import Asker, show
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.observe import render, render_calls
from aios_eccos.observe.call_views import DecisionsView, SavingsView
from aios_eccos.observe.views import EventsView, StatusView

HowMany = Annotated[int, typer.Argument(min=1, max=500, help="How many.")]


def status(aios_home: AiosHome = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show load, calls, spending, success, and whether the floor holds.

    Exit code 1 where a floor is broken.
    """
    with Asker(config, aios_home) as asker:
        view = asker.get("/eccos/status", StatusView, lambda reader: reader.status())
    show(view, as_json, render.status)
    if view.broken:
        raise typer.Exit(1)


def last(
    n: HowMany = 10,
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the last decisions, newest first; their ids are what `explain` takes."""
    with Asker(config, aios_home) as asker:
        path = f"/eccos/decisions?n={n}"
        view = asker.get(path, DecisionsView, lambda reader: reader.decisions(n))
    show(view, as_json, render.last)


def savings(
    baseline: Annotated[
        str | None, typer.Option(help="The model to compare with; default: the strongest.")
    ] = None,
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare spending and success with one model for every call (a forecast, with its interval).

    Realised success comes from verdicts, and only with the share of calls that have one.
    """
    path = "/eccos/savings" + (f"?baseline={quote(baseline)}" if baseline else "")
    with Asker(config, aios_home) as asker:
        view = asker.get(path, SavingsView, lambda reader: reader.savings(baseline))
    show(view, as_json, render_calls.savings)


def events(
    n: HowMany = 20,
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the last changes of floors, limits, prices, models and modes: when, before, after."""
    with Asker(config, aios_home) as asker:
        view = asker.get(f"/eccos/events?n={n}", EventsView, lambda reader: reader.events(n))
    show(view, as_json, render.events)
