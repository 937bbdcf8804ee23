"""`aios-eccos ingest`: recorded answers into the history."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aios_eccos.cli.output import write_json
from aios_eccos.errors import ConfigError, HistoryOwned

if TYPE_CHECKING:
    from aios_eccos.config import Settings
    from aios_eccos.history.embed.embedding import Embedder
    from aios_eccos.history.ingest import IngestReport
    from aios_eccos.history.rebuild import RebuildReport
    from aios_eccos.history.store import HistoryStore
    from aios_eccos.locate import Config

log = logging.getLogger("aios_eccos.cli.ingest")

#: Bad rows printed; JSON names them all.
MOST_SHOWN = 100


def ingest(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="QAServe records: .json or .jsonl, also .gz."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only rows of these splits, e.g. train,val.")
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="First begin the history anew: after damage, or to embed it with another "
            "embedder. Rows that can be read are carried over.",
        ),
    ] = False,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the result here; - for standard output.")
    ] = None,
) -> None:
    """Add graded records to the history; a file that is in it already changes nothing.

    Exit code 1 if rows were bad: each is named, and the good ones are kept. Beside the process
    that owns the history (a running kernel, another ingest), the records are left to that.
    """
    from aios_eccos.files import private_dir
    from aios_eccos.history.dataset import count_rows
    from aios_eccos.history.open import open_embedder
    from aios_eccos.locate import cache_dir, load_config, locate

    if not files and not rebuild:
        raise ConfigError("ingest: name at least one FILE")
    found = load_config(locate(config, aios_home))
    embedder = open_embedder(found.settings.embedder, cache_dir())
    private_dir(found.location.state_dir)
    rebuilt = _rebuild(found, embedder) if rebuild else None
    paths = files or []
    splits = None if split is None else {part.strip() for part in split.split(",")}
    with _bar("records", count_rows(paths)) as advance:
        report, handed = _ingest(found, embedder, paths, splits, advance)
    for error in report.bad[:MOST_SHOWN]:
        typer.echo(str(error), err=True)
    if len(report.bad) > MOST_SHOWN:
        typer.echo(f"... and {len(report.bad) - MOST_SHOWN} more bad rows", err=True)
    if json_file != "-":
        _show(report, handed, rebuilt)
    if json_file is not None:
        write_json(_json(report, handed, rebuilt), json_file)
    if report.bad:
        raise typer.Exit(1)


def _ingest(
    config: Config,
    embedder: Embedder,
    paths: list[Path],
    splits: set[str] | None,
    advance: Callable[[int], None],
) -> tuple[IngestReport, bool]:
    """What became of the rows, and whether they were handed to the history's owner."""
    from aios_eccos.history.ingest import hand_over
    from aios_eccos.history.ingest import ingest as store
    from aios_eccos.history.open import open_history

    settings = config.settings
    try:
        history = open_history(
            settings.history,
            config.location.state_dir,
            embedder,
            store_text=settings.store_text or None,
            max_records=settings.max_records,
            max_age_days=settings.max_age_days,
        )
    except HistoryOwned:
        with owners_inbox(settings, config.location.state_dir) as inbox:
            return hand_over(paths, inbox, splits=splits, progress=advance), True
    try:
        report = store(paths, history, embedder, splits=splits, progress=advance)
        _take_in(config, history, embedder)
        return report, False
    finally:
        history.close()


def _take_in(config: Config, history: HistoryStore, embedder: Embedder) -> None:
    """Store what others handed over while this process owned the history."""
    from aios_eccos.errors import WorkloadError
    from aios_eccos.history.ingest import drain_inbox
    from aios_eccos.history.open import EMBEDDED
    from aios_eccos.workload.connect import open_workload

    settings, state_dir = config.settings, config.location.state_dir
    if settings.history != EMBEDDED or settings.redis == "memory":
        return
    # An embedded Redis that never ran holds nothing.
    if settings.redis == "embedded" and not (state_dir / "redis").exists():
        return
    try:
        workload = open_workload(
            settings.redis, state_dir=state_dir, namespace=settings.namespace, member=False
        )
    except WorkloadError as error:
        # Without Redis nobody can have handed over anything now; the next owner looks again.
        log.warning("records that were handed over stay where they are: %s", error)
        return
    try:
        drain_inbox(workload, history, embedder)
    finally:
        workload.close()


@contextmanager
def owners_inbox(settings: Settings, state_dir: Path) -> Iterator[Any]:
    """The way to the process that owns the history; call while handling its `HistoryOwned`.

    Raises:
        HistoryOwned: there is no way to it.
        WorkloadError: Redis cannot be reached.
    """
    from aios_eccos.workload.connect import open_workload

    if settings.redis == "memory":
        raise
    workload = open_workload(
        settings.redis, state_dir=state_dir, namespace=settings.namespace, member=False
    )
    try:
        yield workload
    finally:
        workload.close()


def _rebuild(config: Config, embedder: Embedder) -> RebuildReport:
    from aios_eccos.history.rebuild import rebuild

    with _bar("old records", None) as advance:
        return rebuild(
            config.settings.history, config.location.state_dir, embedder, progress=advance
        )


def _json(report: IngestReport, handed: bool, rebuilt: RebuildReport | None) -> dict[str, Any]:
    return {
        "schema": "aios-eccos/ingest/1",
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "kept_apart": [{"query_id": old, "id": new} for old, new in report.renamed],
        "handed_over": handed,
        "bad": [
            {"file": error.source, "line": error.line, "reason": error.reason}
            for error in report.bad
        ],
        "rebuilt": None if rebuilt is None else asdict(rebuilt),
    }


def _show(report: IngestReport, handed: bool, rebuilt: RebuildReport | None) -> None:
    if rebuilt is not None:
        typer.echo(f"carried over {rebuilt.carried} records")
        if rebuilt.lost:
            typer.echo(f"lost {rebuilt.lost} records: their text was not stored")
        if rebuilt.aside is not None:
            typer.echo(f"the old history could not be read; it lies in {rebuilt.aside}")
    if handed:
        typer.echo(
            f"handed over {report.added} records, bad {len(report.bad)}: the process that owns "
            "the history stores them, else the next that opens it to write"
        )
    else:
        updated = f", updated {report.updated}" if report.updated else ""
        typer.echo(
            f"added {report.added}{updated}, unchanged {report.unchanged}, bad {len(report.bad)}"
        )
    if report.renamed:
        old, new = report.renamed[0]
        typer.echo(
            f"kept apart {len(report.renamed)} records whose query_id another question has, "
            f"the first: {old!r} as {new!r}"
        )


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.advance(task, done)
