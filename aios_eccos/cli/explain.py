"""`aios-eccos explain`: why a call went where it did, and what the others would have cost."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from aios_eccos.cli.ask import Asker, show
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.errors import DataError, EccosError, HistoryOwned
from aios_eccos.locate import Config
from aios_eccos.observe import render_calls
from aios_eccos.observe.call_views import ExplainView
from aios_eccos.observe.command import looks_like_id
from aios_eccos.observe.neighbors import neighbors_of_call
from aios_eccos.observe.opened import history_of


def explain(
    which: Annotated[
        str, typer.Argument(metavar="ID|last|TEXT", help="A decision, or what one might ask.")
    ] = "last",
    agent: Annotated[str, typer.Option(help="Who asks a TEXT, for floors by agent.")] = "",
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Explain a decision: neighbors, forecasts, cost, load, the constraint that bound.

    Neighbors' texts are shown where they are stored and the history can be opened here: while a
    kernel has the embedded history open, it is the only one that can.
    """
    with Asker(config, aios_home) as asker:
        if which == "last" or looks_like_id(which):
            path = f"/eccos/decisions/{quote(which)}"
            view = asker.get(path, ExplainView, lambda reader: reader.explain(which))
            view = _with_texts(asker.config, view)
        else:
            body = {"text": which, "agent": agent}
            found = asker.kernel("/eccos/explain", ExplainView, body)
            if found is None:
                raise DataError("no kernel answers; `aios-eccos route TEXT` decides without one")
            view = found
    show(view, as_json, render_calls.explain)


def _with_texts(config: Config, view: ExplainView) -> ExplainView:
    """The view with its neighbors' texts, if the history can be opened here."""
    try:
        with history_of(config) as history:
            found = neighbors_of_call(history, view.decision, texts=True)
    except HistoryOwned:
        return view  # the kernel has looked already; texts stay with it
    except EccosError as error:
        return view.model_copy(update={"neighbors_note": view.neighbors_note or str(error)})
    note = None if found else "this call is not in the history"
    return view.model_copy(update={"neighbors": found, "neighbors_note": note})
