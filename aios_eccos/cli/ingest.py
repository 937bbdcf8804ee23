"""`aios-eccos ingest | forget`: records into the history, and out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile, JsonFile
from aios_eccos.cli.output import bar, write_json
from aios_eccos.errors import ConfigError, HistoryOwned, WorkloadError
from aios_eccos.files import private_dir
from aios_eccos.history import ingest as records
from aios_eccos.history import open as opening
from aios_eccos.history.dataset import count_rows
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.history.history import History
from aios_eccos.history.ingest import IngestReport
from aios_eccos.history.open import EMBEDDED, RebuildReport, open_embedder
from aios_eccos.history.rows import encode_forget
from aios_eccos.locate import Config, cache_dir
from aios_eccos.observe.opened import history_of, located, workload_of
from aios_eccos.verdicts.keys import key_of, load_secret
from aios_eccos.workload.store import WorkloadStore

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
    config: ConfigFile = None,
    aios_home: AiosHome = None,
    json_file: JsonFile = None,
) -> None:
    """Add graded records to the history; a file that is in it already changes nothing.

    Exit code 1 if rows were bad: each is named, and the good ones are kept. Beside the process
    that owns the history (a running kernel, another ingest), the records are left to that.
    """
    if not files and not rebuild:
        raise ConfigError("ingest: name at least one FILE")
    found = located(config, aios_home)
    embedder = open_embedder(found.settings.embedder, cache_dir())
    private_dir(found.location.state_dir)
    rebuilt = _rebuild(found, embedder) if rebuild else None
    paths = files or []
    splits = None if split is None else {part.strip() for part in split.split(",")}
    with bar("records", count_rows(paths)) as advance:
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
    bounds = {name: getattr(config.settings, name) for name in ("max_records", "max_age_days")}
    texts = config.settings.store_text or None
    key = partial(key_of, secret=load_secret(config.location.state_dir))
    how: dict[str, Any] = {"splits": splits, "progress": advance, "key": key}
    try:
        with history_of(config, embedder, store_text=texts, **bounds) as history:
            report = records.ingest(paths, history, embedder, **how)
            _take_in(config, history, embedder)
            return report, False
    except HistoryOwned as owned:
        with _owners_inbox(config, owned) as inbox:
            return records.hand_over(paths, inbox, **how), True


def _take_in(config: Config, history: History, embedder: Embedder) -> None:
    """Store what others handed over while this process owned the history."""
    settings = config.settings
    # An embedded Redis that never ran holds nothing.
    ran = settings.redis != "embedded" or (config.location.state_dir / "redis").exists()
    if settings.history != EMBEDDED or settings.redis == "memory" or not ran:
        return
    try:
        with workload_of(config) as workload:
            records.drain_inbox(workload, history, embedder)
    except WorkloadError as error:
        # Without Redis nobody can have handed over anything now; the next owner looks again.
        log.warning("records that were handed over stay where they are: %s", error)


def forget(
    agent: Annotated[str, typer.Option(help="The agent's name, as AIOS knows it.")],
    config: ConfigFile = None,
    aios_home: AiosHome = None,
    as_json: AsJson = False,
) -> None:
    """Remove every record of an agent. Beside a running kernel, it does so within seconds."""
    found = located(config, aios_home)
    removed: int | None = None
    try:
        with history_of(found) as history:
            removed = history.forget(agent=agent)
    except HistoryOwned as owned:
        with _owners_inbox(found, owned) as inbox:
            inbox.push_inbox([encode_forget(agent)])
    if as_json:
        head = {"schema": "aios-eccos/forget/1", "agent": agent}
        write_json({**head, "removed": removed, "handed_over": removed is None}, "-")
    elif removed is None:
        typer.echo("asked the process that owns the history to forget them")
    else:
        typer.echo(f"removed {removed} records")


@contextmanager
def _owners_inbox(config: Config, owned: HistoryOwned) -> Iterator[WorkloadStore]:
    """The way to the process that owns the history; `owned` where there is none."""
    if config.settings.redis == "memory":
        raise owned
    with workload_of(config) as workload:
        yield workload


def _rebuild(config: Config, embedder: Embedder) -> RebuildReport:
    where = config.settings.history, config.location.state_dir
    with bar("old records", None) as advance:
        return opening.rebuild(*where, embedder, progress=advance)


def _json(report: IngestReport, handed: bool, rebuilt: RebuildReport | None) -> dict[str, Any]:
    return {
        "schema": "aios-eccos/ingest/1",
        **{name: getattr(report, name) for name in ("added", "updated", "unchanged")},
        "kept_apart": [{"query_id": old, "id": new} for old, new in report.renamed],
        "handed_over": handed,
        "bad": [{"file": e.source, "line": e.line, "reason": e.reason} for e in report.bad],
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
        rest = f"unchanged {report.unchanged}, bad {len(report.bad)}"
        typer.echo(f"added {report.added}{updated}, {rest}")
    if report.renamed:
        old, new = report.renamed[0]
        typer.echo(
            f"kept apart {len(report.renamed)} records whose query_id another question has, "
            f"the first: {old!r} as {new!r}"
        )
