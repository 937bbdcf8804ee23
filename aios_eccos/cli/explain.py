"""`aios-eccos explain`: why a call went where it did, and what the others would have cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from aios_eccos.locate import Config
    from aios_eccos.observe.call_views import ExplainView


def explain(
    which: Annotated[
        str, typer.Argument(metavar="ID|last|TEXT", help="A decision, or what one might ask.")
    ] = "last",
    agent: Annotated[str, typer.Option(help="Who asks a TEXT, for floors by agent.")] = "",
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain a decision: neighbors, forecasts, cost, load, the constraint that bound.

    Neighbors' texts are shown where they are stored and the history can be opened here: while a
    kernel has the embedded history open, it is the only one that can.
    """
    from aios_eccos.cli.ask import Asker, show
    from aios_eccos.errors import DataError
    from aios_eccos.observe.call_views import ExplainView
    from aios_eccos.observe.command import looks_like_id
    from aios_eccos.observe.render_explain import explain as render

    with Asker(config, aios_home) as asker:
        if which == "last" or looks_like_id(which):
            view = asker.get(
                f"/eccos/decisions/{quote(which)}",
                ExplainView,
                lambda reader: reader.explain(which),
            )
            view = _with_texts(asker.config, view)
        else:
            body = {"text": which, "agent": agent}
            found = asker.kernel("/eccos/explain", ExplainView, body)
            if found is None:
                raise DataError("no kernel answers; `aios-eccos route TEXT` decides without one")
            view = found
    show(view, as_json, lambda: render(view))


def _with_texts(config: Config, view: ExplainView) -> ExplainView:
    """The view with its neighbors' texts, if the history can be opened here."""
    from aios_eccos.errors import EccosError, HistoryOwned
    from aios_eccos.history.open import open_embedder, open_history
    from aios_eccos.observe.neighbors import neighbors_of_record

    settings = config.settings
    try:
        history = open_history(
            settings.history, config.location.state_dir, open_embedder(settings.embedder)
        )
    except HistoryOwned:
        return view  # the kernel has looked already; texts stay with it
    except EccosError as error:
        return view.model_copy(update={"neighbors_note": view.neighbors_note or str(error)})
    models = [option.model for option in view.decision.options]
    try:
        found = neighbors_of_record(history, view.decision.call, models, texts=True)
    finally:
        history.close()
    note = None if found else "this call is not in the history"
    return view.model_copy(update={"neighbors": found, "neighbors_note": note})
