"""`aios-eccos feedback`: the verdict on a served call."""

from __future__ import annotations

from typing import Annotated

import typer

from aios_eccos.cli.ask import Asker, show
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.errors import ConfigError
from aios_eccos.observe.call_views import FeedbackView


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
