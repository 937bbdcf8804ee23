"""`aios-eccos evaluate`: the cost-quality frontier over recorded answers; no model is asked."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aios_eccos.cli.options import JsonFile, PriceFile
from aios_eccos.cli.output import bar, console, draw_table, numbers, pairs, versions, write_json
from aios_eccos.config.checks import AUTO, parse_plans
from aios_eccos.errors import ConfigError
from aios_eccos.lab.answers import NO_KEYS, with_answers
from aios_eccos.lab.commands.onboarding import OnboardingOptions, onboard
from aios_eccos.lab.dataset import Dataset, Recorded, load_dataset, open_recorded
from aios_eccos.lab.fitted import KINDS, Kind
from aios_eccos.lab.parts import (
    Robustness,
    Streams,
    Trial,
    measure,
    streams,
    summarize_trials,
    trials,
)
from aios_eccos.lab.plots import draw, pictures, write_page
from aios_eccos.lab.problem import Arrival, Problem
from aios_eccos.lab.report import Results, Table, as_json, tables
from aios_eccos.lab.run import Wanted, play_all, steps
from aios_eccos.lab.strategy import Setting
from aios_eccos.lab.summary import summarize
from aios_eccos.values.plan import parse_plan

#: Columns from which a screen shows all of a table.
WIDE = 110
#: Malformed rows that are named one by one.
NAMED = 5


def evaluate(
    data: Annotated[list[Path], typer.Option(help="QAServe records; repeat for several files.")],
    prices: PriceFile = None,
    floors: Annotated[
        str, typer.Option(help="Success asked for: a,b or start:stop:step.")
    ] = "0.5:0.9:0.05",
    budgets: Annotated[str, typer.Option(help="Dollars per call: a,b or start:stop:step.")] = "",
    strategies: Annotated[
        str, typer.Option(help="Names, or all; eccos and single models are always there.")
    ] = "single,hull,neighbour_threshold,utility_knn,lagrangian",
    predictor: Annotated[str, typer.Option(help="retrieval, trained, hybrid or all.")] = "hybrid",
    mode: Annotated[
        str,
        typer.Option(help="batch, stream: outcomes are seen, or onboarding: nobody labels them."),
    ] = "batch",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Calls assigned together; default: all, stream: 1.")
    ] = None,
    limits: Annotated[
        str, typer.Option(help="MODEL=N,...: calls of one batch that a model may get.")
    ] = "",
    resplits: Annotated[
        int, typer.Option(min=1, help="Splits in all; the first is the file's own.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the splits and the order of arrival.")] = 0,
    order: Annotated[
        str, typer.Option(help="shuffled, or recorded: task after task.")
    ] = "shuffled",
    plans: Annotated[
        str, typer.Option(help="none, auto, or a list divided by ;: 'small + mini, else large'.")
    ] = "none",
    answers: Annotated[
        Path | None, typer.Option(help="{query_id: {model: answer}}; default: in the records.")
    ] = None,
    floor: Annotated[str, typer.Option(help="Of onboarding: a share of the strongest.")] = "95 %",
    audit: Annotated[str, typer.Option(help="Share of the money spent that audits get.")] = "5 %",
    judge: Annotated[str, typer.Option(help="Model; default: the cheapest good one.")] = "",
    judge_error: Annotated[
        float, typer.Option(min=0, max=0.6, help="Chance that the judge is wrong.")
    ] = 0.1,
    orders: Annotated[int, typer.Option(min=1, help="Orders of arrival in onboarding.")] = 5,
    worse: Annotated[
        str, typer.Option(help="Model made 30 points worse at half time, or auto.")
    ] = "",
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(help="Write the pictures here (PNG).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write one HTML page here.")] = None,
) -> None:
    """Replay recorded answers under other floors, limits, prices and strategies.

    History and training from the splits train and val, measured on test. Strategies are compared
    at equal realised success, split by split. Embeddings and fitted heads are kept between runs.
    """
    begun = time.monotonic()
    _can_write(json_file, plot, report)
    if mode == "onboarding":
        asked = OnboardingOptions(answers, floor, audit, judge, judge_error, orders, worse)
        onboard(data, prices, seed, asked, json_file, plot)
        return
    wanted = Wanted(
        # Ours comes last, so that it is always there.
        strategies=(*(name for name in strategies.split(",") if name), "eccos"),
        predictors=_kinds(predictor),
        asked=_asked(floors, budgets),
        splits=tuple(range(resplits)),
        arrival=_arrival(mode, batch_size, limits, order, seed),
        plans=_plans(plans),
    )
    dataset = load_dataset(data)
    if answers is not None:
        dataset = with_answers(dataset, answers)
    _check_plans(wanted.plans, dataset)
    for bad in dataset.bad[:NAMED]:
        typer.echo(f"left out: {bad}", err=True)
    layers = wanted.predictors != ("retrieval",)
    recorded = open_recorded(dataset, prices, limits=wanted.arrival.limits, layers=layers)
    _warn_of_prices(recorded)
    results = _measure(recorded, wanted)
    shown = tables(results, wanted.floors)
    facts = _facts(dataset, wanted) | {"seconds": round(time.monotonic() - begun, 1)}
    if json_file != "-":
        _show(console(json_file), shown)
    if json_file is not None:
        write_json(as_json(results, facts), json_file)
    if plot is not None:
        draw(results, plot)
    if report is not None:
        write_page(report, f"aios-eccos on {dataset.name}", facts, pictures(results), shown)
    if dataset.bad:
        typer.echo(f"{len(dataset.bad)} malformed rows were left out", err=True)
        raise typer.Exit(1)


def _facts(dataset: Dataset, wanted: Wanted) -> dict[str, object]:
    """What was run, for the JSON and the page."""
    return {
        "seed": wanted.arrival.seed,
        "versions": versions(),
        "data": dataset.name,
        "data_hash": dataset.hash,
        "bad_rows": len(dataset.bad),
        "predictors": list(wanted.predictors),
        "mode": "stream" if wanted.arrival.stream else "batch",
        "batch_size": wanted.arrival.batch,
        "limits": wanted.arrival.limits,
        "order": wanted.arrival.order,
        "splits": list(wanted.splits),
    } | ({"plans": list(wanted.plans)} if wanted.plans else {})


def _warn_of_prices(data: Recorded) -> None:
    """Say where costs are not what they seem."""
    unknown = [m.name for m in data.models if m.price_state == "unknown"]
    if not data.prices.money:
        typer.echo("no prices: costs are output tokens x model size, not dollars", err=True)
    elif unknown:
        typer.echo(f"no price, the pool's highest is taken: {', '.join(unknown)}", err=True)


def _can_write(json_file: str | None, plot: Path | None, report: Path | None) -> None:
    """Refuse at once what would only fail after minutes of work."""
    target = None if json_file in (None, "-") else Path(str(json_file))
    for option, path in (("json", target), ("plot", plot), ("report", report)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"--{option} {path}: no such folder")
    if (plot or report) and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install 'aios-eccos[plots]'")


def _kinds(predictor: str) -> tuple[Kind, ...]:
    """The predictors named; the strongest comes last, so that peers are compared with it."""
    kinds = tuple(kind for kind in KINDS if predictor in (kind, "all"))
    if not kinds:
        raise ConfigError(f"--predictor {predictor}: wanted one of {', '.join(KINDS)}, all")
    return kinds


def _asked(floors: str, budgets: str) -> tuple[Setting, ...]:
    asked = [Setting("floor", value) for value in numbers("floors", floors, most=1.0)]
    return (*asked, *(Setting("budget", value) for value in numbers("budgets", budgets)))


def _arrival(mode: str, batch: int | None, limits: str, order: str, seed: int) -> Arrival:
    if mode not in ("batch", "stream"):
        raise ConfigError(f"--mode {mode}: wanted batch, stream or onboarding")
    if order not in ("shuffled", "recorded"):
        raise ConfigError(f"--order {order}: wanted shuffled or recorded")
    named = pairs("limits", [part for part in limits.split(",") if part])
    try:
        caps = {name: int(value) for name, value in named.items()}
    except ValueError as error:
        raise ConfigError(f"--limits {limits}: {error}") from error
    if any(value < 1 for value in caps.values()):
        raise ConfigError(f"--limits {limits}: wanted whole numbers from 1")
    return Arrival(caps, batch, mode == "stream", order, seed)


def _plans(text: str) -> tuple[str, ...]:
    try:
        return parse_plans(text if text in ("none", "auto") else text.split(";"))
    except ValueError as error:
        raise ConfigError(f"--plans {text}: {error}") from error


def _check_plans(plans: tuple[str, ...], dataset: Dataset) -> None:
    """Refuse plans with models that nobody asked, and all of them where no answer can agree."""
    for text in plans if plans != AUTO else ():
        try:
            parse_plan(text, dataset.models)
        except ValueError as error:
            raise ConfigError(f"--plans {text}: {error}") from error
    outcomes = (outcome for record in dataset.records for outcome in record.outcomes)
    if plans and not any(outcome.answer for outcome in outcomes):
        raise ConfigError(f"--plans: {NO_KEYS}")


def _measure(data: Recorded, wanted: Wanted) -> Results:
    found: list[Trial] = []
    tough: list[Robustness] = []
    told: list[Streams] = []
    whole = "all" in wanted.strategies

    def inspect(split: int, problem: Problem) -> None:
        if whole or "lagrangian" in wanted.strategies:
            found.extend(trials(problem))
        if wanted.arrival.stream:
            told.append(streams(problem, split, wanted.floors))
        if whole and split == wanted.splits[0]:
            tough.append(measure(problem))

    names = data.table.models
    with bar("strategies", steps(wanted, names)) as advance:
        rows = play_all(data, wanted, progress=lambda name: advance(1), inspect=inspect)
    return Results(
        models=names,
        rows=tuple(rows),
        summary=summarize(rows),
        optimizers=tuple(summarize_trials(found)),
        robustness=tough[0] if tough else None,
        streams=tuple(told),
    )


def _show(screen: Console, shown: list[Table]) -> None:
    for each in shown:
        hidden = each.wide if screen.width < WIDE else ()
        rows = [
            {head: cell for head, cell in row.items() if head not in hidden} for row in each.rows
        ]
        ours = [n for n, row in enumerate(rows) if next(iter(row.values())).startswith("eccos (")]
        screen.print(draw_table(rows, each.title, bold=ours))
        if each.note:
            screen.print(each.note, style="dim")
        if hidden:
            screen.print(f"On wider screens also: {', '.join(hidden)}.", style="dim")
