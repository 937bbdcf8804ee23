"""`aios-eccos certify`: a floor that holds with a stated confidence, or the highest that would."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aios_eccos.cli.options import AiosHome, ConfigFile, JsonFile
from aios_eccos.cli.output import console, versions, write_json
from aios_eccos.config import parse_settings
from aios_eccos.errors import ConfigError, DataError, HistoryOwned
from aios_eccos.floor.certify import Certificate, Refusal, read_papers
from aios_eccos.floor.configured import certificate_words, certificates
from aios_eccos.floor.learn import head_path, learn_from
from aios_eccos.forecast.pricing import configured_models
from aios_eccos.history import open as opening
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.locate import Config
from aios_eccos.observe.opened import history_of, located
from aios_eccos.serve.engine import CERTIFICATES
from aios_eccos.values import Model

SCHEMA = "aios-eccos/certify/1"


def certify(
    floor: Annotated[
        str | None,
        typer.Option(help="0..1, or a share of the strongest (95%); default: those configured."),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Recompute the claims of this file, from its counts alone.")
    ] = None,
    config: ConfigFile = None,
    aios_home: AiosHome = None,
    json_file: JsonFile = None,
) -> None:
    """Certify floors on the history's calibration records (one in four, never fitted on).

    Exit code 1 where a floor is refused. What a certificate promises: docs/promises.md.
    """
    if check is not None and floor is not None:
        raise ConfigError("certify: --floor and --check exclude each other")
    papers = _compute(located(config, aios_home), floor) if check is None else _read(check)
    screen = console(json_file)
    for key, paper in papers.items():
        screen.print(certificate_words(key, paper))
        if not isinstance(paper, Refusal):
            right = paper.successes[paper.grid.index(paper.price)]
            screen.print(
                f"  {paper.price:.3g} per success; {right} of {paper.n} right there; calibration "
                f"records {paper.data}; void while a limit decides"
            )
    if json_file is not None:
        floors = {
            key: {"certified": not isinstance(paper, Refusal)} | asdict(paper)
            for key, paper in papers.items()
        }
        write_json({"schema": SCHEMA, "versions": versions(), "floors": floors}, json_file)
    if any(isinstance(paper, Refusal) for paper in papers.values()):
        raise typer.Exit(1)


def _read(path: Path) -> dict[str, Certificate | Refusal]:
    try:
        return read_papers(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except DataError as error:
        raise DataError(error.reason, source=str(path)) from error


def _compute(found: Config, floor: str | None) -> dict[str, Certificate | Refusal]:
    """From the history, as a kernel would; what that wrote, where it has it open."""
    settings = found.settings.model_copy(update={"floor_mode": "certified"})
    if floor is not None:
        asked = parse_settings({"quality_floor": floor}).quality_floor
        changes = {"quality_floor": asked, "agents": {}, "budget_per_call": None}
        settings = settings.model_copy(update=changes)
    state_dir = found.location.state_dir
    embedder = opening.open_embedder(settings.embedder)
    try:
        with history_of(found, embedder) as history:
            names = history.table(limit=1000).models
            models = configured_models(found) or [Model(name) for name in names]
            background = BackgroundEmbedder(lambda: embedder)
            background.wait()  # a thread in torch must not meet the end of the process
            known = learn_from(history, background, settings, models, head_path(state_dir))
    except HistoryOwned:
        if floor is not None or not (state_dir / CERTIFICATES).exists():
            raise
        return _read(state_dir / CERTIFICATES)
    if known.certifier is None or known.book is None:
        raise DataError("certify: the history holds too few verdicts; `ingest` or `collect`")
    return certificates(known.certifier, known.book, settings)
