"""`aios-eccos events`: changes of floors, limits, prices and models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def events(
    n: Annotated[int, typer.Argument(min=1, max=500, help="How many.")] = 20,
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the last changes of floors, limits, prices, models and modes: when, before, after."""
    from aios_eccos.cli.ask import Asker, show
    from aios_eccos.observe.render import events as render
    from aios_eccos.observe.views import EventsView

    with Asker(config, aios_home) as asker:
        view = asker.get(f"/eccos/events?n={n}", EventsView, lambda reader: reader.events(n))
    show(view, as_json, lambda: render(view))
