"""`aios-eccos import`: public data sets as QAServe rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from aios_eccos.errors import DataError
from aios_eccos.lab.importers import (
    Row,
    read_qaserve,
    read_routerbench,
    refuse_implausible,
    write_rows,
)
from aios_eccos.lab.zeroeval import read_zeroeval

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn public data sets into QAServe rows for ingest, evaluate and demo.",
)
Output = Annotated[Path, typer.Option("--output", "-o", help="JSON lines; .gz compresses.")]
Accept = Annotated[
    bool, typer.Option("--accept", help="Finish although hardly any, or nearly all, are right.")
]


@app.command()
def qaserve(
    path: Annotated[Path, typer.Argument(help="The JSON list (or .jsonl), or a folder of them.")],
    output: Output,
    accept: Accept = False,
) -> None:
    """QAServe / OmniRouteEval JSON, as AIOS's own router bootstraps from."""
    _write(read_qaserve(path, _say), output, accept)


@app.command()
def zeroeval(
    path: Annotated[Path, typer.Argument(help="result_dirs, or one task's folder in it.")],
    output: Output,
    accept: Accept = False,
) -> None:
    """ZeroEval `result_dirs`: graded by its own rules; tokens are estimated by length."""
    _write(read_zeroeval(path, _say), output, accept, by_task=True)


@app.command()
def routerbench(
    path: Annotated[
        Path, typer.Argument(help="CSV, JSON or parquet, never pickle, or a folder of them.")
    ],
    output: Output,
    accept: Accept = False,
) -> None:
    """A RouterBench table; tokens are estimated by the length of texts."""
    _write(read_routerbench(path, _say), output, accept)


def _say(error: DataError) -> None:
    typer.echo(f"left out: {error}", err=True)


def _write(rows: Iterable[Row], output: Path, accept: bool, *, by_task: bool = False) -> None:
    count = write_rows(rows if accept else refuse_implausible(rows, by_task=by_task), output)
    typer.echo(f"{count} rows in {output}", err=True)
