"""`aios-eccos evaluate-predictor`: how good the forecasts are, and whether floors hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aios_eccos.cli.output import console, numbers, versions, write_json
from aios_eccos.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from aios_eccos.lab.predictor_loops import Layers
    from aios_eccos.lab.predictor_report import Report
    from aios_eccos.lab.predictor_split import Recorded


def evaluate_predictor(
    data: Annotated[Path, typer.Option(help="Recorded answers (QAServe).")],
    prices: Annotated[
        Path | None, typer.Option(help="Dollars per million tokens by model (JSON).")
    ] = None,
    floors: Annotated[str | None, typer.Option(help="`a,b` or `start:stop:step`.")] = None,
    targets: Annotated[
        str | None, typer.Option(help="Success levels at which costs are compared.")
    ] = None,
    resplits: Annotated[int, typer.Option(min=1, help="Splits in all; 0 is the file's own.")] = 5,
    seed: Annotated[int, typer.Option(help="Of splits, folds and orders.")] = 0,
    parts: Annotated[
        str | None, typer.Option(help="Studies to run, `a,b`; `none`; default all.")
    ] = None,
    new_model: Annotated[
        str | None, typer.Option(help="Whose outcomes are hidden; default one of middle strength.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write JSON here; `-` is standard output.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Reliability diagram (PNG).")] = None,
) -> None:
    """Measure retrieval, trained and hybrid on recorded answers, split by split."""
    from aios_eccos.lab.predictor_checks import checks
    from aios_eccos.lab.predictor_report import PARTS, SCHEMA
    from aios_eccos.lab.predictor_report import evaluate_predictor as measure
    from aios_eccos.lab.predictor_studies import default_floors

    screen = console(json_file)
    recorded, digest, embed = _read(data, prices, screen)
    asked = shares("floors", floors) or default_floors(recorded)
    chosen = PARTS if parts is None else tuple(p for p in parts.split(",") if p != "none")
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"--parts {', '.join(unknown)}: allowed {', '.join(PARTS)}, none")
    with screen.status("") as status:
        report = measure(
            recorded,
            asked,
            targets=shares("targets", targets),
            resplits=resplits,
            seed=seed,
            parts=chosen,
            new=new_model,
            embed=embed,
            progress=lambda step: status.update(step),
        )
    head = {"schema": SCHEMA, "seed": seed, "versions": versions(), "data_hash": digest}
    table = checks(data.name.split(".")[0], report.body)
    accepted = [
        {"name": c.name, "value": c.value, "limit": c.limit, "at_least": c.at_least, "ok": c.ok}
        for c in table
    ]
    body = head | {"data": data.name, "floors": asked} | report.body | {"checks": accepted}
    if json_file is not None:
        write_json(body, json_file)
    _show(body, screen)
    if plot is not None:
        draw_reliability(report, plot)


def shares(option: str, text: str | None) -> list[float]:
    """`a,b` or `start:stop:step` as numbers from 0 to 1; empty for None.

    Raises:
        typer.BadParameter: it is neither, or out of range.
    """
    try:
        found = numbers(option, text or "", most=1.0)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    if text is not None and not found:
        raise typer.BadParameter(f"--{option} {text}: wanted a,b or start:stop:step")
    return found


def _read(data: Path, prices: Path | None, screen: Console) -> tuple[Recorded, str, Layers]:
    from aios_eccos.forecast.pricing import price_table, with_facts
    from aios_eccos.history.mirror import build_table
    from aios_eccos.history.open import open_embedder
    from aios_eccos.lab.dataset import load_dataset, load_prices, pool
    from aios_eccos.lab.predictor_split import Recorded
    from aios_eccos.locate import cache_dir

    found = load_dataset([data])
    for bad in found.bad:
        screen.print(f"left out: {bad}", style="yellow")
    embedder = open_embedder(None, cache_dir())
    with screen.status("embedding (kept for the next run)"):
        texts = [record.text for record in found.records]
        embeddings, layers = embedder.embed_with_layers(texts)
    table = build_table(found.records, embeddings)
    known = load_prices(prices) if prices is not None else {}
    models = [with_facts(model) for model in pool(table.models, known, {}, 32)]
    return Recorded(table, layers, price_table(models)), found.hash, embedder.embed_with_layers


def _show(body: dict[str, Any], screen: Console) -> None:
    from rich.table import Table

    from aios_eccos.lab.predictor_checks import certificates
    from aios_eccos.lab.predictor_loops import mean_rounds

    columns = ("brier", "auc", "calibration_error", "length_mae_tokens", "cost_mae_relative",
               "spend_bias")  # fmt: skip
    table = Table("predictor", *(column.replace("_", " ") for column in columns), title="Means")
    for name in dict.fromkeys(row["predictor"] for row in body["rows"]):
        rows = [row for row in body["rows"] if row["predictor"] == name]
        means = (sum(row[column] for row in rows) / len(rows) for column in columns)
        table.add_row(name, *(f"{mean:.4g}" for mean in means))
    screen.print(table)
    held = body["floors_held"]
    screen.print("expected floor: " + ", ".join(f"{k} {v:.4f}" for k, v in held.items()))
    for key in ("stream", "ratios", "new_model", "few_records", "templates"):
        if body.get(key):
            screen.print(_plain(key, body[key]))
    if body.get("rounds"):
        screen.print(_plain("rounds of serving and re-fitting, means", mean_rounds(body["rounds"])))
    papers = [{"way": way} | certificates(body, way) for way in ("drawn", "halves")]
    if body.get("certified") and all(len(row) > 1 for row in papers):
        screen.print(_plain("certified floors", papers))
    if body.get("shift"):
        screen.print(_plain(f"shift to {body['shift']['task']}", body["shift"]["rows"]))
    if body["checks"]:
        table = Table("acceptance", "value", "limit", "", title="Acceptance")
        for row in body["checks"]:
            sign = ">=" if row["at_least"] else "<="
            verdict = "[green]pass[/]" if row["ok"] else "[red]FAIL[/]"
            table.add_row(row["name"], f"{row['value']:.4f}", f"{sign} {row['limit']:.4g}", verdict)
        screen.print(table)


def _plain(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows:
        values = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
        table.add_row(*values)
    return table


def draw_reliability(report: Report, path: Path) -> None:
    """Forecast against outcome of every predictor, all splits together, as a PNG.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    import numpy as np

    from aios_eccos.errors import ConfigError
    from aios_eccos.lab.predictor_split import reliability

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot needs matplotlib: pip install 'aios-eccos[plots]'") from error
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for (name, splits), mark in zip(report.forecasts.items(), "s^o", strict=True):
        forecast = np.concatenate([f.success.ravel() for f in splits])
        outcome = np.concatenate([f.outcomes.ravel() for f in splits])
        said, had, _ = reliability(forecast, outcome, bins=20)
        axes.plot(said, had, marker=mark, markersize=4, linewidth=1, label=name)
    axes.legend()
    axes.set_xlabel("success forecast")
    axes.set_ylabel("success had")
    axes.set_title("20 equally filled bins, test rows of all splits")
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise ConfigError(f"--plot {path}: {error.strerror or error}") from error
