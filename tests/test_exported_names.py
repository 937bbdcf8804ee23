"""The package's own names: few, sorted, there, and free of charge until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aios_eccos


def test_the_names_are_few_and_sorted() -> None:
    assert len(aios_eccos.__all__) <= 20
    assert aios_eccos.__all__ == sorted(aios_eccos.__all__)


@pytest.mark.parametrize("name", aios_eccos.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(aios_eccos, name) is not None


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = aios_eccos.nothing_of_ours


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    code = "import sys, aios_eccos; print([m for m in sys.modules if m.startswith('aios_eccos.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
