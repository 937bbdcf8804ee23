"""`aios-eccos bench`: measurements against budgets and peers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aios_eccos.cli.output import console, versions, write_json

if TYPE_CHECKING:
    from aios_eccos.lab.bench_optimizer import Recorded

bench = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure against budgets and peers.",
)


@bench.callback()
def _group() -> None:
    """Measure against budgets and peers."""


@bench.command()
def optimizer(
    sizes: Annotated[str, typer.Option(help="Rows, `a,b`.")] = "1,8,64,1000,10000,100000",
    peer: Annotated[
        bool, typer.Option("--peer/--no-peer", help="Also the full LP in HiGHS, up to 10,000 rows.")
    ] = True,
    data: Annotated[
        Path | None,
        typer.Option(help="Recorded answers; default: $AIOS_ECCOS_DATA/math10.jsonl.gz, if set."),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="Dollars per million tokens by model (JSON).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the instances.")] = 0,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the results here; - for standard output.")
    ] = None,
) -> None:
    """Time, certified gap and split rows of the assignment, against the full LP in HiGHS.

    Exit code 1 if a budget is missed.
    """
    from aios_eccos.lab.bench_optimizer import instances, measure, table

    screen = console(json_file)
    base, data_hash = _recorded(data, prices)
    if base is None:
        screen.print("No --data and no $AIOS_ECCOS_DATA: instances are generated.", style="dim")
    rows = []
    try:
        wanted = [int(size) for size in sizes.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--sizes {sizes}: wanted whole numbers, `a,b`") from error
    with screen.status("") as status:
        for n in wanted:
            for kind, problem in instances(n, seed=seed, base=base):
                status.update(f"{kind}, {n:,} rows")
                rows += measure(kind, problem, peer=peer)
    if json_file is not None:
        body = {
            "schema": "aios-eccos/bench/1",
            "seed": seed,
            "versions": versions(),
            "data_hash": data_hash,
            "results": [row.as_dict() for row in rows],
        }
        write_json(body, json_file)
    screen.print(table(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


@bench.command()
def scarcity(
    data: Annotated[Path, typer.Option(help="QAServe records.")],
    prices: Annotated[
        Path | None, typer.Option(help="Dollars per million tokens by model (JSON).")
    ] = None,
    resplits: Annotated[int, typer.Option(min=1, help="Splits; 0 is the file's own.")] = 2,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the results here; - for standard output.")
    ] = None,
) -> None:
    """What carried slot prices save where limits bind for long, in simulated arrivals (minutes).

    Hybrid forecasts; the test rows of each split arrive one at a time and hold a slot for as long
    as their recorded answer takes.
    """
    from aios_eccos.forecast.pricing import with_facts
    from aios_eccos.history.open import open_embedder
    from aios_eccos.lab.dataset import load_dataset, load_prices, pool
    from aios_eccos.lab.replay import Plan, problem_of
    from aios_eccos.lab.scarcity import scarce_rows, table
    from aios_eccos.locate import cache_dir

    screen = console(json_file)
    dataset = load_dataset([data])
    known = load_prices(prices) if prices else {}
    models = [with_facts(model) for model in pool(dataset.models, known, {}, 32)]
    embedder = open_embedder(cache_dir=cache_dir())
    rows = []
    with screen.status("") as status:
        for split in range(resplits):
            status.update(f"split {split}")
            problem = problem_of(
                dataset.records, models, embedder, Plan({}), split=split, kind="hybrid",
                data_hash=dataset.hash, folder=cache_dir() / "evaluate",
            )  # fmt: skip
            rows += scarce_rows(problem, split)
    if json_file is not None:
        body = {
            "schema": "aios-eccos/bench/1",
            "seed": 0,
            "versions": versions(),
            "data_hash": dataset.hash,
            "results": [row.as_dict() for row in rows],
        }
        write_json(body, json_file)
    screen.print(table(rows))


def _recorded(data: Path | None, prices: Path | None) -> tuple[Recorded | None, str | None]:
    """Forecasts of the recorded data, and its hash; nothing where there is none."""
    from aios_eccos.lab.bench_optimizer import recorded
    from aios_eccos.lab.dataset import load_dataset, load_prices, pool

    folder = os.environ.get("AIOS_ECCOS_DATA")
    if data is None:
        if not folder:
            return None, None
        data = Path(folder) / "math10.jsonl.gz"
        prices = prices or Path(folder) / "prices.json"
    dataset = load_dataset([data])
    models = pool(dataset.models, load_prices(prices) if prices else {}, {}, 1)
    return recorded(data.name.split(".")[0], dataset.records, models), dataset.hash
