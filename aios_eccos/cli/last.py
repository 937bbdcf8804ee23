"""`aios-eccos last`: the last decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def last(
    n: Annotated[int, typer.Argument(min=1, max=500, help="How many.")] = 10,
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the last decisions, newest first; their ids are what `explain` takes."""
    from aios_eccos.cli.ask import Asker, show
    from aios_eccos.observe.call_views import DecisionsView
    from aios_eccos.observe.render import last as render

    with Asker(config, aios_home) as asker:
        view = asker.get(
            f"/eccos/decisions?n={n}", DecisionsView, lambda reader: reader.decisions(n)
        )
    show(view, as_json, lambda: render(view))
