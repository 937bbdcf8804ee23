"""`aios-eccos collect`: QAServe records from the operator's own models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from aios_eccos.cli.ingest import ingest as add_records
from aios_eccos.cli.options import AiosHome, JsonFile
from aios_eccos.cli.output import console, draw_table, token_prices, versions, write_json
from aios_eccos.collect.client import Patience, load_endpoints
from aios_eccos.collect.collector import GIVE_UP
from aios_eccos.collect.questions import SHIPPED, load_questions
from aios_eccos.collect.run import Plan, Summary, run
from aios_eccos.errors import ConfigError
from aios_eccos.forecast.pricing import price_table
from aios_eccos.locate import Location, load_config, locate, state_dir_of
from aios_eccos.metrics import percent
from aios_eccos.observe.opened import redis_runs, workload_of
from aios_eccos.observe.text import money
from aios_eccos.workload.store import SlotStore


def collect(
    files: Annotated[list[Path] | None, typer.Argument(help="More question files.")] = None,
    questions: Annotated[
        list[Path] | None, typer.Option(help="Question files (JSONL); default: the shipped 120.")
    ] = None,
    models: Annotated[str, typer.Option(help="Names, comma-separated, or all.")] = "all",
    out: Annotated[Path, typer.Option(help="The data set; FILE.journal lies beside it.")] = Path(
        "qaserve.jsonl"
    ),
    aios_home: AiosHome = None,
    models_file: Annotated[
        Path | None, typer.Option(help="Models as under llms.models (YAML), instead of AIOS's.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests at once per model; default: its limit or 8.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Dollars, earlier parts of a resumed run included.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an earlier run.")] = False,
    ingest: Annotated[
        bool, typer.Option("--ingest", help="Add the records to the history.")
    ] = False,
    judge: Annotated[
        str | None, typer.Option(help="Model that grades questions with grader judge.")
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="NAME=IN,OUT: dollars per million tokens.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one answer.")] = 4096,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 300.0,
    json_file: JsonFile = None,
) -> None:
    """Ask every model every question, grade the answers and write QAServe records.

    A question file has one JSON object a line: id, task, question, answer, grader (choice,
    numeric, math, exact, json, judge), and where they apply choices, aliases, tolerance. Every
    answer is on disk as soon as it comes, so that a run which was stopped or killed goes on with
    --resume without asking again.
    """
    asked = load_questions([*(questions or []), *(files or [])] or [SHIPPED])[:limit]
    prices = token_prices(price)
    location = _located(aios_home, models_file)
    names = None if models == "all" else [name.strip() for name in models.split(",")]
    wanted = None if names is None else [*names, *([judge] if judge else [])]
    found = load_endpoints(location, models_file, wanted, prices)
    if judge and judge not in {endpoint.name for endpoint in found}:
        raise ConfigError(f"--judge {judge}: no such model")
    plan = Plan(
        questions=asked,
        endpoints=[e for e in found if names is None or e.name in names],
        judge=next((e for e in found if e.name == judge), None),
        out=out,
        max_cost=max_cost,
        max_tokens=max_tokens,
        concurrency=concurrency,
        patience=Patience(timeout_s=timeout),
    )
    if not resume and (out.exists() or plan.journal.exists()):
        raise ConfigError(f"{out} or its journal exists: --resume goes on, --out begins another")
    summary = _run(plan, location)
    _tell(console(json_file), plan, summary)
    if json_file is not None:
        head = {"schema": "aios-eccos/collect/1", "seed": None, "versions": versions()}
        of = {"data_hash": plan.data_hash, "out": str(out), "questions": len(asked)}
        write_json({**head, **of, "max_cost": max_cost, **asdict(summary)}, json_file)
    if ingest:
        # Its words leave standard output to JSON where that is asked.
        with redirect_stdout(sys.stderr) if json_file == "-" else nullcontext():
            add_records([out], aios_home=aios_home)
    if summary.ending == "interrupted":
        raise typer.Exit(130)
    if summary.ending == "max_cost" or any(model.errors for model in summary.models):
        raise typer.Exit(1)


def _located(aios_home: Path | None, models_file: Path | None) -> Location:
    """Where AIOS's configuration lies; a file of models does without, as in a bare $AIOS_HOME."""
    try:
        return locate(None, aios_home)
    except ConfigError:
        if models_file is None or aios_home is not None:
            raise
        return Location(None, None, state_dir_of(None), "defaults")


def _run(plan: Plan, location: Location) -> Summary:
    """Collect, with a bar on standard error: answers, cost so far, time left."""
    stderr = Console(stderr=True)
    known = price_table([endpoint.model for endpoint in plan.asked]).money
    cost = TextColumn("${task.fields[spent]:.4f}" if known else "no price")
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), cost, TimeLeft())
    with _workload(location) as workload, Progress(*columns, console=stderr) as bar:
        if workload is not None:
            bar.console.print("Kernels' limits are kept, with a slot of each model left to agents.")
        task = bar.add_task("", total=None, spent=0.0)
        return run(
            plan,
            workload=workload,
            on_progress=lambda p: bar.update(
                task, total=p.total, completed=p.done, spent=p.spent_usd
            ),
            on_interrupt=lambda: bar.console.print(
                "Waiting for the answers that are on their way; Ctrl-C again to leave at once."
            ),
        )


@contextmanager
def _workload(location: Location) -> Iterator[SlotStore | None]:
    """What kernels with this configuration share; None if nothing, or if nobody runs its Redis."""
    config = load_config(location)
    if config.strategy != "eccos" or not redis_runs(config):
        yield None
        return
    ttl = config.settings.lease_ttl_s
    with workload_of(config, member=True, required=False, lease_ttl_s=ttl) as store:
        yield store


def _tell(screen: Console, plan: Plan, summary: Summary) -> None:
    """The table at the end, and what the reader should know."""
    rows = [
        {
            "model": m.name,
            "answers": m.answers,
            "right": percent(m.success),
            "cut off": m.truncated,
            "errors": m.errors,
            "tokens": ("-" if m.output_tokens is None else f"{m.output_tokens:.0f}")
            + "*" * bool(m.counted),
            "p50/p95 s": f"{m.latency_p50_s:.2f}/{m.latency_p95_s:.2f}" if m.answers else "-",
            "cost": _cost(m.cost_usd, m.price_state),
        }
        for m in summary.models
    ]
    screen.print(draw_table(rows, f"{plan.out}: {summary.records} records"))
    tasks = dict.fromkeys(question.task for question in plan.questions)
    if len(tasks) > 1:
        head, by = "right, by task", {m.name: m.by_task for m in summary.models}
        right = [{head: task} | {n: percent(by[n].get(task)) for n in by} for task in tasks]
        screen.print(draw_table(right))
    for line in _remarks(plan, summary):
        screen.print(line, soft_wrap=True)


def _remarks(plan: Plan, summary: Summary) -> Iterator[str]:
    if summary.held:
        yield f"{summary.held} answers were held from an earlier run."
    if any(m.counted for m in summary.models):
        yield "* tokens counted here, as the provider gave no usage for some answers."
    unpriced = [m.name for m in summary.models if m.price_state == "unknown"]
    if unpriced and summary.cost_usd is not None:
        yield f"No price known for {', '.join(unpriced)}: counted at the highest known price."
    for name, reason in summary.given_up.items():
        yield f"{name} was given up after {GIVE_UP} failures in a row: {reason}."
    if summary.complete < summary.records:
        yield f"{summary.records - summary.complete} records lack some models' answers."
    if summary.ending == "max_cost":
        spent = f"${summary.cost_usd:.4f} of --max-cost ${plan.max_cost:g} is spent"
        yield f"Stopped: {spent}; go on with --resume and a higher one."
    if summary.ending == "interrupted":
        yield "Interrupted: go on with --resume."


def _cost(dollars: float | None, state: str) -> str:
    if dollars is None:
        return "no price"
    if state == "unknown":
        return f"<= {money(dollars)}"  # the highest known price stands in
    return "free" if state == "free" else money(dollars)
