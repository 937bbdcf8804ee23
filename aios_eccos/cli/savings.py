"""`aios-eccos savings`: money and success beside one model for every call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer


def savings(
    baseline: Annotated[
        str | None, typer.Option(help="The model to compare with; default: the strongest.")
    ] = None,
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare spending and success with one model for every call (a forecast, with its interval).

    Realised success comes from verdicts, and only with the share of calls that have one.
    """
    from aios_eccos.cli.ask import Asker, show
    from aios_eccos.observe.call_views import SavingsView
    from aios_eccos.observe.render import savings as render

    path = "/eccos/savings" + (f"?baseline={quote(baseline)}" if baseline else "")
    with Asker(config, aios_home) as asker:
        view = asker.get(path, SavingsView, lambda reader: reader.savings(baseline))
    show(view, as_json, lambda: render(view))
