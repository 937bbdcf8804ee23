"""`aios-eccos doctor`: whether AIOS, the configuration and this installation fit together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

MARKS = {True: "ok", False: "FAULT", None: "-"}


def doctor(
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    reach: Annotated[
        bool, typer.Option("--reach", help="Also connect to every model's endpoint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check AIOS's contract and this installation; exit code 1 where something is wrong."""
    from aios_eccos.cli.output import write_json
    from aios_eccos.kernel.setup.doctor import Check, check_aios
    from aios_eccos.locate import load_config, locate
    from aios_eccos.observe.health import Finding, check_plugin
    from aios_eccos.serve.engine import configured_models

    location = locate(config, aios_home)
    where = f"{location.config_path or 'defaults'} (by {location.found_by})"
    found = load_config(location)
    checks: list[Check | Finding] = [Check("configuration", True, where)]
    checks += check_aios(found, reach)
    checks += check_plugin(found, configured_models(found))
    if as_json:
        write_json(
            {"schema": "aios-eccos/doctor/1", "checks": [asdict(check) for check in checks]}, "-"
        )
    else:
        for check in checks:
            typer.echo(f"{MARKS[check.ok]:5}  {check.name}: {check.detail}")
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)
