"""`aios-eccos status`: load, calls, spending, success, and whether the floor holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show load, calls, spending, success, and whether the floor holds.

    Exit code 1 where a floor is broken.
    """
    from aios_eccos.cli.ask import Asker, show
    from aios_eccos.observe.render import status as render
    from aios_eccos.observe.views import StatusView

    with Asker(config, aios_home) as asker:
        view = asker.get("/eccos/status", StatusView, lambda reader: reader.status())
    show(view, as_json, lambda: render(view))
    if view.broken:
        raise typer.Exit(1)
