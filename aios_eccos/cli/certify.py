"""`aios-eccos certify`: a floor that holds with a stated confidence, or the highest that would."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from aios_eccos.cli.options import AiosHome, ConfigFile
from aios_eccos.cli.output import console, versions, write_json
from aios_eccos.config import Settings, parse_settings
from aios_eccos.errors import ConfigError, DataError, HistoryOwned
from aios_eccos.floor.certify import Certificate, Refusal, read_papers
from aios_eccos.floor.configured import certificate_words, certificates
from aios_eccos.floor.learn import head_path, learn_from
from aios_eccos.history import open as opening
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.locate import Config
from aios_eccos.observe.opened import history_of, located
from aios_eccos.serve.engine import CERTIFICATES, configured_models
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
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the result here; `-` is standard output.")
    ] = None,
) -> None:
    """Certify floors on the history's calibration records (one in four, never fitted on).

    Exit code 1 where a floor is refused. What a certificate promises: docs/promises.md.
    """
    if check is not None and floor is not None:
        raise ConfigError("certify: --floor and --check exclude each other")
    if check is not None:
        papers = _read(check)
    else:
        found = located(config, aios_home)
        try:
            papers = _compute(found, floor)
        except HistoryOwned:
            kept = found.location.state_dir / CERTIFICATES
            if floor is not None or not kept.exists():
                raise
            papers = _read(kept)  # the kernel that has the history open wrote them
    screen = console(json_file)
    for key, paper in papers.items():
        screen.print(certificate_words(key, paper))
        if not isinstance(paper, Refusal):
            screen.print(
                f"  {paper.price:.3g} per success; {paper.successes[paper.grid.index(paper.price)]}"
                f" of {paper.n} right there; calibration records {paper.data}; void while a limit "
                "decides"
            )
    if json_file is not None:
        body: dict[str, Any] = {"schema": SCHEMA, "versions": versions(), "floors": {}}
        for key, paper in papers.items():
            body["floors"][key] = {"certified": not isinstance(paper, Refusal)} | asdict(paper)
        write_json(body, json_file)
    if any(isinstance(paper, Refusal) for paper in papers.values()):
        raise typer.Exit(1)


def _read(path: Path) -> dict[str, Certificate | Refusal]:
    try:
        return read_papers(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _compute(found: Config, floor: str | None) -> dict[str, Certificate | Refusal]:
    """From the history, as a kernel with these settings would."""
    settings = _certified(found.settings, floor)
    embedder = opening.open_embedder(settings.embedder)
    with history_of(found, embedder) as history:
        models = configured_models(found) or [Model(n) for n in history.table(limit=1000).models]
        background = BackgroundEmbedder(lambda: embedder)
        head = head_path(found.location.state_dir)
        known = learn_from(history, background, settings, models, head)
        if known.certifier is None or known.book is None:
            raise DataError("certify: the history holds too few verdicts; `ingest` or `collect`")
        return certificates(known.certifier, known.book, settings)


def _certified(settings: Settings, floor: str | None) -> Settings:
    changes: dict[str, Any] = {"floor_mode": "certified"}
    if floor is not None:
        asked = parse_settings({"quality_floor": floor}).quality_floor
        changes |= {"quality_floor": asked, "agents": {}, "budget_per_call": None}
    return settings.model_copy(update=changes)
