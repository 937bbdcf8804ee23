"""`aios-eccos doctor`: whether AIOS, the configuration and this installation fit together."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile
from aios_eccos.cli.output import write_json
from aios_eccos.forecast.pricing import configured_models
from aios_eccos.kernel.setup.doctor import check_aios
from aios_eccos.locate import load_config, locate
from aios_eccos.observe.health import Check, check_plugin

MARKS = {True: "ok", False: "FAULT", None: "-"}


def doctor(
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    reach: Annotated[
        bool, typer.Option("--reach", help="Also connect to every model's endpoint.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check AIOS's contract and this installation; exit code 1 where something is wrong."""
    location = locate(config, aios_home)
    where = f"{location.config_path or 'defaults'} (by {location.found_by})"
    found = load_config(location)
    checks = [Check("configuration", True, where), *check_aios(found, reach)]
    checks += check_plugin(found, configured_models(found))
    if as_json:
        body = {"schema": "aios-eccos/doctor/1", "checks": [asdict(check) for check in checks]}
        write_json(body, "-")
    else:
        for check in checks:
            typer.echo(f"{MARKS[check.ok]:5}  {check.name}: {check.detail}")
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)
