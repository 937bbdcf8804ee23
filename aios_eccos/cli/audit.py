"""`aios-eccos audit on|off|status`: whether copies of calls prove which models save money."""

from __future__ import annotations

from typing import Annotated

import typer

from aios_eccos.cli.ask import Asker, show
from aios_eccos.cli.enable import share_text, switch
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.config import parse_share
from aios_eccos.errors import ConfigError
from aios_eccos.observe import render_audits
from aios_eccos.observe.views import StatusView

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.command()
def on(
    share: Annotated[str, typer.Argument(help="Share of the money spent, such as 5%.")] = "5%",
    aios_home: AiosHome = None,
) -> None:
    """Let audits spend such a share, in the configuration and in a living kernel."""
    value = share_text(share)
    if value == "off":
        raise ConfigError(f"audit on {share}: nothing could be spent; `audit off` says it")
    switch("audit", value, {"share": parse_share(value)}, aios_home)


@app.command()
def off(aios_home: AiosHome = None) -> None:
    """Make no more copies. What was earned is kept, but the floor is served by history alone."""
    switch("audit", "off", {"share": 0.0}, aios_home)


@app.command()
def status(aios_home: AiosHome = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where each policy stands, what audits have cost and what they have paid back."""
    with Asker(config, aios_home) as asker:
        view = asker.get("/eccos/status", StatusView, lambda reader: reader.status()).audits
    if view is None:
        typer.echo("null" if as_json else "audits are off; `aios-eccos audit on` begins")
    else:
        show(view, as_json, lambda shown: "\n".join(render_audits.audits(shown)))
