"""`aios-eccos bench`: measurements against budgets and peers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from aios_eccos.cli.options import JsonFile, PriceFile
from aios_eccos.cli.output import console, draw_table, versions, write_json
from aios_eccos.lab.bench_optimizer import Row, instances, measure
from aios_eccos.lab.dataset import load_dataset, open_recorded
from aios_eccos.lab.problem import Arrival, Calls, problem_of
from aios_eccos.lab.scarcity import ScarceRow, scarce_rows

bench = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure against budgets and peers.",
)


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
    prices: PriceFile = None,
    seed: Annotated[int, typer.Option(help="Of the instances.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Time, certified gap and split rows of the assignment, against the full LP in HiGHS.

    Exit code 1 if a budget is missed.
    """
    screen = console(json_file)
    try:
        wanted = [int(size) for size in sizes.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--sizes {sizes}: wanted whole numbers, `a,b`") from error
    base, data_hash = _recorded(data, prices)
    if base is None:
        screen.print("No --data and no $AIOS_ECCOS_DATA: instances are generated.", style="dim")
    rows = []
    with screen.status("") as status:
        for n in wanted:
            for kind, problem in instances(n, seed=seed, base=base):
                status.update(f"{kind}, {n:,} rows")
                rows += measure(kind, problem, peer=peer)
    _write(rows, json_file, seed, data_hash)
    screen.print(optimizer_table(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


@bench.command()
def scarcity(
    data: Annotated[Path, typer.Option(help="QAServe records.")],
    prices: PriceFile = None,
    resplits: Annotated[int, typer.Option(min=1, help="Splits; 0 is the file's own.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """What carried slot prices save where limits bind for long, in simulated arrivals (minutes).

    Hybrid forecasts; the test rows of each split arrive one at a time and hold a slot for as long
    as their recorded answer takes.
    """
    screen = console(json_file)
    dataset = load_dataset([data])
    recorded = open_recorded(dataset, prices, layers=True)
    rows = []
    with screen.status("") as status:
        for split in range(resplits):
            status.update(f"split {split}")
            rows += scarce_rows(problem_of(recorded, split, "hybrid", Arrival()), split)
    _write(rows, json_file, 0, dataset.hash)
    screen.print(scarcity_table(rows))


def _recorded(
    data: Path | None, prices: Path | None
) -> tuple[tuple[str, Calls] | None, str | None]:
    """Name and neighbors' forecasts of recorded questions, and their hash; None without any."""
    folder = os.environ.get("AIOS_ECCOS_DATA")
    if data is None:
        if not folder:
            return None, None
        data = Path(folder) / "math10.jsonl.gz"
        prices = prices or Path(folder) / "prices.json"
    dataset = load_dataset([data])
    # A split by hash: the file need not have one of its own.
    problem = problem_of(open_recorded(dataset, prices), 1, "retrieval", Arrival(order="file"))
    return (data.name.split(".")[0], problem.calls), dataset.hash


def _write(
    rows: Sequence[Row | ScarceRow], json_file: str | None, seed: int, data_hash: str | None
) -> None:
    if json_file is not None:
        body = {"schema": "aios-eccos/bench/1", "seed": seed, "versions": versions()}
        results = [asdict(row) for row in rows]
        write_json(body | {"data_hash": data_hash, "results": results}, json_file)


def optimizer_table(rows: Sequence[Row]) -> Table:
    """One line per instance."""

    def figure(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    cells = [
        {
            "": "solve" if row.name == "optimizer" else "price",
            "instance": row.kind,
            "rows": f"{row.n:,}",
            "ms": f"{row.value:.2f}",
            "HiGHS ms": figure(row.peer_value, "{:,.0f}"),
            "ratio": figure(row.ratio, "{:,.0f}x"),
            "ipm ms": figure(row.interior, "{:,.0f}"),
            "gap": f"{row.gap:.0e}",
            "split": row.split,
            "budget": figure(row.budget, "{:,.0f}"),
            "ok": "yes" if row.ok else "NO",
        }
        for row in rows
    ]
    return draw_table(cells, words=("instance",))


def scarcity_table(rows: Sequence[ScarceRow]) -> Table:
    """One line per utilization and split."""
    return draw_table(
        [
            {
                "pool": row.kind,
                "split": row.split,
                "cost, carried / not": f"{row.value:.3f}",
                "one-batch LP / not": f"{row.peer_value:.3f}",
                "wait ms": f"{row.wait_s * 1e3:.1f}",
                "not carried": f"{row.wait_without_s * 1e3:.1f}",
            }
            for row in rows
        ]
    )
