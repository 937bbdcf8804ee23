"""What of a value is pinned, and how two values are told apart. Knows nothing of the plugin."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

#: Stands for a value that is there, but differs from run to run or from machine to machine.
ANY = "*"
#: An id that Redis gives: milliseconds since the epoch, and a number.
OF_TIME = re.compile(r"^\d{13}-\d+$")
#: Characters from which a file is packed; below, it can be read and its changes seen.
PACKED_FROM = 20_000


def blanked(value: Any, blank: Collection[str], key: str = "") -> Any:
    """The value with `ANY` below the keys of `blank`, for seconds (`*_s`), and for ids of time."""
    if key in blank or key.endswith("_s") or (isinstance(value, str) and OF_TIME.match(value)):
        return ANY
    if isinstance(value, dict):
        return {name: blanked(item, blank, name) for name, item in value.items()}
    if isinstance(value, list):
        return [blanked(item, blank) for item in value]
    return value


def tree(value: Any) -> Any:
    """The keys and types of a value. Of a list, one item that has all of its items' types."""
    if isinstance(value, dict):
        return {name: tree(item) for name, item in value.items()}
    if isinstance(value, list):
        merged: Any = []
        for item in value:
            merged = [_merged(merged[0], tree(item))] if merged else [tree(item)]
        return merged
    if value is None or isinstance(value, bool | str):
        return {type(None): "null", bool: "bool", str: "str"}[type(value)]
    return "number"


def _merged(one: Any, other: Any) -> Any:
    """A tree that has what two have; kinds that differ are named side by side."""
    if one == other:
        return one
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return {
            key: _merged(one[key], other[key])
            if key in one and key in other
            else one.get(key, other.get(key))
            for key in keys
        }
    if isinstance(one, list) and isinstance(other, list):
        return [_merged(one[0], other[0])] if one and other else one or other
    if isinstance(one, str) and isinstance(other, str):
        return "|".join(sorted({*one.split("|"), *other.split("|")}))
    # A list or an object beside a plain value (null, mostly): what it holds says more.
    return other if isinstance(one, str) else one


def rounded(value: float | None, digits: int = 9) -> float | str | None:
    """A number to some significant digits; as a word where JSON has none for it."""
    if value is None or not math.isfinite(value):
        return None if value is None else str(value)
    return float(f"{value:.{digits}g}")


def differences(
    stored: Any, found: Any, relative: float, absolute: float, where: str = ""
) -> list[str]:
    """Every place where `found` is not what was stored, in words."""
    if stored == ANY and found == ANY:
        return []
    if isinstance(stored, dict) and isinstance(found, dict):
        said = []
        for key in dict.fromkeys([*stored, *found]):
            at = f"{where}.{key}"
            if key not in found:
                said.append(f"{at}: is gone, was {_short(stored[key])}")
            elif key not in stored:
                said.append(f"{at}: is new, {_short(found[key])}")
            else:
                said += differences(stored[key], found[key], relative, absolute, at)
        return said
    if isinstance(stored, list) and isinstance(found, list):
        said = []
        if len(stored) != len(found):
            said.append(f"{where}: {len(found)} items, were {len(stored)}")
        for number, (one, other) in enumerate(zip(stored, found, strict=False)):
            said += differences(one, other, relative, absolute, f"{where}[{number}]")
        return said
    if _number(stored) and _number(found):
        same = math.isclose(stored, found, rel_tol=relative, abs_tol=absolute)
    else:
        same = type(stored) is type(found) and stored == found
    return [] if same else [f"{where}: {_short(found)}, was {_short(stored)}"]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."


def place(folder: Path, name: str) -> Path:
    """The file of a recipe, as it was stored."""
    plain = folder / f"{name}.json"
    return plain if plain.exists() else folder / f"{name}.json.gz"


def load(folder: Path, name: str) -> Any:
    """What was stored of a recipe."""
    raw = place(folder, name).read_bytes()
    return json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)


def store(folder: Path, name: str, value: Any) -> Path:
    """Store a recipe's value: readable if it is small, else packed, the same bytes each time."""
    for suffix in (".json", ".json.gz"):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)
    plain = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if len(plain) < PACKED_FROM:
        path = folder / f"{name}.json"
        path.write_text(plain, encoding="utf-8")
        return path
    path = folder / f"{name}.json.gz"
    dense = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(dense.encode(), 9, mtime=0))
    return path
