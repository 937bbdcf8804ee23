"""The commands that ask a living kernel, else Redis: what was decided, and what came of it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from aios_eccos.cli.ask import Asker, show
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.errors import ConfigError, DataError, EccosError, HistoryOwned
from aios_eccos.locate import Config
from aios_eccos.observe import render, render_calls
from aios_eccos.observe.call_views import DecisionsView, ExplainView, FeedbackView, SavingsView
from aios_eccos.observe.opened import history_of
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
    n: HowMany = 10, aios_home: AiosHome = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Show the last decisions, newest first; their ids are what `explain` takes."""
    with Asker(config, aios_home) as asker:
        view = asker.get(f"/eccos/decisions?n={n}", DecisionsView, lambda r: r.decisions(n))
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
    n: HowMany = 20, aios_home: AiosHome = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Show the last changes of floors, limits, prices, models and modes: when, before, after."""
    with Asker(config, aios_home) as asker:
        view = asker.get(f"/eccos/events?n={n}", EventsView, lambda reader: reader.events(n))
    show(view, as_json, render.events)


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
    from aios_eccos.observe.command import looks_like_id

    with Asker(config, aios_home) as asker:
        if which == "last" or looks_like_id(which):
            path = f"/eccos/decisions/{quote(which)}"
            view = asker.get(path, ExplainView, lambda reader: reader.explain(which))
            view = _with_texts(asker.config, view)
        elif found := asker.kernel("/eccos/explain", ExplainView, {"text": which, "agent": agent}):
            view = found
        else:
            raise DataError("no kernel answers; `aios-eccos route TEXT` decides without one")
    show(view, as_json, render_calls.explain)


def _with_texts(config: Config, view: ExplainView) -> ExplainView:
    """The view with its neighbors' texts, if the history can be opened here."""
    from aios_eccos.observe.neighbors import neighbors_of_call

    try:
        with history_of(config) as history:
            found = neighbors_of_call(history, view.decision, texts=True)
    except HistoryOwned:
        return view  # the kernel has looked already; texts stay with it
    except EccosError as error:
        return view.model_copy(update={"neighbors_note": view.neighbors_note or str(error)})
    note = None if found else "this call is not in the history"
    return view.model_copy(update={"neighbors": found, "neighbors_note": note})


def feedback(
    decision: Annotated[str, typer.Argument(help="Its id, as `last` shows it, or `last`.")],
    verdict: Annotated[
        bool | None, typer.Option("--correct/--wrong", help="Whether the answer was right.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="A graded verdict, 0..1, instead.")
    ] = None,
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a served answer was right: the history and the floor learn from it.

    Correctness comes from verdicts and graders alone, never from a call's having worked.
    """
    if (verdict is None) == (score is None):
        raise ConfigError("feedback: give one of --correct, --wrong and --score NUMBER")
    correctness = float(verdict) if verdict is not None else float(score or 0.0)
    with Asker(config, aios_home) as asker:
        body = {"id": decision, "correctness": correctness}
        view = asker.kernel("/eccos/feedback", FeedbackView, body)
        if view is None:
            view = asker.reader().feedback(decision, correctness)
    show(view, as_json, _sentence)


def _sentence(view: FeedbackView) -> str:
    before = "" if view.before is None else f" (was {view.before:g})"
    learnt = "" if view.learnt else "; handed to the owner of the history"
    return f"{view.id}: {view.model} judged {view.correctness:g}{before}{learnt}"
