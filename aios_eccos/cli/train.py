"""`aios-eccos train`: fit the head on recorded answers or on the history."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from aios_eccos.cli.options import AiosHome, ConfigFile, JsonFile
from aios_eccos.cli.output import console, draw_table, versions, write_json
from aios_eccos.errors import ConfigError, HistoryOwned
from aios_eccos.floor.modes import mode_of
from aios_eccos.forecast.head.artifact import FILE_NAME, data_hash, save_head
from aios_eccos.forecast.head.fit import sigmoid
from aios_eccos.forecast.head.refit import compared_rows, judged_rows, set_apart
from aios_eccos.forecast.head.train import fit_machine
from aios_eccos.forecast.head.train import train as fit
from aios_eccos.forecast.parts import parts_of
from aios_eccos.history import open as opening
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.history.mirror import build_table
from aios_eccos.lab.dataset import load_dataset, split_labels
from aios_eccos.lab.metrics import auc, brier, calibration_error
from aios_eccos.locate import Config, cache_dir
from aios_eccos.observe.opened import history_of, located
from aios_eccos.records import HistoryTable

SCHEMA = "aios-eccos/train/1"


def train(
    data: Annotated[
        list[Path] | None, typer.Option(help="QAServe records; repeat for more.")
    ] = None,
    from_history: Annotated[
        bool, typer.Option("--from-history", help="Fit on the history (the default).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Instead of the state folder's head.")] = None,
    seed: Annotated[int, typer.Option(help="Of landmarks, folds and held-back rows.")] = 0,
    config: ConfigFile = None,
    aios_home: AiosHome = None,
    json_file: JsonFile = None,
) -> None:
    """Fit the head: success and answer length of every model, for `trained` and `hybrid`.

    It is first fitted without the `val` rows and measured on them, then fitted on both. Rows of
    `test` are never fitted on, nor is one row in twelve, on which later re-fits are compared, nor,
    where `floor_mode` is `certified`, one in four, on which certificates rest.
    """
    if data and from_history:
        raise ConfigError("train: --data and --from-history exclude each other")
    screen, found = console(json_file), located(config, aios_home)
    embedder = opening.open_embedder(found.settings.embedder, cache_dir())
    strengths = {x.name: x.strength for x in found.entries if x.strength is not None}
    certified = mode_of(found.settings).calibrates
    with screen.status("reading") as line:
        table, labels = _table(found, embedder, data or [], seed)
        ages = {"judged": judged_rows(table), "compared": compared_rows(table)}
        parts = parts_of(table, labels=labels, calibrate=certified, seed=seed)
        label_of = dict(zip(table.ids, labels, strict=True))
        held = len(parts.held)
        table, parts = replace(parts, held=parts.held[:0]).only(table)
        line.update(f"embedding {len(table)} texts (kept for the next run)")
        embeddings, layers = embedder.embed_with_layers(table.texts)
        table = replace(table, embeddings=embeddings)
        begun = time.perf_counter()
        known, seen = table.rows(parts.fitted), layers[parts.fitted]
        line.update("a head without val")
        kept = np.array([label_of[i] for i in known.ids])
        rows = _measure(known, seen, kept, seed, strengths)
        head = fit(known, seen, seed=seed, strengths=strengths, progress=line.update)
        apart = set_apart(head, table, layers, parts) if certified else None
        took = time.perf_counter() - begun
    path, data_of = out or found.location.state_dir / FILE_NAME, data_hash(known)
    facts = {"val": rows, "seed": seed, **ages}
    size = save_head(path, head, embedder=embedder.name, data=data_of, facts=facts, apart=apart)
    body = {
        "schema": SCHEMA, "seed": seed, "versions": versions(), "data_hash": data_of,
        "records": len(known), "held_back": held, "calibration": len(parts.apart),
        "file": str(path), "bytes": size, "fit_s": took, "models": rows,
    }  # fmt: skip
    if json_file is not None:
        write_json(body, json_file)
    _show(body, screen)


def _table(
    found: Config, embedder: Embedder, data: list[Path], seed: int
) -> tuple[HistoryTable, tuple[str, ...]]:
    """Rows with text, not embedded yet, and each one's label; without any, a tenth validates."""
    if data:
        records = [r for r in load_dataset(data).records if r.text]
        table = build_table(records, np.empty((len(records), 0), dtype=np.float32))
    else:
        table = _history_table(found, embedder)
        table = table.rows(np.array([bool(text) for text in table.texts], dtype=bool))
    labels = split_labels(table.ids, table.tasks, table.texts, table.splits)
    if "val" not in labels:
        made = split_labels(table.ids, table.tasks, table.texts, table.splits, number=1, seed=seed)
        pairs = zip(labels, made, strict=True)
        labels = tuple(a if a == "test" else "val" if b == "val" else "train" for a, b in pairs)
    return table, labels


def _history_table(found: Config, embedder: Embedder) -> HistoryTable:
    try:
        with history_of(found, embedder) as history:
            return history.table()
    except HistoryOwned as error:
        advice = "beside a living kernel fit on a file of records: --data FILE"
        raise HistoryOwned(f"{error}; {advice}") from error


def _measure(
    table: HistoryTable,
    layers: NDArray[np.float32],
    labels: NDArray[np.str_],
    seed: int,
    strengths: dict[str, float],
) -> list[dict[str, Any]]:
    """Brier, AUC, calibration and length error per model on the `val` rows."""
    fitted, held = labels == "train", table.rows(np.flatnonzero(labels == "val"))
    if not len(held):
        return []
    machine = fit_machine(table.rows(fitted), layers[fitted], seed=seed, strengths=strengths)
    values = machine(layers[labels == "val"], held.texts).astype(float)
    success, tokens = np.hsplit(values, 2)
    rows = []
    for j, name in enumerate(table.models):
        p, y, length = sigmoid(success[:, j]), held.correctness[:, j], held.output_tokens[:, j]
        if np.isnan(y).all() or np.isnan(length).all():
            continue
        score = auc(p, y)
        rows.append(
            {
                "model": name,
                "judged": int((~np.isnan(y)).sum()),
                "brier": brier(p, y),
                "auc": None if np.isnan(score) else score,
                "calibration_error": calibration_error(p, y),
                "length_mae_tokens": float(np.nanmean(np.abs(np.exp(tokens[:, j]) - length))),
            }
        )
    return rows


def _show(body: dict[str, Any], screen: Console) -> None:
    rows = [{key.replace("_", " "): value for key, value in row.items()} for row in body["models"]]
    screen.print(draw_table(rows, "On val, fitted without it"))
    screen.print(
        f"{body['records']} records, fitted in {body['fit_s']:.1f} s, "
        f"{body['bytes'] / 1e6:.1f} MB: {body['file']}; {body['held_back']} held back"
        + (f", {body['calibration']} for certificates" if body["calibration"] else "")
    )
