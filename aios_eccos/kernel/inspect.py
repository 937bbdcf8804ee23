"""What `doctor` says about AIOS, the installation and a living kernel."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aios_eccos.errors import EccosError
from aios_eccos.locate import Config
from aios_eccos.manifest import manifest

from . import client, contract, install, interpreter

#: Seconds that a model's endpoint may take to accept a connection.
REACH_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`.

    Attributes:
        ok: None = could not be looked at, which is no fault.
        detail: what was found; for a fault, what to do.
    """

    name: str
    ok: bool | None
    detail: str


def check_aios(config: Config, reach: bool = False) -> Iterator[Check]:
    """The checkout, the hook, the SDK, the living kernel and, if `reach`, the models' endpoints."""
    home = config.location.aios_home
    if home is None:
        yield Check("AIOS", False, "no checkout is named; use --aios-home DIR or $AIOS_HOME")
        return
    moved = contract.check(home)
    points = f"{len(contract.POINTS)} points, contract {manifest().aios.contract}"
    yield Check("contract", not moved, "; ".join(moved) or f"{home} is as expected ({points})")
    on = config.strategy == manifest().aios.strategy
    yield Check(
        "strategy",
        on,
        f"llms.router.strategy: {config.strategy or 'not set'}"
        + ("" if on else "; switch on with `aios-eccos enable`"),
    )
    yield from _check_hook(home)
    yield _check_sdk()
    yield from _check_kernel(config)
    if reach:
        yield from _check_models(config)


def _check_hook(home: Path) -> Iterator[Check]:
    note = install.note_of(home)
    if note is None:
        yield Check("hook", False, "not enabled here; `aios-eccos enable` writes it")
        return
    present = Path(note.hook).is_file()
    yield Check("hook", present, note.hook if present else f"{note.hook} is gone; enable again")
    try:
        interpreter.probe(note.python)
        yield Check("interpreter", True, note.python)
    except EccosError as error:
        yield Check("interpreter", False, str(error))


def _check_sdk() -> Check:
    """The two generations carry one version number; their modules tell them apart."""
    spec = importlib.util.find_spec("cerebrum")
    places = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    if any((place / "llm/apis.py").is_file() for place in places):
        return Check("SDK", True, "cerebrum.llm.apis (git)")
    if any((place / "llm/communication.py").is_file() for place in places):
        return Check(
            "SDK", None, "PyPI generation (cerebrum.llm.communication): chat and operate_file only"
        )
    return Check("SDK", None, f"{sys.executable} has no cerebrum")


def _check_kernel(config: Config) -> Iterator[Check]:
    try:
        living: dict[str, Any] | None = client.get(config, "/eccos/kernel")
    except EccosError as error:
        yield Check("kernel", False, str(error))
        return
    if living is None:
        yield Check("kernel", None, f"none with the plugin answers at {client.url_of(config)}")
        return
    yield Check("kernel", True, f"{client.url_of(config)}, mode {living['mode']}")
    for seam, ok in living["seams"].items():
        yield Check(f"kernel: {seam}", ok, "the plugin's" if ok else "not the plugin's: restart it")
    lost = sorted({entry.name for entry in config.entries} - set(living["models"]))
    detail = f"AIOS could not set up {', '.join(lost)}; its log says why" if lost else "all set up"
    yield Check("kernel: models", not lost, detail)


def _check_models(config: Config) -> Iterator[Check]:
    import socket

    for entry in config.entries:
        if not entry.hostname:
            continue
        parts = urlsplit(entry.hostname)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), REACH_S).close()
            yield Check(f"model {entry.name}", True, entry.hostname)
        except OSError as error:
            yield Check(f"model {entry.name}", False, f"{entry.hostname} does not answer: {error}")
