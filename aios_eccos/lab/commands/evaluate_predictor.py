"""`aios-eccos evaluate-predictor`: how good the forecasts are, and whether floors hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aios_eccos.cli.options import JsonFile, PriceFile
from aios_eccos.cli.output import bar, console, draw_table, numbers, versions, write_json
from aios_eccos.errors import ConfigError
from aios_eccos.history.embed.encoders import processors
from aios_eccos.lab.dataset import load_dataset, open_recorded
from aios_eccos.lab.plots import draw_reliability
from aios_eccos.lab.processes import shared_out
from aios_eccos.lab.studies.little import mean_rounds
from aios_eccos.lab.studies.quality import default_floors
from aios_eccos.lab.studies.report import SCHEMA, certificates, checks
from aios_eccos.lab.studies.run import PARTS, USUAL, Asked, efforts, open_studies
from aios_eccos.lab.studies.run import evaluate_predictor as measure

#: Columns of the predictors' table.
COLUMNS = ("brier", "auc", "calibration_error", "length_mae_tokens", "cost_mae_relative",
           "spend_bias")  # fmt: skip
#: Parts that are shown as they are.
PLAIN = ("stream", "budgets", "engine", "ratios", "new_model", "few_records", "templates",
         "prompts")  # fmt: skip


def evaluate_predictor(
    data: Annotated[Path, typer.Option(help="Recorded answers (QAServe).")],
    prices: PriceFile = None,
    floors: Annotated[str, typer.Option(help="`a,b` or `start:stop:step`; default: 5.")] = "",
    targets: Annotated[
        str, typer.Option(help="Success levels at which costs are compared; default: the floors.")
    ] = "",
    resplits: Annotated[int, typer.Option(min=1, help="Splits in all; 0 is the file's own.")] = 5,
    seed: Annotated[int, typer.Option(help="Of splits, folds and orders.")] = 0,
    parts: Annotated[
        str | None, typer.Option(help="Studies to run, `a,b`; `none`; default all but `prompts`.")
    ] = None,
    new_model: Annotated[
        str | None, typer.Option(help="Whose outcomes are hidden; default one of middle strength.")
    ] = None,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(help="Reliability diagram (PNG).")] = None,
) -> None:
    """Measure retrieval, trained and hybrid on recorded answers, split by split."""
    screen = console(json_file)
    chosen, asked, levels = _asked(parts, floors, targets)
    dataset = load_dataset([data])
    for bad in dataset.bad:
        screen.print(f"left out: {bad}", style="yellow")
    with bar("embedding (kept for the next run)", len(dataset.records)) as advance:
        recorded = open_recorded(dataset, prices, layers=True, progress=advance)
    floors_asked = tuple(asked or default_floors(recorded))
    wanted = Asked(floors_asked, tuple(levels), resplits, seed, chosen, new_model)
    # Splits over processes; one alone is soon done.
    count = processors() if resplits > 1 else 1
    with bar("tenths of a second, about", efforts(recorded, wanted)) as advance:
        shared = shared_out(open_studies, data, prices, wanted, count=count) if count > 1 else None
        measured, told = measure(recorded, wanted, shared=shared, progress=advance)
    head = {"schema": SCHEMA, "seed": seed, "versions": versions(), "data_hash": dataset.hash}
    accepted = [asdict(c) | {"ok": c.ok} for c in checks(data.name.split(".")[0], measured)]
    body = head | {"data": data.name, "floors": [*floors_asked]} | measured | {"checks": accepted}
    if json_file is not None:
        write_json(body, json_file)
    _show(body, screen)
    if plot is not None:
        draw_reliability(told, plot)


def _asked(
    parts: str | None, floors: str, targets: str
) -> tuple[tuple[str, ...], list[float], list[float]]:
    """Parts, floors and targets."""
    chosen = USUAL if parts is None else tuple(p for p in parts.split(",") if p != "none")
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"--parts {', '.join(unknown)}: allowed {', '.join(PARTS)}, none")
    try:
        return chosen, numbers("floors", floors, most=1.0), numbers("targets", targets, most=1.0)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def _show(body: dict[str, Any], screen: Console) -> None:
    means = []
    for name in dict.fromkeys(row["predictor"] for row in body["rows"]):
        rows = [row for row in body["rows"] if row["predictor"] == name]
        mean = {column: sum(row[column] for row in rows) / len(rows) for column in COLUMNS}
        means.append({"predictor": name} | mean)
    shown = {"Means": means, "expected floor": [body["floors_held"]]}
    shown |= {key: body.get(key) or [] for key in PLAIN}
    shown["rounds of serving and re-fitting, means"] = mean_rounds(body.get("rounds", []))
    shown["certified floors"] = [
        {"way": way} | papers for way in ("drawn", "halves") if (papers := certificates(body, way))
    ]
    if moved := body.get("shift"):
        shown[f"shift to {moved['task']}"] = moved["rows"]
    signs = {True: ">=", False: "<="}
    shown["acceptance"] = [
        {
            "": row["name"],
            "value": row["value"],
            "limit": f"{signs[row['at_least']]} {row['limit']:.4g}",
            "ok": "pass" if row["ok"] else "FAIL",
        }
        for row in body["checks"]
    ]
    for title, rows in shown.items():
        if rows:
            screen.print(draw_table([_cells(row) for row in rows], title))


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        key.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in row.items()
    }
