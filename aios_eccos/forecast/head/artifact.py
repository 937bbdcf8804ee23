"""A fitted head on disk: one safetensors file, its facts as JSON inside it. Never pickle.

What it was made with (embedder, models, features, format) is checked at loading, and damage is
found by a hash of the arrays, so that a head never forecasts for something it was not fitted on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos import __version__, files
from aios_eccos.errors import ArtifactError, other_format
from aios_eccos.forecast.head import features
from aios_eccos.forecast.head.features import Floats, Machine, Rows, Whitening
from aios_eccos.forecast.head.fit import Mixer
from aios_eccos.forecast.head.train import Replay, Trained
from aios_eccos.records import HistoryTable

#: Name of the head's file in the state folder.
FILE_NAME = "head.safetensors"
#: Layout of the file; another one is refused.
FORMAT = 2
#: Arrays that lose nothing measurable by half precision, and are most of the file.
_HALF = ("machine.word_weights",)

_RETRAIN = "run `aios-eccos train` to make it anew; until then neighbors decide"


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


#: The parts of a `Trained` in the file: where each lies in it, and its arrays.
_PARTS = {
    "whitening": ("machine.whitening", _fields(Whitening)),
    "machine": ("machine", ("weights", "word_weights", "offset")),
    "marks": ("machine.marks", ("layers", "counts")),
    "mixer": ("mixer", _fields(Mixer)),
    "replay": ("replay", _fields(Replay)),
}


@dataclass(frozen=True, slots=True)
class Apart:
    """What a head says of records that it was not fitted on: certificates rest on them.

    Attributes:
        ids: n record ids; outputs: (n, 2 m) of the head's machine.
    """

    ids: tuple[str, ...]
    outputs: Floats


def data_hash(table: HistoryTable) -> str:
    """16 hex digits that change with any row, outcome, length or final answer of the table."""
    digest = hashlib.sha256("\n".join((*table.models, *table.ids)).encode())
    for values in (table.correctness, table.output_tokens, table.input_tokens, table.answers):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def save_head(
    path: Path,
    head: Trained,
    *,
    embedder: str,
    data: str,
    facts: Mapping[str, Any] | None = None,
    apart: Apart | None = None,
) -> int:
    """Write the head, atomically; returns the file's size in bytes.

    Args:
        embedder: name of the embedder whose layers it was fitted on.
        data: `data_hash` of the table it was fitted on.
        facts: further JSON (the report on `val`, say), to be shown by others.
        apart: where floors are certified, what it says of the calibration records.
    """
    from safetensors.numpy import save

    arrays = {
        f"{part}.{name}": np.ascontiguousarray(getattr(attrgetter(place)(head), name))
        for part, (place, names) in _PARTS.items()
        for name in names
    }
    arrays |= {name: arrays[name].astype(np.float16) for name in _HALF}
    if apart is not None:
        arrays["apart.outputs"] = np.ascontiguousarray(apart.outputs, dtype=np.float32)
    about = {
        "format": FORMAT,
        "features": features.VERSION,
        "version": __version__,
        "embedder": embedder,
        "models": list(head.models),
        "data": data,
        "arrays": _hash(arrays),
        "facts": dict(facts or {}),
        "apart": list(apart.ids) if apart is not None else [],
    }
    raw = save(arrays, metadata={"eccos": json.dumps(about)})
    try:
        files.private_dir(path.parent)
        files.write(path, raw, synced=True)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    return len(raw)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a file may raise that is missing or damaged into `ArtifactError`."""
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no trained head; {_RETRAIN}") from error
    except (OSError, LookupError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {_RETRAIN}") from error


def read_about(path: Path) -> dict[str, Any]:
    """The facts of a head's file, without its arrays."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """A head's facts, and its file: read once, as another process may replace it meanwhile."""
    with _reading(path):
        raw = path.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        about = json.loads(header["__metadata__"]["eccos"])
        if not isinstance(about, dict):
            raise ValueError("its facts are no mapping")
    return about, raw


def load_head(path: Path, *, embedder: str, models: tuple[str, ...] | None = None) -> Trained:
    """Read a head back; `ArtifactError` where it was made with something else than is in use.

    Args:
        embedder: name of the embedder in use.
        models: names in use; the head must know at least one of them.
    """
    from safetensors.numpy import load

    about, raw = _read(path)
    wanted = {"format": FORMAT, "features": features.VERSION, "embedder": embedder}
    for key, value in wanted.items():
        if key == "format" and about.get(key) != value:
            raise ArtifactError(other_format(str(path), about.get(key), value, _RETRAIN))
        if about.get(key) != value:
            raise ArtifactError(
                f"{path} was made with {key} {about.get(key)!r}, in use is {value!r}; {_RETRAIN}"
            )
    names = tuple(str(name) for name in about.get("models", ()))
    if models is not None and not set(names) & set(models):
        raise ArtifactError(f"{path} knows none of the models in use; {_RETRAIN}")
    with _reading(path):
        arrays = load(raw)
        if _hash(arrays) != about["arrays"]:
            raise ValueError("its hash differs")
        arrays |= {name: arrays[name].astype(np.float32) for name in _HALF}
        part = {
            part: {name: arrays[f"{part}.{name}"] for name in names}
            for part, (_, names) in _PARTS.items()
        }
        whitening, marks = Whitening(**part["whitening"]), Rows(**part["marks"])
        return Trained(
            models=names,
            machine=Machine(whitening, marks, **part["machine"]),
            mixer=Mixer(**part["mixer"]),
            replay=Replay(**part["replay"]),
            version=about["arrays"][:8],
        )


def load_apart(path: Path, version: str = "") -> Apart | None:
    """What the head says of calibration records; None where it was fitted on all records.

    Args:
        version: of the head that is meant; an `ArtifactError` where another one lies there by now.
    """
    from safetensors.numpy import load

    about, raw = _read(path)
    if version and version != str(about.get("arrays"))[:8]:
        raise ArtifactError(f"{path} was replaced while it was read")
    ids = tuple(str(name) for name in about.get("apart", ()))
    if not ids:
        return None
    with _reading(path):
        outputs = load(raw)["apart.outputs"]
        if len(outputs) != len(ids):
            raise ValueError("calibration rows are missing")
    return Apart(ids, outputs)


def _hash(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()[:16]
