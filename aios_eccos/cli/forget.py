"""`aios-eccos forget`: an agent's records out of the history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aios_eccos.cli.output import write_json
from aios_eccos.errors import HistoryOwned


def forget(
    agent: Annotated[str, typer.Option(help="The agent's name, as AIOS knows it.")],
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove every record of an agent. Beside a running kernel, it does so within seconds."""
    from aios_eccos.cli.ingest import owners_inbox
    from aios_eccos.history.open import open_embedder, open_history
    from aios_eccos.history.rows import encode_forget
    from aios_eccos.locate import load_config, locate

    found = load_config(locate(config, aios_home))
    settings, state_dir = found.settings, found.location.state_dir
    removed: int | None = None
    try:
        history = open_history(settings.history, state_dir, open_embedder(settings.embedder))
    except HistoryOwned:
        with owners_inbox(settings, state_dir) as inbox:
            inbox.push_inbox([encode_forget(agent)])
    else:
        try:
            removed = history.forget(agent=agent)
        finally:
            history.close()
    if as_json:
        write_json(
            {
                "schema": "aios-eccos/forget/1",
                "agent": agent,
                "removed": removed,
                "handed_over": removed is None,
            },
            "-",
        )
    elif removed is None:
        typer.echo("asked the process that owns the history to forget them")
    else:
        typer.echo(f"removed {removed} records")
