"""`aios-eccos evaluate`: the cost-quality frontier over recorded answers; no model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aios_eccos.cli.output import console, versions, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from aios_eccos.lab.dataset import Dataset
    from aios_eccos.lab.fitted import Kind
    from aios_eccos.lab.problem import Problem
    from aios_eccos.lab.replay import Embeds
    from aios_eccos.lab.report import Results, Table
    from aios_eccos.lab.robustness import Robustness
    from aios_eccos.lab.run import Wanted
    from aios_eccos.lab.stream import Streams
    from aios_eccos.values import Model

#: Robustness is measured at this share of the way from the cheapest to the best single model.
ROBUST_AT = 0.7
#: Columns from which a screen shows all of a table.
WIDE = 110


def evaluate(
    data: Annotated[list[Path], typer.Option(help="QAServe records; repeat for several files.")],
    prices: Annotated[
        Path | None, typer.Option(help="Dollars per million tokens by model (JSON).")
    ] = None,
    floors: Annotated[
        str, typer.Option(help="Success asked for: a,b or start:stop:step.")
    ] = "0.5:0.9:0.05",
    budgets: Annotated[str, typer.Option(help="Dollars per call: a,b or start:stop:step.")] = "",
    strategies: Annotated[
        str, typer.Option(help="Names, or all; eccos and single models are always there.")
    ] = "single,hull,neighbour_threshold,utility_knn,lagrangian",
    predictor: Annotated[str, typer.Option(help="retrieval, trained, hybrid or all.")] = "hybrid",
    mode: Annotated[str, typer.Option(help="batch, or stream: outcomes are seen.")] = "batch",
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
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the results here; - for standard output.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the pictures here (PNG).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write one HTML page here.")] = None,
) -> None:
    """Replay recorded answers under other floors, limits, prices and strategies.

    History and training from the splits train and val, measured on test. Strategies are compared
    at equal realised success, split by split. Embeddings and fitted heads are kept between runs.
    """
    import time

    from aios_eccos.forecast.pricing import with_facts
    from aios_eccos.history.open import open_embedder
    from aios_eccos.lab.dataset import load_dataset, load_prices, pool
    from aios_eccos.lab.report import as_json, tables
    from aios_eccos.locate import cache_dir

    begun = time.monotonic()
    screen = console(json_file)
    _can_write(json_file, plot, report)
    wanted = _wanted(
        floors, budgets, strategies, predictor, mode, batch_size, limits, resplits, seed, order
    )
    dataset = load_dataset(data)
    for bad in dataset.bad[:5]:
        typer.echo(f"left out: {bad}", err=True)
    known = load_prices(prices) if prices else {}
    models = [with_facts(m) for m in pool(dataset.models, known, wanted.plan.limits, 32)]
    _warn_of_prices(models)
    embedder = open_embedder(cache_dir=cache_dir())
    whole = "all" in wanted.strategies
    results = _measure(dataset, models, embedder, wanted, cache_dir() / "evaluate", whole)
    asked = [s.value for s in wanted.asked if s.name == "floor" and s.value is not None]
    shown = tables(results, asked)
    facts = {
        "seed": seed,
        "versions": versions(),
        "data": dataset.name,
        "data_hash": dataset.hash,
        "bad_rows": len(dataset.bad),
        "predictors": list(wanted.predictors),
        "mode": mode,
        "batch_size": batch_size,
        "limits": wanted.plan.limits,
        "order": order,
        "splits": list(wanted.splits),
        "seconds": round(time.monotonic() - begun, 1),
    }
    if json_file != "-":
        _show(screen, shown)
    if json_file is not None:
        write_json(as_json(results, facts), json_file)
    if plot is not None:
        from aios_eccos.lab.plots import draw

        draw(results, plot)
    if report is not None:
        from aios_eccos.lab.page import write_page
        from aios_eccos.lab.plots import pictures

        write_page(report, f"aios-eccos on {dataset.name}", facts, pictures(results), shown)
    if dataset.bad:
        typer.echo(f"{len(dataset.bad)} malformed rows were left out", err=True)
        raise typer.Exit(1)


def _warn_of_prices(models: list[Model]) -> None:
    """Say where costs are not what they seem."""
    from aios_eccos.forecast.pricing import price_table, state_of

    unknown = [model.name for model in models if state_of(model) == "unknown"]
    if not price_table(models).money:
        typer.echo("no prices: costs are output tokens x model size, not dollars", err=True)
    elif unknown:
        typer.echo(f"no price, the pool's highest is taken: {', '.join(unknown)}", err=True)


def _can_write(json_file: str | None, plot: Path | None, report: Path | None) -> None:
    """Refuse at once what would only fail after minutes of work."""
    import importlib.util

    from aios_eccos.errors import ConfigError

    target = None if json_file in (None, "-") else Path(str(json_file))
    for option, path in (("json", target), ("plot", plot), ("report", report)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"--{option} {path}: no such folder")
    if (plot or report) and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install 'aios-eccos[plots]'")


def _wanted(
    floors: str,
    budgets: str,
    strategies: str,
    predictor: str,
    mode: str,
    batch_size: int | None,
    limits: str,
    resplits: int,
    seed: int,
    order: str,
) -> Wanted:
    """The options, checked before anything slow begins."""
    from aios_eccos.cli.output import numbers, pairs
    from aios_eccos.errors import ConfigError
    from aios_eccos.lab.fitted import KINDS
    from aios_eccos.lab.problem import Setting
    from aios_eccos.lab.replay import Plan
    from aios_eccos.lab.run import Wanted

    kinds: tuple[Kind, ...] = tuple(k for k in KINDS if predictor in (k, "all"))
    if not kinds:
        raise ConfigError(f"--predictor {predictor}: wanted one of {', '.join(KINDS)}, all")
    if mode not in ("batch", "stream"):
        raise ConfigError(f"--mode {mode}: wanted batch or stream")
    if order not in ("shuffled", "recorded"):
        raise ConfigError(f"--order {order}: wanted shuffled or recorded")
    named = pairs("limits", [part for part in limits.split(",") if part])
    try:
        caps = {name: int(value) for name, value in named.items()}
    except ValueError as error:
        raise ConfigError(f"--limits {limits}: {error}") from error
    if any(value < 0 for value in caps.values()):
        raise ConfigError(f"--limits {limits}: wanted whole numbers from 0")
    asked = [Setting("floor", value) for value in numbers("floors", floors, most=1.0)]
    asked += [Setting("budget", value) for value in numbers("budgets", budgets)]
    # The strongest predictor comes last, so that what is inspected is the one compared with.
    return Wanted(
        strategies=(*(name for name in strategies.split(",") if name), "eccos"),
        predictors=kinds,
        asked=tuple(asked),
        splits=tuple(range(resplits)),
        plan=Plan(caps, batch_size, mode == "stream", order, seed),
    )


def _measure(
    dataset: Dataset,
    models: list[Model],
    embedder: Embeds,
    wanted: Wanted,
    folder: Path,
    whole: bool,
) -> Results:
    from aios_eccos.lab.compare import Trial, summarize_trials, trials
    from aios_eccos.lab.report import Results
    from aios_eccos.lab.run import evaluate as play
    from aios_eccos.lab.run import steps
    from aios_eccos.lab.stream import streams
    from aios_eccos.lab.summary import summarize

    found: list[Trial] = []
    tough: list[Robustness] = []
    told: list[Streams] = []
    floors = [s.value for s in wanted.asked if s.name == "floor" and s.value is not None]
    with _progress(steps(wanted, dataset)) as advance:

        def inspect(split: int, problem: Problem) -> None:
            if whole or "lagrangian" in wanted.strategies:
                found.extend(trials(problem, split))
            if wanted.plan.stream:
                told.append(streams(problem, split, floors))
            if whole and split == wanted.splits[0]:
                tough.append(_robustness(dataset, models, embedder, wanted, folder, problem))

        rows = play(
            dataset, models, embedder, wanted, folder=folder, progress=advance, inspect=inspect
        )
    names = tuple(sorted(model.name for model in models))
    return Results(
        models=names,
        rows=tuple(rows),
        summary=summarize(rows, names),
        optimizers=tuple(summarize_trials(found)),
        robustness=tough[0] if tough else None,
        streams=tuple(told),
    )


def _robustness(
    dataset: Dataset,
    models: list[Model],
    embedder: Embeds,
    wanted: Wanted,
    folder: Path,
    problem: Problem,
) -> Robustness:
    from aios_eccos.lab.fitted import fit
    from aios_eccos.lab.replay import divided
    from aios_eccos.lab.robustness import measure

    known, _ = divided(dataset.records, embedder, wanted.plan, wanted.splits[0])
    by_name = {model.name: model for model in models}
    columns = [by_name[name] for name in problem.models]
    predictor = fit(wanted.predictors[-1], known, embedder.name, problem.cache)
    success, cost = problem.past_means()
    low, high = float(success[cost.argmin()]), float(success.max())
    floor = low + ROBUST_AT * (high - low)
    return measure(problem, predictor, columns, embedder, floor)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; yields what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task("embedding, fitting", total=total)

        def advance(name: str) -> None:
            bars.update(task, advance=1, description=name)

        yield advance


def _show(screen: Console, shown: list[Table]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table as RichTable

    for table in shown:
        drawn = RichTable(
            title=table.title,
            title_justify="left",
            box=SIMPLE,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        hidden = table.wide if screen.width < WIDE else ()
        shown_heads = [n for n, head in enumerate(table.heads) if head not in hidden]
        for number in shown_heads:
            # Figures are never cut; names are folded.
            drawn.add_column(
                table.heads[number],
                justify="right" if number else "left",
                no_wrap=number > 0,
                overflow="fold",
            )
        for row in table.rows:
            cells = [row[number] for number in shown_heads]
            drawn.add_row(*cells, style="bold" if row[0].startswith("eccos (") else None)
        screen.print(drawn)
        if table.note:
            screen.print(table.note, style="dim")
        if hidden:
            screen.print(f"On wider screens also: {', '.join(hidden)}.", style="dim")
