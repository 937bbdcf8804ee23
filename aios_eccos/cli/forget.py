"""`aios-eccos forget`: an agent's records out of the history."""

from __future__ import annotations

from typing import Annotated

import typer

from aios_eccos.cli.ingest import owners_inbox
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.cli.output import write_json
from aios_eccos.errors import HistoryOwned
from aios_eccos.history.rows import encode_forget
from aios_eccos.observe.opened import history_of, located


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
        with owners_inbox(found, owned) as inbox:
            inbox.push_inbox([encode_forget(agent)])
    if as_json:
        head = {"schema": "aios-eccos/forget/1", "agent": agent}
        write_json({**head, "removed": removed, "handed_over": removed is None}, "-")
    elif removed is None:
        typer.echo("asked the process that owns the history to forget them")
    else:
        typer.echo(f"removed {removed} records")
