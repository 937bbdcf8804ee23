"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AiosHome = Annotated[Path | None, typer.Option(help="AIOS's checkout.")]
ConfigFile = Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PriceFile = Annotated[Path | None, typer.Option(help="Dollars per million tokens by model (JSON).")]
JsonFile = Annotated[
    str | None, typer.Option("--json", help="Write the results here; - for standard output.")
]
