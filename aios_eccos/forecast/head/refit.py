"""Fitting the head anew while calls are served: in a niced process, taken only if not worse.

That process embeds the texts, fits, compares on rows that no head is fitted on (`parts`), and puts
the new head in place of the old one, which is kept beside it, only where it is not worse there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos import files
from aios_eccos.errors import ArtifactError, EccosError
from aios_eccos.forecast.head.artifact import Apart, data_hash, load_head, read_about, save_head
from aios_eccos.forecast.head.fit import bounded, sigmoid
from aios_eccos.forecast.head.train import Trained, train, usable
from aios_eccos.forecast.parts import Parts, parts_of
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.records import HistoryTable

#: How much worse (mean Brier) a new head may be: less than rows held back can tell.
TOLERANCE = 0.001
#: Lowest priority: a re-fit must not take time from calls.
NICE = 19

_ARRAYS = ("embeddings", "input_tokens", "correctness", "output_tokens", "answers", "created")
_LISTS = ("ids", "models", "tasks", "splits", "texts", "sources")


@dataclass(frozen=True, slots=True)
class RefitResult:
    """Whether the new head is in place, or why there is none.

    Of `records` rows fitted on; `new` and `old` are the heads' Brier on the rows held back.
    """

    taken: bool
    new: float | None = None
    old: float | None = None
    records: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How a re-fit is made.

    Attributes:
        embedder: its setting.
        calibrate: whether calibration rows are set apart (`parts`).
        strengths: declared success of models.
    """

    embedder: str | None = None
    calibrate: bool = False
    strengths: Mapping[str, float] = field(default_factory=dict)


def brier_on(head: Trained, table: HistoryTable, layers: NDArray[np.float32]) -> float:
    """Mean Brier of a head alone on a table, over the models that it knows."""
    m = len(head.models)
    odds = head.machine(layers, table.texts).astype(float)[:, :m]
    both = [name for name in head.models if name in table.models]
    p = sigmoid(bounded(odds))[:, [head.models.index(name) for name in both]]
    y = table.correctness[:, [table.models.index(name) for name in both]]
    seen = ~np.isnan(y)
    return float(((p - y)[seen] ** 2).mean()) if seen.any() else float("nan")


def refit(table: HistoryTable, path: Path, embedder: Embedder, asked: Asked) -> RefitResult:
    """Fit on some rows; take the new head unless it is worse on those held back (`parts`)."""
    judged, compared = judged_rows(table), compared_rows(table)
    parts = parts_of(table, calibrate=asked.calibrate)
    table, parts = parts.only(table)
    _, layers = embedder.embed_with_layers(table.texts)
    kept, held = table.rows(parts.fitted), table.rows(parts.held)
    try:
        new = train(kept, layers[parts.fitted], strengths=dict(asked.strengths))
    except ArtifactError as error:
        return RefitResult(False, error=str(error))
    score, old = float("nan"), None
    if len(held):
        score = brier_on(new, held, layers[parts.held])
        with contextlib.suppress(ArtifactError):
            # What certificates cannot use is no rival.
            if not is_unfit(read_about(path), asked):
                old = brier_on(load_head(path, embedder=embedder.name), held, layers[parts.held])
    better = old is None or np.isnan(old) or np.isnan(score) or score <= old + TOLERANCE
    if better:
        if path.exists():
            shutil.copy2(path, path.with_suffix(".previous"))
        save_head(
            path,
            new,
            embedder=embedder.name,
            data=data_hash(kept),
            facts={
                "held_back_brier": _finite(score),
                "judged": judged,
                "compared": compared,
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
    """How many rows a head can be fitted on, by which its age is told."""
    return int(usable(table).sum())


def compared_rows(table: HistoryTable) -> int:
    """How many of them hold final answers to compare, which plans are forecast from."""
    return int((usable(table) & ((table.answers != 0).sum(axis=1) > 1)).sum())


def _finite(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


class BackgroundRefit:
    """One re-fit of the head at `path` at a time, in a process of its own; blocks nobody.

    Table and result lie in files without a name, which end with the processes that hold them: of
    the texts, a killed kernel leaves nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None

    @property
    def running(self) -> bool:
        """Whether a re-fit is under way or its result has not been taken yet."""
        return self._running is not None

    def start(self, table: HistoryTable, asked: Asked | None = None) -> bool:
        """Begin a re-fit on the table; False if one is under way already.

        Raises:
            ArtifactError: the table cannot be written, or no process be started.
        """
        if self._running is not None:
            return False
        with contextlib.ExitStack() as undo:
            try:
                folder = files.private_dir(self._path.parent)
                result = undo.enter_context(tempfile.TemporaryFile(dir=folder))
                with tempfile.TemporaryFile(dir=folder) as given:
                    write_task(given, table, asked or Asked())
                    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
                    process = subprocess.Popen(
                        [sys.executable, "-m", "aios_eccos.forecast.head.refit", str(self._path)],
                        env={**os.environ, **threads},
                        stdin=given,
                        stdout=result,
                        stderr=subprocess.DEVNULL,
                    )
            except OSError as error:
                raise ArtifactError(f"the head cannot be fitted anew: {error}") from error
            undo.pop_all()
        self._running = process, result
        return True

    def poll(self) -> RefitResult | None:
        """The result, once; None while it is not there."""
        if self._running is None or self._running[0].poll() is None:
            return None
        (process, result), self._running = self._running, None
        with result:
            result.seek(0)
            try:
                return RefitResult(**json.loads(result.read().splitlines()[-1]))
            except (ValueError, TypeError, IndexError):
                return RefitResult(False, error=f"its process ended with {process.returncode}")

    def close(self) -> None:
        """End a re-fit that is under way."""
        if self._running is not None:
            self._running[0].terminate()
            self._running[0].wait()
            self.poll()


def write_task(file: IO[bytes], table: HistoryTable, asked: Asked) -> None:
    """Fill an empty file with npz: a table and what is asked, all but the arrays as JSON."""
    rest = {name: list(getattr(table, name)) for name in _LISTS}
    raw = json.dumps({"lists": rest, "asked": asdict(asked)}).encode()
    arrays = {name: getattr(table, name) for name in _ARRAYS}
    np.savez(file, rest=np.frombuffer(raw, dtype=np.uint8), **arrays)
    file.seek(0)


def read_task(file: IO[bytes]) -> tuple[HistoryTable, Asked]:
    """Inverse of `write_task`."""
    with np.load(file, allow_pickle=False) as arrays:
        fields: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        rest = json.loads(arrays["rest"].tobytes())
    fields |= {name: tuple(values) for name, values in rest["lists"].items()}
    return HistoryTable(**fields), Asked(**rest["asked"])


def carry_out(file: IO[bytes], path: Path) -> RefitResult:
    """What the process does with its task: a re-fit of the head at `path`."""
    from aios_eccos.history.open import open_embedder

    try:
        table, asked = read_task(file)
        # No cache of embeddings: `forget` could not take a live text's vector out of it.
        return refit(table, path, open_embedder(asked.embedder, None), asked)
    except EccosError as error:
        return RefitResult(False, error=str(error))


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(NICE)
    sys.stdout.write(json.dumps(asdict(carry_out(sys.stdin.buffer, Path(sys.argv[1])))))
