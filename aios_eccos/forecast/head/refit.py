"""Fitting the head anew while calls are served: in a niced process, taken only if not worse.

The serving process writes its table to a private folder and starts this module as a process of its
own. That one embeds the texts, fits, compares on rows that no head is fitted on (`parts`), and puts
the new head in place of the old one only where it is not worse there. The old one is kept beside
it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos import files
from aios_eccos.errors import ArtifactError, EccosError
from aios_eccos.forecast.head.artifact import Apart, data_hash, load_head, read_about, save_head
from aios_eccos.forecast.head.fit import sigmoid
from aios_eccos.forecast.head.train import Trained, train
from aios_eccos.forecast.parts import Parts, parts_of
from aios_eccos.records import HistoryTable

log = logging.getLogger("aios_eccos.forecast.head.refit")

#: How much worse (mean Brier) a new head may be: less than rows held back can tell.
TOLERANCE = 0.001
#: Lowest priority: a re-fit must not take time from calls.
NICE = 19

_ARRAYS = ("embeddings", "input_tokens", "correctness", "output_tokens")
_LISTS = ("ids", "models", "tasks", "splits", "texts")


@dataclass(frozen=True, slots=True)
class RefitResult:
    """What became of a re-fit.

    Attributes:
        taken: whether the new head is in place.
        new, old: Brier on held-back rows, None where there was no old head that fits.
        records: rows fitted on; error: why there is no new head.
    """

    taken: bool
    new: float | None = None
    old: float | None = None
    records: int = 0
    error: str | None = None


def brier_on(head: Trained, table: HistoryTable, layers: NDArray[np.float32]) -> float:
    """Mean Brier of a head alone on a table, over the models that it knows."""
    m = len(head.models)
    odds = head.machine(layers, list(table.texts)).astype(float)[:, :m]
    both = [name for name in head.models if name in table.models]
    p = sigmoid(head.alone(odds))[:, [head.models.index(name) for name in both]]
    y = table.correctness[:, [table.models.index(name) for name in both]]
    seen = ~np.isnan(y)
    return float(((p - y)[seen] ** 2).mean()) if seen.any() else float("nan")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a re-fit is made.

    Attributes:
        embedder: its setting, None for the default.
        calibrate: whether calibration rows are set apart (`parts`).
        strengths: declared success of models.
    """

    embedder: str | None = None
    calibrate: bool = False
    strengths: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


def refit(
    table: HistoryTable,
    layers: NDArray[np.float32],
    path: Path,
    *,
    embedder: str,
    parts: Parts | None = None,
    asked: Asked | None = None,
    judged: int | None = None,
) -> RefitResult:
    """Fit on the parts' rows; take the new head unless it is worse on those held back.

    Args:
        layers: (N, 4 d) of the table's rows; those that no part names are not looked at.
        embedder: name of the embedder that made them.
        parts: default: of the whole table. judged: rows there were to choose from; the table's.
    """
    asked = asked or Asked()
    parts = parts or parts_of(table, calibrate=asked.calibrate, seed=asked.seed)
    kept, held = table.rows(parts.fitted), table.rows(parts.held)
    try:
        new = train(kept, layers[parts.fitted], seed=asked.seed, strengths=dict(asked.strengths))
    except ArtifactError as error:
        return RefitResult(False, error=str(error))
    score, old = float("nan"), None
    if len(held):
        score = brier_on(new, held, layers[parts.held])
        with contextlib.suppress(ArtifactError):
            # What certificates cannot use is no rival.
            if not is_unfit(read_about(path), asked):
                old = brier_on(load_head(path, embedder=embedder), held, layers[parts.held])
    better = old is None or np.isnan(old) or np.isnan(score) or score <= old + TOLERANCE
    if better:
        if path.exists():
            shutil.copy2(path, path.with_suffix(".previous"))
        save_head(
            path,
            new,
            embedder=embedder,
            data=data_hash(kept),
            facts={
                "held_back_brier": _finite(score),
                "judged": judged or judged_rows(table),
                "calibrate": asked.calibrate,
            },
            apart=set_apart(new, table, layers, parts) if asked.calibrate else None,
        )
    return RefitResult(bool(better), _finite(score), _finite(old), len(kept))


def is_unfit(about: Mapping[str, Any], asked: Asked) -> bool:
    """Whether a head of these facts saw the records that certificates rest on.

    One that was to be kept from them, and found none, did not.
    """
    kept = about.get("apart") or about.get("facts", {}).get("calibrate")
    return asked.calibrate and not kept


def set_apart(
    head: Trained, table: HistoryTable, layers: NDArray[np.float32], parts: Parts
) -> Apart:
    """What a head says of the calibration rows."""
    rows = table.rows(parts.apart)
    return Apart(rows.ids, head.machine(layers[parts.apart], rows.texts))


def judged_rows(table: HistoryTable) -> int:
    """Rows with text and a verdict: what a head can be fitted on, by which its age is told."""
    told = np.array([bool(text) for text in table.texts], dtype=bool)
    return int((told & (~np.isnan(table.correctness)).any(axis=1)).sum())


def _finite(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


class BackgroundRefit:
    """One re-fit of the head at `path` at a time, in a process of its own; blocks nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._lock: int | None = None
        sweep(path.parent)

    @property
    def running(self) -> bool:
        """Whether a re-fit is under way or its result has not been taken yet."""
        return self._process is not None

    def start(self, table: HistoryTable, asked: Asked | None = None) -> bool:
        """Begin a re-fit on the table; False if one is under way already.

        Raises:
            ArtifactError: the table cannot be written, or no process be started.
        """
        if self._process is not None:
            return False
        try:
            files.private_dir(self._path.parent)
            self._folder = Path(tempfile.mkdtemp(prefix="refit-", dir=self._path.parent))
            self._lock = _hold(self._folder)
            write_table(self._folder, table)
            wanted = json.dumps(asdict(asked or Asked()))
            (self._folder / "asked.json").write_text(wanted, encoding="utf-8")
            command = [sys.executable, "-m", "aios_eccos.forecast.head.refit", str(self._folder),
                       str(self._path)]  # fmt: skip
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **threads},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=() if self._lock is None else (self._lock,),
            )
        except OSError as error:
            self._clean()
            raise ArtifactError(f"the head cannot be fitted anew: {error}") from error
        return True

    def poll(self) -> RefitResult | None:
        """The result, once; None while it is not there."""
        if self._process is None or self._folder is None or self._process.poll() is None:
            return None
        try:
            raw = json.loads((self._folder / "result.json").read_text(encoding="utf-8"))
            result = RefitResult(**raw)
        except (OSError, ValueError, TypeError):
            result = RefitResult(False, error=f"its process ended with {self._process.returncode}")
        self._clean()
        return result

    def close(self) -> None:
        """End a re-fit that is under way."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._clean()

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._process = self._folder = self._lock = None


def sweep(state_dir: Path) -> None:
    """Delete what a killed kernel's re-fit left, texts among it; one under way holds its folder."""
    for folder in state_dir.glob("refit-*"):
        with contextlib.suppress(OSError):
            lock = _hold(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _hold(folder: Path) -> int | None:
    """Lock a folder, also for the processes that inherit the handle; None if another has it."""
    try:
        return files.lock(folder / "lock")
    except ImportError:  # Windows has no embedded history, and so no re-fit
        return None


def write_table(folder: Path, table: HistoryTable) -> None:
    """Put a table into a folder: arrays as npz, the rest as JSON."""
    np.savez(folder / "table.npz", **{name: getattr(table, name) for name in _ARRAYS})
    lists = {name: list(getattr(table, name)) for name in _LISTS}
    (folder / "table.json").write_text(json.dumps(lists), encoding="utf-8")


def read_table(folder: Path) -> HistoryTable:
    """The table of a folder."""
    lists = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    with np.load(folder / "table.npz", allow_pickle=False) as arrays:
        fields: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    return HistoryTable(**fields | {name: tuple(lists[name]) for name in _LISTS})


def main(arguments: list[str]) -> None:
    """The process: FOLDER HEAD. Writes `result.json` into the folder."""
    from aios_eccos.history.open import open_embedder

    if hasattr(os, "nice"):
        os.nice(NICE)
    folder, path = Path(arguments[0]), Path(arguments[1])
    try:
        asked = Asked(**json.loads((folder / "asked.json").read_text(encoding="utf-8")))
        table = read_table(folder)
        for part in folder.glob("table.*"):
            part.unlink()  # texts: a killed kernel must leave none
        parts = parts_of(table, calibrate=asked.calibrate, seed=asked.seed)
        # No cache of embeddings: `forget` could not take a live text's vector out of it.
        embedder = open_embedder(asked.embedder, None)
        known = judged_rows(table)
        table, parts = parts.only(table)
        _, layers = embedder.embed_with_layers(table.texts)
        result = refit(
            table, layers, path, embedder=embedder.name, parts=parts, asked=asked, judged=known
        )
    except EccosError as error:
        result = RefitResult(False, error=str(error))
    files.write(folder / "result.json", json.dumps(asdict(result)))


if __name__ == "__main__":
    main(sys.argv[1:])
