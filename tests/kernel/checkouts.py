"""Checkouts of the stand-in for AIOS, to be switched on and off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aios_eccos.kernel.setup import install, interpreter

STANDIN = Path(__file__).with_name("standin")


def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> Path:
    """A checkout in a folder, with a state folder and an interpreter that can run AIOS."""
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(folder / "state"))
    site = folder / "site"
    site.mkdir()
    found = {"version": [3, 11], "site": str(site), "lacks": [], "plugin": "here"}
    monkeypatch.setattr(interpreter, "probe", lambda python: found)
    monkeypatch.setattr(install.contract, "sdk_homes", list)
    target = folder / "AIOS"
    shutil.copytree(STANDIN, target)
    (target / "aios/config/config.yaml").write_bytes(config.encode())
    return target
