"""`aios-eccos bench`: measurements against budgets and peers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from aios_eccos.cli.options import JsonFile, PriceFile
from aios_eccos.cli.output import console, draw_table, versions, write_json
from aios_eccos.lab import bench_decision, bench_dispatch, bench_process
from aios_eccos.lab.bench_optimizer import SolvedRow, instances, measure
from aios_eccos.lab.bench_rows import Row, machine
from aios_eccos.lab.dataset import load_dataset, open_recorded
from aios_eccos.lab.problem import Arrival, Calls, problem_of
from aios_eccos.lab.scarcity import ScarceRow, scarce_rows

bench = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure against budgets and peers.",
)

Check = Annotated[
    bool, typer.Option("--check", help="Exit code 1 where a ratio to a peer is not kept.")
]


def _optimizer(quick: bool, seed: int) -> Iterator[Row]:
    for n in (1_000,) if quick else (64, 10_000):
        problem = dict(instances(n, seed=seed, base=None))["random"]
        yield measure("random", problem, peer=True)[0]


def _decision(quick: bool, seed: int) -> Iterator[Row]:
    # Of the little that is shipped, a search takes nearly no time.
    # The peer embeds with the same embedder, so what makes that faster makes the ratio smaller.
    times, least = (30, (0.4, 1.1)) if quick else (300, (0.7, 5.0))
    with (
        tempfile.TemporaryDirectory(prefix="eccos-") as folder,
        bench_decision.opened(Path(folder), quick=quick, seed=seed) as world,
    ):
        yield from bench_decision.decision(world, times, least)


def _leases(quick: bool, seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        yield from bench_decision.leases(Path(folder), 50 if quick else 500)


def _dispatch(quick: bool, seed: int) -> Iterator[Row]:
    yield from bench_dispatch.dispatch(*((500, 20.0, 10.0) if quick else (4000, 30.0, 1.0)), seed)


def _startup(quick: bool, seed: int) -> Iterator[Row]:
    yield from bench_process.startup(1 if quick else 10)


def _memory(quick: bool, seed: int) -> Iterator[Row]:
    yield from bench_process.memory(1_000 if quick else 100_000)


#: What `all` runs, each with its help.
PARTS: dict[str, tuple[Callable[[bool, int], Iterator[Row]], str]] = {
    "decision": (_decision, "A decision on a real history, alone and 64 at once."),
    "leases": (_leases, "Slots for 64 calls."),
    "dispatch": (_dispatch, "Calls a second, and short calls among long ones."),
    "startup": (_startup, "Commands that say little."),
    "memory": (_memory, "What 100,000 records take."),
}


def _add(name: str, parts: Sequence[Callable[[bool, int], Iterator[Row]]], help_text: str) -> None:
    """Add the command that runs these parts."""

    def run(
        quick: Annotated[
            bool, typer.Option("--quick", help="Little data, few repeats: for ratios.")
        ] = False,
        check: Check = False,
        seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
        json_file: JsonFile = None,
    ) -> None:
        screen, rows = console(json_file), list[Row]()
        with screen.status("") as status:
            for part in parts:
                if quick and part is _memory and len(parts) > 1:
                    continue  # processes that take seconds to start
                status.update(part.__name__.strip("_"))
                rows += part(quick, seed)
        facts = machine()
        _write(rows, json_file, seed, None)
        screen.print(bench_table(rows))
        screen.print(
            "Ratio: of decisions, calls and commands by processor time, else by the clock.",
            style="dim",
        )
        said = {"seed": seed, **facts, **versions()}
        screen.print(", ".join(f"{key} {value}" for key, value in said.items()), style="dim")
        _end(rows, check)

    bench.command(name, help=help_text)(run)


for _name, (_part, _help) in PARTS.items():
    _add(_name, [_part], _help)
_add("all", [_optimizer, *(part for part, _ in PARTS.values())], "All of them, one after another.")


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
    check: Check = False,
    json_file: JsonFile = None,
) -> None:
    """Time, certified gap and split rows of the assignment, against the full LP in HiGHS."""
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
    _end(rows, check)


def _end(rows: Sequence[Row], check: bool) -> None:
    if check and not all(row.kept for row in rows):
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
        results = [row.json() if isinstance(row, Row) else asdict(row) for row in rows]
        body |= {"machine": machine(), "data_hash": data_hash}
        write_json(body | {"results": results}, json_file)


def bench_table(rows: Sequence[Row]) -> Table:
    """One line per thing measured."""
    cells = [
        {
            "": row.name,
            "what": row.kind,
            "n": f"{row.n:,}",
            "p50": _figure(row.value, "{:,.3g}"),
            "p99": _figure(row.p99, "{:,.3g}"),
            "unit": row.unit,
            "budget": _figure(row.budget, "{:,g}"),
            "peer": row.peer or "-",
            "its p50": _figure(row.peer_value, "{:,.3g}"),
            "ratio": _figure(row.ratio, "{:,.2f} x"),
            "least": _figure(row.least, "{:g}"),
            "ok": "yes" if row.ok else "over" if row.kept else "NO",
        }
        for row in rows
    ]
    return draw_table(cells, words=("what", "unit", "peer"))


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def optimizer_table(rows: Sequence[SolvedRow]) -> Table:
    """One line per instance."""
    cells = [
        {
            "": "solve" if row.name == "optimizer" else "price",
            "instance": row.kind,
            "rows": f"{row.n:,}",
            "ms": f"{row.value:.2f}",
            "HiGHS ms": _figure(row.peer_value, "{:,.0f}"),
            "ratio": _figure(row.ratio, "{:,.0f}x"),
            "ipm ms": _figure(row.interior, "{:,.0f}"),
            "gap": f"{row.gap:.0e}",
            "split": row.split,
            "budget": _figure(row.budget, "{:,.0f}"),
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
